/** The device at the other end of the link, as the session layer calls it. */
import type { SessionParameters } from '../rpc/device-port.js'
import type { ChannelListener, LinkChannel } from './channel.js'

/** Names of the metadata by which two gateways know each other; a C++ device ignores them. */
export const METADATA = {
  version: 'qkd-gw-link',
  kind: 'qkd-gw-kind',
  keyBytes: 'qkd-gw-key-bytes',
  /** In the request of SessionStarting: the same for all tries of one session. */
  attempt: 'qkd-gw-attempt',
  /** In the trailers of its answer, and in every later call of the session. */
  session: 'qkd-gw-session',
} as const

export interface SessionStartingCall {
  readonly parameters: SessionParameters
  /** host:port at which this gateway serves, as the peer reaches it. */
  readonly initiatorAddress: string
  readonly metadata: ReadonlyMap<string, string>
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

export interface PeerConnection {
  /** Resolves with the trailing metadata; rejects with an `RpcError`. */
  sessionStarting(call: SessionStartingCall): Promise<ReadonlyMap<string, string>>
  sessionEnding(metadata: ReadonlyMap<string, string>, timeoutMs: number): Promise<void>
  /** Opens the link service; `attach` takes the channel over. */
  openLink(metadata: ReadonlyMap<string, string>, attach: (channel: LinkChannel) => ChannelListener): void
  close(): void
}

export interface PeerConnector {
  /** Throws E_USAGE for an address that is none; connects at the first call. */
  connect(address: string): Promise<PeerConnection>
}
