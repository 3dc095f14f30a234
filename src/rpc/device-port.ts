/**
 * What the gRPC services of a device need from whoever runs the session (src/link). Plain values in and out: handlers
 * check and translate, the port decides.
 */
import type { ReadonlyCell } from '../base/cell.js'

/** Who is at the far end of a call. */
export interface Originator {
  /** IP address as the tunnel's server or the local socket reports it; 'unknown' where it is hidden (`ssh -R`). */
  readonly address: string
  readonly port: number
  /** 'tunnel': through the reverse tunnel; 'local': a connection to the local port; 'hidden': forwarded by a back end that hides originators. */
  readonly via: 'tunnel' | 'local' | 'hidden'
  /** Subject of a verified client certificate, if one was shown. */
  readonly certificate?: string
}

export interface CallContext {
  readonly originator: Originator
  /** Aborts when the caller hangs up or its deadline passes. */
  readonly signal: AbortSignal
  /** Request metadata, lower-case names; binary (`-bin`) values as base64. */
  readonly metadata: ReadonlyMap<string, string>
  /** Adds trailing metadata to the answer. */
  setTrailer(name: string, value: string): void
}

/** An open WaitForSession: the way of keys to the SiteAgent. */
export interface KeyStream {
  readonly originator: Originator
  /** Aborts as soon as the SiteAgent cancelled, hung up or its connection ended. */
  readonly signal: AbortSignal
  /**
   * Sends one RawKeys message (at most 10,000 keys and below 4 MiB, checked). Resolves 'sent' once the transport took
   * it (which does not mean that the SiteAgent did), 'ended' if the stream ended first. Never rejects.
   */
  send(keys: readonly Uint8Array[]): Promise<'sent' | 'ended'>
  /** False while the transport takes nothing more: the SiteAgent does not read. */
  readonly writable: boolean
  /** Ends the stream with a gRPC status code; idempotent. */
  end(code: number, message: string): void
}

/** Session parameters that travel on; numbers of any size are kept exact. */
export interface SessionParameters {
  readonly lineAttenuationDb: number
  readonly photonsPerBurst: bigint
  readonly repetitionRateHz: number
  readonly initialKeyId: bigint
  readonly parameters: ReadonlyMap<string, string>
}

/** cqp.remote.LinkStatus as this device shows it; Ready is never used. */
export interface LinkStatusValue {
  readonly state: 'inactive' | 'listening' | 'connected' | 'sessionStarted'
  /** gRPC status code of the last failure; 0 where there is none. */
  readonly errorCode: number
}

/**
 * The session side of a device. Every method answers within 3 s and never waits for key, for WaitForSession or for our
 * own registration. Rejections are `RpcError`s with a status that names the field and the reason.
 */
export interface DevicePort {
  /** Takes the stream over and returns at once. `initialKey` belongs to the port, which wipes it. */
  waitForSession(initialKey: Uint8Array, stream: KeyStream): void
  runSession(parameters: SessionParameters, peerAddress: string, call: CallContext): Promise<void>
  endSession(call: CallContext): Promise<void>
  sessionStarting(parameters: SessionParameters, initiatorAddress: string, call: CallContext): Promise<void>
  sessionEnding(call: CallContext): Promise<void>
  readonly linkStatus: ReadonlyCell<LinkStatusValue>
}
