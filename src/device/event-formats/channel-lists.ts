/**
 * Lists of a time in ps and a channel: CQPToolkit's detections (u64 big-endian, one byte qubit) and quTAG's binary files
 * (a 40-byte header of unknown content, then u64 and u16 little-endian, not sorted).
 */
import { deliver, newBatch, TagTally, type TagReader, type TagSink } from './batch.js'
import { Staging } from './staging.js'
import { UNIT_PS } from './units.js'

export const CQP_RECORD_BYTES = 9
export const QUTAG_HEADER_BYTES = 40
export const QUTAG_RECORD_BYTES = 10

const BATCH = 16_384

/** What both have in common: fixed records, file order, steps back counted. */
abstract class ChannelListReader implements TagReader {
  readonly unit = UNIT_PS
  readonly tally: TagTally
  /** Earliest and latest time of the file, which need not be its first and last. */
  earliest: bigint | undefined
  latest: bigint | undefined
  protected readonly staging = new Staging()
  readonly #batch = newBatch(BATCH)
  #headerLeft: number
  #lo = 0
  #hi = -1
  #pattern = -1
  #minLo = 0xffff_ffff
  #minHi = 0xffff_ffff
  #maxLo = 0
  #maxHi = 0

  constructor(
    private readonly recordBytes: number,
    private readonly headerBytes: number,
    patternCount: number,
  ) {
    this.tally = new TagTally(patternCount)
    this.#headerLeft = headerBytes
  }

  push(chunk: Uint8Array, sink: TagSink): void {
    const skipped = Math.min(this.#headerLeft, chunk.length)
    this.#headerLeft -= skipped
    this.staging.push(skipped === 0 ? chunk : chunk.subarray(skipped), (filled) => this.#read(filled, sink))
    this.flush(sink)
  }

  flush(sink: TagSink): void {
    deliver(this.#batch, sink)
  }

  end(sink: TagSink): void {
    this.flush(sink)
    const rest = this.staging.filled
    if (this.#headerLeft > 0)
      this.tally.notes.push(`the file ends inside its header, after ${this.headerBytes - this.#headerLeft} bytes`)
    if (rest === 0) return
    this.tally.strayBytes += rest
    this.tally.notes.push(`the last record is cut off after ${rest} of ${this.recordBytes} bytes`)
    this.staging.drop(rest)
  }

  /** The words of the record at byte `at`. */
  protected abstract lowWord(at: number): number
  protected abstract highWord(at: number): number
  protected abstract channel(at: number): number

  #read(filled: number, sink: TagSink): number {
    const { tally } = this
    const batch = this.#batch
    let at = 0
    for (; at + this.recordBytes <= filled; at += this.recordBytes) {
      const lo = this.lowWord(at)
      const hi = this.highWord(at)
      const pattern = this.channel(at)
      if (hi < this.#hi || (hi === this.#hi && lo < this.#lo)) tally.outOfOrder += 1
      else if (hi === this.#hi && lo === this.#lo && pattern === this.#pattern) {
        tally.outOfOrder += 1
        tally.repeated += 1
      }
      this.#hi = hi
      this.#lo = lo
      this.#pattern = pattern
      if (hi < this.#minHi || (hi === this.#minHi && lo < this.#minLo)) {
        this.#minHi = hi
        this.#minLo = lo
      }
      if (hi > this.#maxHi || (hi === this.#maxHi && lo > this.#maxLo)) {
        this.#maxHi = hi
        this.#maxLo = lo
      }
      tally.records += 1
      tally.events += 1
      tally.patterns[pattern] = (tally.patterns[pattern] ?? 0) + 1
      if (batch.count === BATCH) deliver(batch, sink)
      batch.times[2 * batch.count] = lo
      batch.times[2 * batch.count + 1] = hi
      batch.patterns[batch.count] = pattern
      batch.count += 1
      tally.first ??= { time: { hi, lo }, writtenTime: { hi, lo }, value: undefined, pattern }
    }
    if (tally.records > 0) {
      const words = { hi: this.#hi, lo: this.#lo }
      tally.last = { time: words, writtenTime: words, value: undefined, pattern: this.#pattern }
      this.earliest = (BigInt(this.#minHi) << 32n) | BigInt(this.#minLo)
      this.latest = (BigInt(this.#maxHi) << 32n) | BigInt(this.#maxLo)
    }
    return at
  }
}

/** Streaming reader of a CQPToolkit detection list; patterns are qubit values. */
export class CqpListReader extends ChannelListReader {
  constructor() {
    super(CQP_RECORD_BYTES, 0, 256)
  }

  protected lowWord(at: number): number {
    return bigEndianWord(this.staging.bytes, at + 4)
  }

  protected highWord(at: number): number {
    return bigEndianWord(this.staging.bytes, at)
  }

  protected channel(at: number): number {
    return this.staging.bytes[at + 8] ?? 0
  }
}

/** Streaming reader of a quTAG file; patterns are channel numbers. Detections come in the file's order, not sorted. */
export class QutagReader extends ChannelListReader {
  constructor() {
    super(QUTAG_RECORD_BYTES, QUTAG_HEADER_BYTES, 65_536)
  }

  protected lowWord(at: number): number {
    return littleEndianWord(this.staging.bytes, at)
  }

  protected highWord(at: number): number {
    return littleEndianWord(this.staging.bytes, at + 4)
  }

  protected channel(at: number): number {
    return (this.staging.bytes[at + 8] ?? 0) | ((this.staging.bytes[at + 9] ?? 0) << 8)
  }
}

/** A CQPToolkit detection list. */
export function encodeCqpList(detections: readonly { timePs: bigint; qubit: number }[]): Uint8Array {
  const bytes = new Uint8Array(CQP_RECORD_BYTES * detections.length)
  const view = new DataView(bytes.buffer)
  detections.forEach(({ timePs, qubit }, i) => {
    view.setBigUint64(CQP_RECORD_BYTES * i, timePs)
    view.setUint8(CQP_RECORD_BYTES * i + 8, qubit)
  })
  return bytes
}

/** A file like quTAG's, its header zero. */
export function encodeQutag(detections: readonly { timePs: bigint; channel: number }[]): Uint8Array {
  const bytes = new Uint8Array(QUTAG_HEADER_BYTES + QUTAG_RECORD_BYTES * detections.length)
  const view = new DataView(bytes.buffer)
  detections.forEach(({ timePs, channel }, i) => {
    const at = QUTAG_HEADER_BYTES + QUTAG_RECORD_BYTES * i
    view.setBigUint64(at, timePs, true)
    view.setUint16(at + 8, channel, true)
  })
  return bytes
}

function bigEndianWord(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  )
}

function littleEndianWord(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at + 3] ?? 0) << 24) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at] ?? 0)) >>> 0
  )
}
