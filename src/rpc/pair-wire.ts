/** Between the messages of two devices and plain values; refuses what has no meaning and names the field. */
import { status as Status } from '@grpc/grpc-js'
import { rpcError, RpcError } from './bridge.js'
import { invalid } from './checks.js'
import type { PairStatusName, WireFrameAnswers, WireFrameBases, WirePhotons } from './pair-port.js'
import type { FakeDetection } from './gen/cqp/remote/detector_pb.js'
import type { AnswersByFrame, BasisBySiftFrame } from './gen/cqp/remote/sift_pb.js'

/** Frames of one VerifyBases; key numbers or ids of one message. */
export const MAX_FRAMES = 1_000
export const MAX_IDS = 100_000
const UUID_CHARS = 36

const STATUS_OF: Readonly<Record<PairStatusName, Status>> = {
  aborted: Status.ABORTED,
  cancelled: Status.CANCELLED,
  deadlineExceeded: Status.DEADLINE_EXCEEDED,
  failedPrecondition: Status.FAILED_PRECONDITION,
  internal: Status.INTERNAL,
  invalidArgument: Status.INVALID_ARGUMENT,
  notFound: Status.NOT_FOUND,
  outOfRange: Status.OUT_OF_RANGE,
  permissionDenied: Status.PERMISSION_DENIED,
  resourceExhausted: Status.RESOURCE_EXHAUSTED,
  unauthenticated: Status.UNAUTHENTICATED,
  unavailable: Status.UNAVAILABLE,
  unimplemented: Status.UNIMPLEMENTED,
  unknown: Status.UNKNOWN,
}

const NAME_OF = new Map(Object.entries(STATUS_OF).map(([name, code]) => [code, name as PairStatusName]))

function isStatusName(value: unknown): value is PairStatusName {
  return typeof value === 'string' && Object.hasOwn(STATUS_OF, value)
}

/** What a driver threw, as it goes to its peer: its own status where it names one. */
export function asRpcError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof RpcError) return error
  return 'status' in error && isStatusName(error.status) ? rpcError(STATUS_OF[error.status], error.message) : error
}

/** The name of a status that a peer answered. */
export function statusNameOf(error: unknown): PairStatusName {
  return error instanceof RpcError ? (NAME_OF.get(error.code) ?? 'unknown') : 'unknown'
}

/** A timestamp in ns since 1970; 0n where it is absent or zero. */
export function unixNs(seconds: bigint, nanos: number): bigint {
  if (nanos < 0 || nanos > 999_999_999) throw invalid('nanos', `${nanos} is outside 0 to 999,999,999`)
  return seconds * 1_000_000_000n + BigInt(nanos)
}

/** The inverse, for a request. */
export function timestampOf(atUnixNs: bigint): { seconds: bigint; nanos: number } {
  const nanos = ((atUnixNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  return { seconds: (atUnixNs - nanos) / 1_000_000_000n, nanos: Number(nanos) }
}

/** Enum values as bytes; `allowed` says which have a meaning. */
function enumBytes(field: string, values: readonly number[], allowed: (value: number) => boolean): Uint8Array {
  const bytes = new Uint8Array(values.length)
  for (const [index, value] of values.entries()) {
    if (!allowed(value)) throw invalid(`${field}[${index}]`, `${value} is no value of that enum`)
    bytes[index] = value
  }
  return bytes
}

const isQubit = (value: number): boolean => value >= 0 && value <= 6
const isBasis = (value: number): boolean => value === 0 || value === 2 || value === 4 || value === 6

export function photonsOf(request: FakeDetection): WirePhotons {
  return {
    periodPs: request.periodPicoseconds,
    qubits: enumBytes('values.qubits', request.values?.qubits ?? [], isQubit),
  }
}

export function basesOf(request: BasisBySiftFrame): WireFrameBases[] {
  const frames = Object.entries(request.basis)
  if (frames.length > MAX_FRAMES) throw invalid('basis', `${frames.length} frames, at most ${MAX_FRAMES}`)
  return frames
    .map(([id, { indexedBasis }]) => {
      const field = `basis[${id}].indexedBasis`
      // The answers are applied to emission k, whatever the index says: another index would spoil the key in silence.
      const astray = indexedBasis.findIndex(({ index }, k) => index !== BigInt(k))
      if (astray !== -1) {
        throw invalid(
          `${field}[${astray}].index`,
          `${indexedBasis[astray]?.index}, expected ${astray}: the list must be dense`,
        )
      }
      return {
        frameId: BigInt(id),
        bases: enumBytes(
          field,
          indexedBasis.map(({ basis }) => basis),
          isBasis,
        ),
      }
    })
    .sort((a, b) => (a.frameId < b.frameId ? -1 : 1))
}

export function answersOf(answer: AnswersByFrame): WireFrameAnswers[] {
  return Object.entries(answer.answers)
    .map(([id, { answers }]) => ({ frameId: BigInt(id), answers: Uint8Array.from(answers, Number) }))
    .sort((a, b) => (a.frameId < b.frameId ? -1 : 1))
}

export function keyNumbersOf(ids: readonly bigint[]): readonly bigint[] {
  if (ids.length > MAX_IDS) throw invalid('keyId', `${ids.length} numbers, at most ${MAX_IDS}`)
  return ids
}

export function uuidsOf(ids: readonly Uint8Array[]): string[] {
  if (ids.length > MAX_IDS) throw invalid('id', `${ids.length} ids, at most ${MAX_IDS}`)
  return ids.map((id, index) => {
    if (id.length !== UUID_CHARS)
      throw invalid(`id[${index}]`, `${id.length} bytes, expected the ${UUID_CHARS} of a UUID`)
    return Buffer.from(id).toString('latin1')
  })
}
