/** The reverse tunnel as the gateway sees it; back ends (ssh2, openssh, openssh+ssh2) live behind `TunnelBackend`. */
import type { Duplex } from 'node:stream'
import type { ReadonlyCell, Unsubscribe } from '../base/cell.js'
import type { HostPort } from '../base/host-port.js'

export type TunnelBackendName = 'ssh2' | 'openssh' | 'openssh+ssh2'

export type TunnelState =
  | { state: 'connecting'; attempt: number; reason: string }
  /** Logged in; the listener is asked for. `reason` says what it waits for, where it waits. */
  | { state: 'authenticated'; server: HostPort; address: string; reason?: string; remedy?: string }
  /** The server granted the listener; nobody has met us there yet. */
  | { state: 'listening'; listener: HostPort; controlAddress: HostPort; reason: string; remedy?: string }
  /** A call with a nonce to the control address came back to this process within the last interval. */
  | {
      state: 'proven'
      listener: HostPort
      controlAddress: HostPort
      /** `ssh`: from the server's side only; see `warnings()` for what that does not prove. */
      via: 'here' | 'ssh'
      provenAtMs: number
      roundTripMs: number
    }
  /** Was proven; the last probe failed. */
  | { state: 'degraded'; listener: HostPort; controlAddress: HostPort; reason: string; remedy?: string }
  | { state: 'down'; reason: string; remedy?: string; retryInMs: number }
  /** No retry until key, configuration or an operator changes something. */
  | { state: 'needs-attention'; reason: string; remedy: string }
  | { state: 'stopped' }

/** One connection that reached the listener. */
export interface ForwardedConnection {
  /** Carries `remoteAddress`, `remotePort`, `localAddress`, `localPort` as a socket does, where they are known. */
  readonly stream: Duplex
  /** Undefined where the back end hides it. */
  readonly originator: HostPort | undefined
}

/**
 * Sends an Echo with a fresh nonce to `target` over `stream` (or over a connection of its own where there is none) and
 * says whether it came back to this process. The gateway passes rpc's implementation in.
 */
export type ProbeSelf = (request: {
  target: HostPort
  stream?: Duplex
  /** Bytes of padding each way, to find MTU holes; 0 for the ordinary probe. */
  paddingBytes: number
  timeoutMs: number
  signal: AbortSignal
}) => Promise<
  | {
      result: 'ourselves'
      roundTripMs: number
      /** The address that the call came in from, where the server side of the probe can tell it. */
      originator?: HostPort
    }
  | { result: 'stranger' | 'unreachable'; reason: string }
>

export interface Tunnel {
  readonly state: ReadonlyCell<TunnelState>
  readonly backend: TunnelBackendName
  /** Key exchange in use, as read from the connection; undefined while there is none. */
  readonly keyExchange: string | undefined
  /** Addresses that are the tunnel's own host: as dialled, as resolved, and as seen (loopback included). */
  hostAddresses(): readonly string[]
  /** Sentences about unsafe choices and doubts. */
  warnings(): readonly string[]
  facts(): Readonly<Record<string, string | number | boolean>>
  onConnection(listener: (connection: ForwardedConnection) => void): Unsubscribe
  /** Opens a TCP connection from the server's side (direct-tcpip). */
  dial(target: HostPort, signal: AbortSignal): Promise<Duplex>
  /** Connects, keeps up and proves, for ever; resolves when `signal` aborts and the listener was given back. Rejects only with what has an exit code. */
  run(signal: AbortSignal): Promise<void>
  /** Tries again now (an operator's wish, a changed key or file). */
  kick(): void
}
