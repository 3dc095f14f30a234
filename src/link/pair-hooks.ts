/** What a device whose keys arise by calls between the two ends is told of a session, and how its keys go out. */
import type { SessionParameters } from '../rpc/device-port.js'

export interface PairSessionInfo {
  readonly role: 'left' | 'right'
  /** host:port of the peer's control address. */
  readonly peerAddress: string
  readonly parameters: SessionParameters
  /** To be sent with every call to a peer that is a gateway too; empty for others. */
  metadata(): ReadonlyMap<string, string>
  /**
   * The initial key of the WaitForSession that belongs to the session, empty where the site gave none; it may come
   * before or after. The receiver wipes it. Rejects when `signal` aborts.
   */
  initialKey(signal: AbortSignal): Promise<Uint8Array>
  /** The session cannot go on: ends it at both sites and shows why. The first call counts. */
  fail(error: Error): void
}

/** One session at a time: prepare → start → quiesce → end, and `end` from anywhere. None waits longer than 3 s. */
export interface PairHooks {
  /** Before the peer is told. A rejection is answered with FAILED_PRECONDITION. */
  prepare(session: PairSessionInfo): Promise<void>
  /**
   * Both ends agreed. `byId`: the peer is a gateway, keys go to `offerKey` with ids that both sides count alike.
   * `byArrival`: the peer is not ours, keys go to `deliverUnagreed` in the order in which they arise.
   */
  start(ordering: 'byId' | 'byArrival'): void
  quiesce(): Promise<void>
  end(): Promise<void>
}

/** For devices that yield keys without a word to the other end. */
export const noPairHooks: PairHooks = {
  prepare: () => Promise.resolve(),
  start() {},
  quiesce: () => Promise.resolve(),
  end: () => Promise.resolve(),
}
