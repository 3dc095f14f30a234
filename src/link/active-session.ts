/** One session as the session layer keeps it, and how two gateways know each other in its calls. */
import { status as Status } from '@grpc/grpc-js'
import { messageOf } from '../base/errors.js'
import { formatHostPort, parseHostPort } from '../base/host-port.js'
import { rpcError } from '../rpc/bridge.js'
import type { Originator, SessionParameters } from '../rpc/device-port.js'
import type { Greeting } from './messages.js'
import { METADATA, type PeerConnection } from './peer.js'
import { equalBytes } from './verification.js'

/** From RunSession or SessionStarting to the end of the session. */
export interface ActiveSession {
  readonly role: 'left' | 'right'
  /** host:port, one spelling. */
  readonly peerAddress: string
  readonly parameters: SessionParameters
  /** The same for all tries of one session. */
  readonly attempt: string
  /** Monotonic ms. */
  readonly begunMs: number
  /** Ends everything that belongs to the session. */
  readonly ended: AbortController
  originator: Originator | undefined
  connection: PeerConnection | undefined
  token: string | undefined
  /** The peer is a gateway. */
  ours: boolean
  /** When RunSession came once more for it, monotonic ms. */
  askedAgainMs: number | undefined
  prepared: boolean
  started: boolean
  /** The answer to RunSession: the outcome of the try that is under way. */
  trying: Promise<void> | undefined
}

export function createActiveSession(
  given: Pick<ActiveSession, 'role' | 'peerAddress' | 'parameters' | 'attempt' | 'begunMs'>,
): ActiveSession {
  return {
    ...given,
    ended: new AbortController(),
    originator: undefined,
    connection: undefined,
    token: undefined,
    ours: false,
    askedAgainMs: undefined,
    prepared: false,
    started: false,
    trying: undefined,
  }
}

/** Whether a call carries the session's own token; compared in constant time. */
export function hasToken(active: ActiveSession, metadata: ReadonlyMap<string, string>): boolean {
  const token = metadata.get(METADATA.session)
  if (token === undefined || active.token === undefined) return false
  return equalBytes(Buffer.from(token), Buffer.from(active.token))
}

/** What goes with every later call of the session. */
export function tokenMetadata({ token }: ActiveSession): ReadonlyMap<string, string> {
  return new Map(token === undefined ? [] : [[METADATA.session, token] as const])
}

/** How a gateway shows itself in SessionStarting and in its answer. */
export function greetingMetadata(greeting: Greeting): readonly (readonly [string, string])[] {
  return [
    [METADATA.version, String(greeting.version)],
    [METADATA.kind, greeting.kind],
    [METADATA.keyBytes, String(greeting.keyBytes)],
  ]
}

/** Undefined where the other end is no gateway. */
export function greetingOf(metadata: ReadonlyMap<string, string>): Greeting | undefined {
  const version = metadata.get(METADATA.version)
  if (version === undefined) return undefined
  return {
    version: Number(version),
    kind: metadata.get(METADATA.kind) ?? '',
    keyBytes: Number(metadata.get(METADATA.keyBytes)),
  }
}

/** One spelling for every way to write an address. Throws INVALID_ARGUMENT, naming the field. */
export function normalised(address: string, field: string): string {
  try {
    return formatHostPort(parseHostPort(address, field))
  } catch (error) {
    throw rpcError(Status.INVALID_ARGUMENT, messageOf(error))
  }
}

/** For work that is bounded and whose failure was logged where it happened. */
export async function quietly(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch {
    // See above.
  }
}
