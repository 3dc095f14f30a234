import { endianness } from 'node:os'
import { GatewayError } from '../../base/errors.js'
import type { TimeUnit } from './units.js'

/**
 * Decoded detections. The arrays belong to the reader and are filled again after the sink returned: copy what must last.
 */
export interface TagBatch {
  /** Detections in it; 1 to `patterns.length`. */
  count: number
  /** Two words a detection, low word first: the unwrapped time in the reader's unit. */
  readonly times: Uint32Array
  /** What clicked: input bits (input 1 = bit 0), or a channel or qubit number where the format holds one. */
  readonly patterns: Uint16Array
}

/** Takes what a reader finds, in the order of the stream. */
export interface TagSink {
  /** Detections in ascending time (in the file's order where the format is not sorted). */
  tags(batch: TagBatch): void
  /** Something is missing or the time line broke: do not join what is before and after. */
  gap?(reason: string): void
}

/** A streaming reader of detections: any chunking, constant memory. */
export interface TagReader {
  readonly unit: TimeUnit
  readonly tally: TagTally
  /** Takes the next bytes; throws E_FORMAT where the text or header cannot be of this format. */
  push(chunk: Uint8Array, sink: TagSink): void
  /** Decides about records that wait for their successors: call it when the stream pauses. */
  flush(sink: TagSink): void
  /** The stream is over: flushes and accounts for an incomplete last record. */
  end(sink: TagSink): void
}

/** A 64-bit number as two words. */
export interface Words64 {
  hi: number
  lo: number
}

export function toBigInt(words: Words64): bigint {
  return (BigInt(words.hi) << 32n) | BigInt(words.lo >>> 0)
}

/** What a reader counted. Every record is an event or a dummy. */
export class TagTally {
  records = 0
  events = 0
  dummies = 0
  /** Counter wraps added, seen at any record. */
  wraps = 0
  /** Records that stand behind the one before (reordered) or repeat it; left out of the detections. */
  outOfOrder = 0
  /** The share of `outOfOrder` that repeats the record before it. */
  repeated = 0
  /** Events that cannot be (no input set, a time outside of its neighbours'); left out of the detections. */
  invalid = 0
  /** Wraps or jumps that were accepted although the unit's own rule speaks against them. */
  doubtful = 0
  /** Pauses far longer than the rate lets expect: a shutter, or records that the unit lost. */
  longSteps = 0
  /** Times at which bytes were lost and the record limits were found again. */
  slips = 0
  /** Times at which the time line began anew. */
  restarts = 0
  /** Bytes that belong to no record: after a slip, after an end mark, or of a record cut off. */
  strayBytes = 0
  /** Events of each pattern, indexed by it. Readers that learn from a header how many patterns there are set it then. */
  patterns: Float64Array
  /** First and last detection delivered: unwrapped time, value as written, pattern. */
  first: TagMark | undefined
  last: TagMark | undefined
  /** Sentences on what was repaired or doubted that the counts do not tell. */
  readonly notes: string[] = []

  constructor(patternCount = 0) {
    this.patterns = new Float64Array(patternCount)
  }
}

export interface TagMark {
  /** In the reader's unit, wraps undone. */
  time: Words64
  /** The time as the file has it, in the reader's unit. */
  writtenTime: Words64
  /** The whole record where it is one number, as written. */
  value: Words64 | undefined
  pattern: number
}

export function newBatch(capacity: number): TagBatch {
  return { count: 0, times: new Uint32Array(2 * capacity), patterns: new Uint16Array(capacity) }
}

/** Hands a batch on, unless it is empty, and empties it. */
export function deliver(batch: TagBatch, sink: TagSink): void {
  if (batch.count === 0) return
  sink.tags(batch)
  batch.count = 0
}

/** Typed arrays show the machine's byte order; all formats here are read as if it were little-endian. */
export function requireLittleEndian(): void {
  if (endianness() !== 'LE')
    throw new GatewayError('E_INTERNAL', 'event files cannot be read on a big-endian machine', {
      remedy: 'decode the file on an x86-64 or arm64 machine',
    })
}

export interface PsTagsOptions {
  /** Added to every time; not negative. */
  offsetPs?: bigint
  /** What becomes of a pattern that the reader found; it stays as it is by default. */
  patternOf?: (pattern: number) => number
}

/** A batch as the device contract's `tags` event wants it: times in ps (cut) and 8-bit patterns, freshly allocated. */
export function toPsTags(
  batch: TagBatch,
  unit: TimeUnit,
  options: PsTagsOptions = {},
): { timesPs: BigUint64Array; patterns: Uint8Array } {
  const { offsetPs = 0n, patternOf } = options
  const { count, times } = batch
  const { numerator, denominator } = unit
  const offsetLo = Number(offsetPs & 0xffff_ffffn)
  const offsetHi = Number(offsetPs >> 32n)
  const timesPs = new BigUint64Array(count)
  const words = new Uint32Array(timesPs.buffer)
  const patterns = Uint8Array.from(batch.patterns.subarray(0, count))
  for (let i = 0; i < count; i++) {
    const product = (times[2 * i] ?? 0) * numerator
    let lo = product >>> 0
    let hi = (times[2 * i + 1] ?? 0) * numerator + (product - lo) / 0x1_0000_0000
    if (denominator !== 1) {
      const quotient = Math.floor(hi / denominator)
      lo = Math.floor(((hi - quotient * denominator) * 0x1_0000_0000 + lo) / denominator)
      hi = quotient
    }
    lo += offsetLo
    words[2 * i] = lo
    words[2 * i + 1] = hi + offsetHi + (lo >= 0x1_0000_0000 ? 1 : 0)
  }
  if (patternOf !== undefined) for (let i = 0; i < count; i++) patterns[i] = patternOf(batch.patterns[i] ?? 0)
  return { timesPs, patterns }
}
