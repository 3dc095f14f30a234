/** What each back end gives: one SSH connection at a time. */
import type { Duplex } from 'node:stream'
import type { HostPort } from '../base/host-port.js'
import type { ForwardedConnection, TunnelBackendName } from './contract.js'

/** One authenticated connection to the server. */
export interface TunnelLink {
  /** As negotiated, read from the connection. */
  readonly keyExchange: string
  readonly postQuantum: boolean
  /** The server's identification, `OpenSSH_9.2p1 Debian-2` for example. */
  readonly serverVersion: string
  /** IP address that the connection goes to. */
  readonly address: string
  /** All addresses that the server's name had. */
  readonly resolved: readonly string[]
  /** Resolves, never rejects, with the one reason once the connection is gone. */
  readonly closed: Promise<string>
  /** Asks for a listener; resolves with it (the port where 0 was asked). Rejects with E_FORWARD_REFUSED, E_DEADLINE, E_CONNECT. */
  listen(bind: HostPort): Promise<HostPort>
  /** Gives the listener back. Never rejects. */
  unlisten(): Promise<void>
  /**
   * Opens a connection from the server's side. Rejects with E_CONNECT, whose `details.dial` tells a target that
   * refuses (`refused`), a server that does not permit it (`prohibited`) and the rest (`failed`) apart; E_DEADLINE;
   * E_CANCELLED.
   */
  dial(target: HostPort, signal: AbortSignal): Promise<Duplex>
  /** Connections that it carries at present, both ways. */
  openConnections(): number
  /** Runs a command on the server and resolves with its output; undefined where the server permits none. */
  exec(command: string, timeoutMs: number): Promise<string | undefined>
  /** Asks the server for any answer; false where none came in time. */
  ping(timeoutMs: number): Promise<boolean>
  /** Closes politely within `timeoutMs`, then not politely. */
  end(timeoutMs: number): Promise<void>
  /** Closes at once. */
  destroy(reason: string): void
}

export interface LinkTaker {
  /** False: nobody takes connections, so none is accepted. */
  accepts(): boolean
  take(connection: ForwardedConnection): void
}

export interface TunnelBackend {
  readonly name: TunnelBackendName
  /** True where forwarded connections come with their originator. */
  readonly knowsOriginators: boolean
  /** Of an automatic choice: why it is this one, and what it has to do without; undefined while there is none. */
  readonly choice?: { readonly why: string; readonly lacks: string | undefined } | undefined
  /** Of an automatic choice: it is made anew with the next connection. */
  reconsider?(): void
  /** Of an automatic choice: what it chose last. */
  readonly chosen?: TunnelBackend
  /** Connects and logs in. Rejects with a GatewayError; nothing is left behind then. */
  connect(taker: LinkTaker, signal: AbortSignal): Promise<TunnelLink>
}
