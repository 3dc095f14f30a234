/**
 * Devices that make their keys by calls between the two of them (`yields: 'pair'`), without a word about gRPC. Whoever
 * composes the gateway carries the calls over; each method stands for one on the wire, its values for that message:
 *
 *   startDetecting   IDetector.StartDetecting    time 0n is the absent timestamp
 *   stopDetecting    IDetector.StopDetecting     the same
 *   onPhoton         IPhotonSim.OnPhoton         FakeDetection: periodPicoseconds, values.qubits (one byte a qubit)
 *   verifyBases      ISift.VerifyBases           BasisBySiftFrame, frames ascending. Only dense lists have a meaning:
 *                                                entry k is index k from 0; others are INVALID_ARGUMENT before they
 *                                                come here. AnswersByFrame: answers as 0 or 1, intensity left empty
 *   useKeyIds        IIDQWrapper.UseKeyID        client stream of KeyIdValueList
 *
 * A `PairCallError` travels as the gRPC status of the same name, with its message as the text. Any other rejection of a
 * service is INTERNAL. A method that `PairServices` lacks is UNIMPLEMENTED.
 */
import type { Device } from './contract.js'

/** gRPC status codes that two devices may show each other. */
export type PairStatus =
  | 'aborted'
  | 'cancelled'
  | 'deadlineExceeded'
  | 'failedPrecondition'
  | 'internal'
  | 'invalidArgument'
  | 'notFound'
  | 'outOfRange'
  | 'permissionDenied'
  | 'resourceExhausted'
  | 'unauthenticated'
  | 'unavailable'
  | 'unimplemented'
  | 'unknown'

/** A call between the devices that failed: one of ours at the peer, or one of the peer's that we refuse. */
export class PairCallError extends Error {
  override readonly name = 'PairCallError'

  constructor(
    readonly status: PairStatus,
    message: string,
  ) {
    super(message)
  }
}

/** What the peer's own code answers; with any other failure the peer may have done what was asked. */
const REFUSALS: ReadonlySet<PairStatus> = new Set([
  'aborted',
  'failedPrecondition',
  'invalidArgument',
  'notFound',
  'outOfRange',
  'permissionDenied',
  'resourceExhausted',
  'unauthenticated',
  'unimplemented',
])

/** True where the peer surely did not do what the failed call asked. */
export function isRefusal(error: unknown): error is PairCallError {
  return error instanceof PairCallError && REFUSALS.has(error.status)
}

/** Simulated photons of one frame. */
export interface Photons {
  /** Time from one photon to the next, ps. */
  readonly periodPs: bigint
  /** BB84 values, one byte each: 0 Zero, 1 One, 2 Pos, 3 Neg, 4 Right, 5 Left, 6 Invalid. */
  readonly qubits: Uint8Array
}

/** The bases in which the qubits 0…n−1 of one frame were measured. */
export interface FrameBases {
  readonly frameId: bigint
  /** Basis values, one byte each: 0 rectilinear, 2 diagonal, 4 circular, 6 invalid. */
  readonly bases: Uint8Array
}

/** For each of those, 1 where the sender's basis was the same and 0 where not. */
export interface FrameAnswers {
  readonly frameId: bigint
  readonly answers: Uint8Array
}

/** An open UseKeyID towards the peer. */
export interface KeyIdStream {
  /** Rejects with `PairCallError` once the call has failed, also where the failure came earlier. */
  send(ids: readonly bigint[]): Promise<void>
  /** No more ids; resolves with the peer's answer. */
  end(): Promise<void>
}

/**
 * Calls to the peer. Drivers give each a deadline of their own through `signal`, which also hangs up. Reject with
 * `PairCallError`.
 */
export interface PairPeer {
  startDetecting(atUnixNs: bigint, signal: AbortSignal): Promise<void>
  stopDetecting(atUnixNs: bigint, signal: AbortSignal): Promise<void>
  onPhoton(photons: Photons, signal: AbortSignal): Promise<void>
  verifyBases(frames: readonly FrameBases[], signal: AbortSignal): Promise<readonly FrameAnswers[]>
  /** Opens the stream; `signal` lasts as long as it is wanted. */
  useKeyIds(signal: AbortSignal): KeyIdStream
}

/**
 * What a device answers to its peer's calls; the caller has been checked to be the running session's peer. `signal`
 * aborts when the peer hangs up. Arguments are the service's to keep.
 */
export interface PairServices {
  startDetecting?(atUnixNs: bigint, signal: AbortSignal): Promise<void>
  stopDetecting?(atUnixNs: bigint, signal: AbortSignal): Promise<void>
  onPhoton?(photons: Photons, signal: AbortSignal): Promise<void>
  verifyBases?(frames: readonly FrameBases[], signal: AbortSignal): Promise<readonly FrameAnswers[]>
  useKeyIds?(batches: AsyncIterable<readonly bigint[]>, signal: AbortSignal): Promise<void>
}

/**
 * How the two sites come to the same keys. `byId`: the peer is a gateway too and both release by key ids, so what one
 * side lacks is dropped at both. `byArrival`: the peer is an upstream device; each side delivers in the order in which
 * keys arise, and one key more or less parts the sites for good.
 */
export type KeyOrdering = 'byId' | 'byArrival'

/** What a device is told of one session. */
export interface PairSession {
  readonly peer: PairPeer
  /** Host of the peer's control address; with a tunnel that is the listener's host, not the device's. */
  readonly peerHost: string
  readonly lineAttenuationDb: number
  /**
   * The `initialKey` of the WaitForSession that belongs to this session, which may come before or after the session
   * starts; empty where the site gave none. The receiver owns and wipes it. Rejects when `signal` aborts.
   */
  initialKey(signal: AbortSignal): Promise<Uint8Array>
  /** The session cannot go on: end it at both sites and show why. May be called at any time; the first call counts. */
  fail(error: Error): void
}

/**
 * The session side of such a device. One session at a time: prepare → start → quiesce → end, and `end` from anywhere.
 * None of them waits on the peer for longer than the driver's own deadlines, all below 3 s.
 */
export interface PairControl {
  readonly services: PairServices
  /**
   * Before the peer is told: from now on its calls are answered. Rejects with E_DEVICE_… where the hardware is not
   * ready (FAILED_PRECONDITION to the peer). Returns at once otherwise.
   */
  prepare(session: PairSession): Promise<void>
  /** Both ends have agreed on the session: the peer may be called. */
  start(ordering: KeyOrdering): void
  /**
   * Nothing new is begun; what is under way is finished with the peer or given up at a deadline, and the peer's calls
   * are still answered. Call it before the peer is told that the session ends.
   */
  quiesce(): Promise<void>
  /** The session is over. Idempotent. */
  end(): Promise<void>
}

/** A device with `yields: 'pair'`. */
export interface PairDevice extends Device {
  readonly pair: PairControl
}

export function isPairDevice(device: Device): device is PairDevice {
  return 'pair' in device
}
