/** Epoch files without times: T3 (bits), T4 (indices of the events kept) and T7 (key). */
import { BitWindow, BitWriter, wordBytes } from './bit-window.js'
import { epochHeaderWords, HEADER_WORDS, parseEpochHeader, type EpochHeader } from './epoch-header.js'
import { writeDifference } from './epoch-tags.js'

/** Takes entries as they are read: a T3's or T7's value, or a T4's index and base bits. */
export type EntrySink = (value: number, index: number) => void

export interface ListTally {
  records: number
  /** Entries of each value (T3, T7) or of each base (T4); empty until the header says how many there can be. */
  patterns: Float64Array
  /** T4: the first and last index. */
  first: number | undefined
  last: number | undefined
  strayBytes: number
  readonly notes: string[]
}

/** A streaming reader of entries: any chunking, constant memory. */
export interface ListReader {
  readonly header: EpochHeader | undefined
  readonly tally: ListTally
  push(chunk: Uint8Array, sink?: EntrySink): void
  end(sink?: EntrySink): void
}

abstract class PackedListReader implements ListReader {
  header: EpochHeader | undefined
  readonly tally: ListTally = {
    records: 0,
    patterns: new Float64Array(),
    first: undefined,
    last: undefined,
    strayBytes: 0,
    notes: [],
  }
  protected readonly bits = new BitWindow()
  protected done = false
  #bytes = 0

  constructor(private readonly kind: 3 | 4 | 7) {}

  push(chunk: Uint8Array, sink?: EntrySink): void {
    this.#bytes += chunk.length
    let offset = 0
    while (offset < chunk.length && !this.done) {
      offset += this.bits.push(offset === 0 ? chunk : chunk.subarray(offset))
      this.#readHeader()
      if (this.header !== undefined) this.readEntries(this.header, false, sink)
    }
    this.tally.strayBytes += chunk.length - offset
  }

  end(sink?: EntrySink): void {
    const { header, tally } = this
    if (header === undefined) {
      tally.strayBytes += this.#bytes
      tally.notes.push(`the file ends inside its header, after ${this.#bytes} bytes`)
      return
    }
    if (!this.done) this.readEntries(header, true, sink)
    tally.strayBytes += Math.floor(this.bits.availableBits / 32) * 4 + this.bits.oddBytes
    this.noteEnd(header)
  }

  /** Bits of what `patterns` counts. */
  protected abstract patternBits(header: EpochHeader): number
  /** Reads what is there; sets `done` at the end. */
  protected abstract readEntries(header: EpochHeader, final: boolean, sink?: EntrySink): void
  protected abstract noteEnd(header: EpochHeader): void

  protected take(pattern: number, value: number, index: number, sink?: EntrySink): void {
    this.tally.records += 1
    this.tally.patterns[pattern] = (this.tally.patterns[pattern] ?? 0) + 1
    sink?.(value, index)
  }

  #readHeader(): void {
    const words = HEADER_WORDS[this.kind]
    if (this.header !== undefined || this.bits.availableBits < 32 * words) return
    this.header = parseEpochHeader(
      Array.from({ length: words }, () => this.bits.readWord()),
      this.kind,
    )
    this.tally.patterns = new Float64Array(2 ** this.patternBits(this.header))
  }
}

/** T3: `length` entries of `fields[0]` bits. T7: `fields[0]` key bits of `length` epochs. */
export class BitsReader extends PackedListReader {
  constructor(private readonly bitsKind: 3 | 7) {
    super(bitsKind)
  }

  protected patternBits(header: EpochHeader): number {
    return this.bitsKind === 3 ? (header.fields[0] ?? 1) : 1
  }

  #announced(header: EpochHeader): number {
    return this.bitsKind === 3 ? header.length : (header.fields[0] ?? 0)
  }

  protected readEntries(header: EpochHeader, _final: boolean, sink?: EntrySink): void {
    const width = this.patternBits(header)
    const announced = this.#announced(header)
    while (this.tally.records < announced && this.bits.availableBits >= width) {
      const value = this.bits.read(width)
      this.take(value, value, this.tally.records, sink)
    }
    this.done = this.tally.records >= announced
  }

  protected noteEnd(header: EpochHeader): void {
    const announced = this.#announced(header)
    if (this.tally.records < announced)
      this.tally.notes.push(
        `the header announces ${announced} entries, the file holds ${this.tally.records}: it is cut off`,
      )
  }
}

/** T4: index differences (2 larger than they are) and base bits, an end mark. */
export class T4Reader extends PackedListReader {
  #index = 0

  constructor() {
    super(4)
  }

  protected patternBits(header: EpochHeader): number {
    return header.fields[1] ?? 0
  }

  protected readEntries(header: EpochHeader, final: boolean, sink?: EntrySink): void {
    const [order = 0, baseBits = 0] = header.fields
    const { bits, tally } = this
    while (!this.done && bits.availableBits >= order + baseBits + (final ? 0 : 32)) {
      let difference = bits.read(order)
      if (difference === 1) {
        this.done = true
        if (baseBits > 0 && bits.availableBits >= baseBits) bits.read(baseBits)
        return
      }
      if (difference === 0) {
        if (bits.availableBits < 32 + baseBits) return
        difference = bits.read(32)
      }
      this.#index += difference - 2
      const base = baseBits === 0 ? 0 : bits.read(baseBits)
      tally.first ??= this.#index
      tally.last = this.#index
      this.take(base, this.#index, tally.records, sink)
    }
  }

  protected noteEnd(header: EpochHeader): void {
    const { tally } = this
    if (!this.done) tally.notes.push('the end mark is missing: the file is cut off')
    if (header.length !== 0 && header.length !== tally.records)
      tally.notes.push(`the header announces ${header.length} entries, the file holds ${tally.records}`)
  }
}

/** A T3 file of `width`-bit entries. */
export function encodeT3(epoch: number, extended: boolean, width: number, entries: readonly number[]): Uint8Array {
  const bits = new BitWriter()
  for (const entry of entries) bits.write(entry, width)
  const header = epochHeaderWords({ kind: 3, extended, epoch, length: entries.length, fields: [width] })
  return wordBytes([...header, ...bits.toWords()])
}

/** A T4 file; indices ascend (an index may repeat). */
export function encodeT4(
  options: { epoch: number; extended: boolean; order: number; baseBits: number },
  entries: readonly { index: number; base: number }[],
): Uint8Array {
  const { epoch, extended, order, baseBits } = options
  const bits = new BitWriter()
  let before = 0
  for (const { index, base } of entries) {
    writeDifference(bits, index - before + 2, order)
    if (baseBits > 0) bits.write(base, baseBits)
    before = index
  }
  bits.write(1, order)
  if (baseBits > 0) bits.write(0, baseBits)
  const header = epochHeaderWords({ kind: 4, extended, epoch, length: entries.length, fields: [order, baseBits] })
  return wordBytes([...header, ...bits.toWords()])
}

/** A T7 file: key bits (0 or 1) of `epochs` epochs from `firstEpoch` on. */
export function encodeT7(
  firstEpoch: number,
  extended: boolean,
  epochs: number,
  keyBits: ArrayLike<number>,
): Uint8Array {
  const bits = new BitWriter()
  for (let i = 0; i < keyBits.length; i++) bits.write(keyBits[i] ?? 0, 1)
  const header = epochHeaderWords({ kind: 7, extended, epoch: firstEpoch, length: epochs, fields: [keyBits.length] })
  return wordBytes([...header, ...bits.toWords()])
}
