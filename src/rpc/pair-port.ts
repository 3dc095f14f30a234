/**
 * The calls that two devices make to each other while a session runs, in plain values. Drivers of pairs implement what
 * their device has; a method that is missing is answered with UNIMPLEMENTED.
 */

/** gRPC statuses that devices show each other, by name. */
export type PairStatusName =
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

/** Simulated photons of one frame. */
export interface WirePhotons {
  /** Time from one photon to the next, ps. */
  readonly periodPs: bigint
  /** BB84 values, one byte each: 0 Zero, 1 One, 2 Pos, 3 Neg, 4 Right, 5 Left, 6 Invalid. */
  readonly qubits: Uint8Array
}

/** Bases in which the qubits 0…n−1 of a frame were measured, one byte each: 0, 2, 4, or 6 for none. */
export interface WireFrameBases {
  readonly frameId: bigint
  readonly bases: Uint8Array
}

/** For each of those 1 where both bases were the same and 0 where not. */
export interface WireFrameAnswers {
  readonly frameId: bigint
  readonly answers: Uint8Array
}

export interface WireMarkersRequest {
  readonly frameId: bigint
  /** How many qubits to show; any 64-bit number may be asked for. */
  readonly count: bigint
  readonly allBases: boolean
}

export interface WireMarkers {
  /** BB84 value by slot. */
  readonly markers: ReadonlyMap<bigint, number>
  /** Basis of every slot, or nothing if it was not asked for. */
  readonly bases: Uint8Array
}

export interface WireDetections {
  readonly frameId: bigint
  readonly slotIds: readonly bigint[]
  readonly securityParameter: number
}

export interface WireAmplification {
  readonly frameId: bigint
  /** Probability, 0 to 1. */
  readonly leakProbability: number
  readonly hashFunction: string
}

export interface WireTimeTag {
  readonly channel: number
  readonly timePs: bigint
}

/**
 * What a device answers to the device at the other site. `signal` aborts when the caller hangs up. A rejection that has
 * a `status` of `PairStatusName` travels as that status with its message; any other one is INTERNAL.
 */
export interface PairPort {
  /** `atUnixNs` is 0n where the caller gave no time. */
  startDetecting?(atUnixNs: bigint, signal: AbortSignal): Promise<void>
  stopDetecting?(atUnixNs: bigint, signal: AbortSignal): Promise<void>
  onPhoton?(photons: WirePhotons, signal: AbortSignal): Promise<void>
  /** Frames ascending by id. */
  verifyBases?(frames: readonly WireFrameBases[], signal: AbortSignal): Promise<readonly WireFrameAnswers[]>
  /** Batches of Clavis2 key numbers, as long as the session runs. */
  useKeyIds?(batches: AsyncIterable<readonly bigint[]>, signal: AbortSignal): Promise<void>
  alignmentMarkers?(request: WireMarkersRequest, signal: AbortSignal): Promise<WireMarkers>
  discardTransmissions?(detections: WireDetections, signal: AbortSignal): Promise<void>
  selectCorrectionScheme?(id: string, signal: AbortSignal): Promise<void>
  /** Rows of the parity check matrix, one byte a column, 0 or 1. */
  correctionScheme?(id: string, signal: AbortSignal): Promise<{ id: string; rows: readonly Uint8Array[] }>
  notifyDataParity?(parity: Uint8Array, hash: Uint8Array, signal: AbortSignal): Promise<void>
  amplifyPrivacy?(frames: AsyncIterable<WireAmplification>, signal: AbortSignal): Promise<void>
  /** Clavis3 key ids, UUIDs as text, in order. */
  releaseKeys?(ids: readonly string[], signal: AbortSignal): Promise<void>
  sendInitialKey?(signal: AbortSignal): Promise<void>
  /** Lists of at most 100,000 tags; ends when `signal` aborts. An empty list of channels means all of them. */
  readTimeTags?(channels: readonly number[], signal: AbortSignal): AsyncIterable<readonly WireTimeTag[]>
  /** Times in ps, lists of at most 100,000. */
  readEntanglementEvents?(signal: AbortSignal): AsyncIterable<readonly bigint[]>
}
