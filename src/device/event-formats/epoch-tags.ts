/** Epoch files that hold times: T1 (events of the side with more of them) and T2 (times and bases of the other side). */
import { deliver, newBatch, TagTally, type TagReader, type TagSink } from './batch.js'
import { BitWindow, BitWriter, wordBytes } from './bit-window.js'
import { epochHeaderWords, HEADER_WORDS, parseEpochHeader, type EpochHeader, type EpochKind } from './epoch-header.js'
import { EventValueReader } from './event-value-reader.js'
import { valueBytes } from './event-values.js'
import { UNIT_8TH_NS } from './units.js'

/** An epoch file's reader knows its header once that much was pushed. */
export interface EpochTagReader extends TagReader {
  readonly header: EpochHeader | undefined
}

const T2_BATCH = 16_384

/** Collects a header's words out of any chunking. */
class HeaderCollector {
  readonly #bytes: Uint8Array
  #filled = 0

  constructor(private readonly kind: EpochKind) {
    this.#bytes = new Uint8Array(4 * HEADER_WORDS[kind])
  }

  get filled(): number {
    return this.#filled
  }

  /** Bytes of the chunk that belong to the header. */
  take(chunk: Uint8Array): number {
    const taken = Math.min(chunk.length, this.#bytes.length - this.#filled)
    this.#bytes.set(chunk.subarray(0, taken), this.#filled)
    this.#filled += taken
    return taken
  }

  parse(): EpochHeader | undefined {
    if (this.#filled < this.#bytes.length) return undefined
    return parseEpochHeader([...new Uint32Array(this.#bytes.buffer)], this.kind)
  }
}

/** Streaming reader of a T1 file: a header, event values with the high word first, two zero words. */
export class T1Reader implements EpochTagReader {
  readonly unit = UNIT_8TH_NS
  header: EpochHeader | undefined
  readonly #collector = new HeaderCollector(1)
  readonly #values = new EventValueReader({ order: 'highFirst', lostWraps: 'none', unit: UNIT_8TH_NS, endMark: true })

  get tally(): TagTally {
    return this.#values.tally
  }

  push(chunk: Uint8Array, sink: TagSink): void {
    let rest = chunk
    if (this.header === undefined) {
      rest = chunk.subarray(this.#collector.take(chunk))
      this.header = this.#collector.parse()
    }
    if (rest.length > 0) this.#values.push(rest, sink)
  }

  flush(sink: TagSink): void {
    this.#values.flush(sink)
  }

  end(sink: TagSink): void {
    this.#values.end(sink)
    noteEnd(this.header, this.#collector.filled, this.#values.ended, this.tally)
  }
}

/** Streaming reader of a T2 file: packed time differences and base bits. Times count from the epoch's beginning. */
export class T2Reader implements EpochTagReader {
  readonly unit = UNIT_8TH_NS
  readonly tally = new TagTally()
  header: EpochHeader | undefined
  readonly #collector = new HeaderCollector(2)
  readonly #bits = new BitWindow()
  readonly #batch = newBatch(T2_BATCH)
  /** Double: at most 2^53 eighths of a nanosecond. */
  #time = 0
  #ended = false

  push(chunk: Uint8Array, sink: TagSink): void {
    let offset = 0
    if (this.header === undefined) {
      offset = this.#collector.take(chunk)
      this.header = this.#collector.parse()
      const [, baseBits] = this.header?.fields ?? []
      if (baseBits !== undefined) this.tally.patterns = new Float64Array(2 ** baseBits)
    }
    while (offset < chunk.length && !this.#ended) {
      offset += this.#bits.push(offset === 0 ? chunk : chunk.subarray(offset))
      this.#read(sink, false)
    }
    this.tally.strayBytes += chunk.length - offset
    this.flush(sink)
  }

  flush(sink: TagSink): void {
    deliver(this.#batch, sink)
  }

  end(sink: TagSink): void {
    if (!this.#ended) this.#read(sink, true)
    this.tally.strayBytes += this.#bits.oddBytes
    this.flush(sink)
    noteEnd(this.header, this.#collector.filled, this.#ended, this.tally)
  }

  #read(sink: TagSink, final: boolean): void {
    const [order = 0, baseBits = 0] = this.header?.fields ?? []
    const bits = this.#bits
    const longest = order + 32 + baseBits
    while (!this.#ended && bits.availableBits >= (final ? order + baseBits : longest)) {
      let difference = bits.read(order)
      if (difference === 0) {
        if (bits.availableBits < 32 + baseBits) return
        difference = bits.read(32)
      } else if (difference === 1) {
        this.#ended = true
        if (baseBits > 0 && bits.availableBits >= baseBits) bits.read(baseBits)
        this.tally.strayBytes += Math.floor(bits.availableBits / 32) * 4
        return
      }
      this.#time += difference
      this.#take(baseBits === 0 ? 0 : bits.read(baseBits), sink)
    }
  }

  #take(pattern: number, sink: TagSink): void {
    const { tally } = this
    const batch = this.#batch
    if (batch.count === T2_BATCH) deliver(batch, sink)
    const lo = this.#time >>> 0
    const hi = Math.floor(this.#time / 2 ** 32)
    batch.times[2 * batch.count] = lo
    batch.times[2 * batch.count + 1] = hi
    batch.patterns[batch.count] = pattern
    batch.count += 1
    tally.records += 1
    tally.events += 1
    tally.patterns[pattern] = (tally.patterns[pattern] ?? 0) + 1
    const mark = (tally.last ??= { time: { hi, lo }, writtenTime: { hi, lo }, value: undefined, pattern })
    mark.time.hi = mark.writtenTime.hi = hi
    mark.time.lo = mark.writtenTime.lo = lo
    mark.pattern = pattern
    tally.first ??= { time: { hi, lo }, writtenTime: { hi, lo }, value: undefined, pattern }
  }
}

function noteEnd(header: EpochHeader | undefined, headerBytes: number, ended: boolean, tally: TagTally): void {
  if (header === undefined) {
    tally.strayBytes += headerBytes
    tally.notes.push(`the file ends inside its header, after ${headerBytes} bytes`)
    return
  }
  if (!ended) tally.notes.push('the end mark is missing: the file is cut off')
  if (header.length !== 0 && header.length !== tally.records)
    tally.notes.push(`the header announces ${header.length} entries, the file holds ${tally.records}`)
}

/** A T1 file of event values (`eventValue`). */
export function encodeT1(epoch: number, extended: boolean, values: readonly bigint[]): Uint8Array {
  const header = epochHeaderWords({ kind: 1, extended, epoch, length: values.length, fields: [49, 4] })
  return concat([wordBytes(header), valueBytes([...values, 0n], 'highFirst')])
}

export interface T2Entry {
  /** Eighths of a nanosecond since the epoch began. */
  time: number
  base: number
}

/**
 * A T2 file. A difference below 2 is stored 2 larger, an entry that would then not ascend is left out: that is the
 * format's own loss.
 */
export function encodeT2(
  options: { epoch: number; extended: boolean; order: number; baseBits: number; protocol: number },
  entries: readonly T2Entry[],
): Uint8Array {
  const { epoch, extended, order, baseBits, protocol } = options
  const bits = new BitWriter()
  let written = 0
  let time = 0
  for (const entry of entries) {
    let difference = entry.time - time
    if (difference <= 0) continue
    if (difference < 2) difference += 2
    writeDifference(bits, difference, order)
    if (baseBits > 0) bits.write(entry.base, baseBits)
    time += difference
    written += 1
  }
  bits.write(1, order)
  if (baseBits > 0) bits.write(0, baseBits)
  const header = epochHeaderWords({ kind: 2, extended, epoch, length: written, fields: [order, baseBits, protocol] })
  return wordBytes([...header, ...bits.toWords()])
}

/** A difference of 2 or more in `order` bits, or in 32 bits behind a zero where it needs more. */
export function writeDifference(bits: BitWriter, difference: number, order: number): void {
  if (difference < 2 ** order) return bits.write(difference, order)
  bits.write(0, order)
  bits.write(difference, 32)
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
