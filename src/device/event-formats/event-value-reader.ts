import {
  deliver,
  newBatch,
  requireLittleEndian,
  TagTally,
  type TagBatch,
  type TagMark,
  type TagReader,
  type TagSink,
  type Words64,
} from './batch.js'
import { isLostWrap, lossyCounter, placeInWrap, type LossyCounter, type LostWraps } from './event-value-steps.js'
import type { WordOrder } from './event-values.js'
import { UNIT_256TH_NS, UNIT_8TH_NS, type TimeUnit } from './units.js'

export interface EventValueOptions {
  order: WordOrder
  /** Default `auto`. */
  lostWraps?: LostWraps
  /** Times in 1/256 ns (default) or, as epoch files have them, in 1/8 ns. */
  unit?: TimeUnit
  /** Two zero words end the stream (T1). */
  endMark?: boolean
}

const BATCH_EVENTS = 16_384
const STAGED_BYTES = 65_536
/** A step of the high word beyond this (69 s) is remembered, should the next record contradict it. */
const JUMP = 2 ** 22
/** So many records in a row behind the time line mean that it began anew. */
const RESTART_AFTER = 16
/** A second record behind the first by less than this (1 ms, in 1/256 ns) is out of order; by more, the first was wrong. */
const SWAPPED_UNITS = 2 ** 28

/** Where the time line stood before a jump, and the last event then. */
interface Jump extends Words64 {
  lastRepaired: number
  lastHigh: number
  lastLow: number
}

/**
 * Streaming reader of 64-bit event values (`a1`, `a1X`, T1 bodies, and through text `a0`, `a2`). Lost wraps are put back,
 * the 64-bit counter's own wrap (19.5 h) is followed, records out of place are left out and counted.
 */
export class EventValueReader implements TagReader {
  readonly unit: TimeUnit
  readonly tally = new TagTally(16)
  /** True once the end mark was read. */
  ended = false
  readonly #lowAt: 0 | 1
  readonly #shift: number
  readonly #lostWraps: LostWraps
  readonly #endMark: boolean
  readonly #staged = new Uint8Array(STAGED_BYTES)
  readonly #words = new Uint32Array(this.#staged.buffer)
  readonly #batch: TagBatch = newBatch(BATCH_EVENTS)
  readonly #seen = new Uint32Array(32)
  #stagedBytes = 0
  /** High word as repaired (beyond 32 bits after the counter's own wrap) and low word of the last record in place. */
  #high = -1
  #low = 0
  /** To be added to a written high word. */
  #offset = 0
  #lowBitsSeen = 0
  #dummySeen = false
  #dummyPlace: { counter: LossyCounter; place: number } | undefined
  #jumpedFrom: Jump | undefined
  #behindInARow = 0
  /** The last event in place: high word as repaired and as written, low word. */
  #lastRepaired = -1
  #lastHigh = 0
  #lastLow = 0
  #counter: LossyCounter | undefined

  constructor(options: EventValueOptions) {
    requireLittleEndian()
    this.#lowAt = options.order === 'lowFirst' ? 0 : 1
    this.unit = options.unit ?? UNIT_256TH_NS
    this.#shift = this.unit === UNIT_8TH_NS ? 15 : 10
    this.#lostWraps = options.lostWraps ?? 'auto'
    this.#endMark = options.endMark ?? false
  }

  /** The counter whose lost wraps were put back, if any. */
  get repairedCounter(): LossyCounter | undefined {
    return this.#counter
  }

  /** True while all times are multiples of 2 ns, as a TDC1's are. */
  get inStepsOf2ns(): boolean {
    return this.tally.records > 0 && lossyCounter('auto', this.#lowBitsSeen, false) !== undefined
  }

  push(chunk: Uint8Array, sink: TagSink): void {
    let offset = 0
    while (offset < chunk.length && !this.ended) {
      const taken = Math.min(chunk.length - offset, STAGED_BYTES - this.#stagedBytes)
      this.#staged.set(chunk.subarray(offset, offset + taken), this.#stagedBytes)
      this.#stagedBytes += taken
      offset += taken
      const eaten = 8 * this.#read(this.#stagedBytes >> 3, sink)
      this.#staged.copyWithin(0, eaten, this.#stagedBytes)
      this.#stagedBytes -= eaten
      if (this.ended) {
        this.tally.strayBytes += this.#stagedBytes
        this.#stagedBytes = 0
      }
    }
    this.tally.strayBytes += chunk.length - offset
    this.#settle(sink)
  }

  flush(sink: TagSink): void {
    this.#settle(sink)
  }

  end(sink: TagSink): void {
    this.flush(sink)
    if (this.#stagedBytes === 0) return
    this.tally.strayBytes += this.#stagedBytes
    this.tally.notes.push(`the last record is cut off after ${this.#stagedBytes} of 8 bytes`)
    this.#stagedBytes = 0
  }

  #read(count: number, sink: TagSink): number {
    const words = this.#words
    const seen = this.#seen
    const shift = this.#shift
    const rest = 32 - shift
    const scale = 2 ** shift
    const { times, patterns } = this.#batch
    const lowAt = this.#lowAt
    const highAt = 1 - lowAt
    let i = 0
    while (i < count) {
      if (this.#batch.count === BATCH_EVENTS) deliver(this.#batch, sink)
      let out = this.#batch.count
      const until = Math.min(count, i + BATCH_EVENTS - out)
      const offset = this.#offset
      const begun = out
      let high = this.#high
      let low = this.#low
      let bits = this.#lowBitsSeen
      if (high >= 0) {
        for (; i < until; i++) {
          const nextLow = words[2 * i + lowAt] ?? 0
          const nextHigh = (words[2 * i + highAt] ?? 0) + offset
          const step = nextHigh - high
          const kind = nextLow & 31
          if (step < 0 || step > JUMP || (kind - 1) >>> 0 > 14) break
          if (step === 0 && nextLow >>> 10 <= low >>> 10) break
          seen[kind] = (seen[kind] ?? 0) + 1
          times[2 * out] = (nextLow >>> shift) | (nextHigh << rest)
          times[2 * out + 1] = nextHigh / scale
          patterns[out] = kind
          bits |= nextLow
          high = nextHigh
          low = nextLow
          out += 1
        }
      }
      if (out > begun) {
        this.#high = high
        this.#low = low
        this.#lowBitsSeen = bits
        this.#lastRepaired = high
        this.#lastHigh = words[2 * i - 2 + highAt] ?? 0
        this.#lastLow = low
        this.#behindInARow = 0
        this.#jumpedFrom = undefined
        this.#batch.count = out
        if (this.tally.first === undefined) {
          const at = 2 * (i - (out - begun))
          const firstHigh = words[at + highAt] ?? 0
          this.tally.first = this.#mark(firstHigh + offset, words[at + lowAt] ?? 0, firstHigh)
        }
      }
      if (i >= until) continue
      const writtenHigh = words[2 * i + highAt] ?? 0
      const writtenLow = words[2 * i + lowAt] ?? 0
      i += 1
      if (this.#endMark && writtenHigh === 0 && writtenLow === 0) {
        this.ended = true
        return i
      }
      this.#takeUnusual(writtenHigh, writtenLow, sink)
    }
    return i
  }

  /** A dummy, the first record, a jump, a step back, or nonsense. */
  #takeUnusual(writtenHigh: number, low: number, sink: TagSink): void {
    const kind = low & 31
    this.#seen[kind] = (this.#seen[kind] ?? 0) + 1
    if (kind === 0) {
      this.tally.invalid += 1
      return
    }
    const isDummy = kind > 15
    this.#lowBitsSeen |= low & ~31
    if (isDummy) this.#dummySeen = true
    const high = writtenHigh + this.#offset
    const units = (high - this.#high) * 0x40_0000 + ((low >>> 10) - (this.#low >>> 10))
    const before = this.#jumpedFrom
    this.#jumpedFrom = undefined
    if (this.#high < 0 || units > 0) {
      if (units > 0 && high - this.#high > JUMP && !isDummy) this.#jumpedFrom = this.#here()
      return this.#accept(high, low, writtenHigh)
    }
    if (units === 0) {
      if (low !== this.#low) return this.#accept(high, low, writtenHigh)
      this.tally.repeated += 1
      this.tally.outOfOrder += 1
      return
    }
    if (high - this.#high < -0x8000_0000) {
      // The 64-bit value itself came round.
      this.tally.wraps += 1
      this.#offset += 0x1_0000_0000
      return this.#accept(high + 0x1_0000_0000, low, writtenHigh)
    }
    const counter = lossyCounter(this.#lostWraps, this.#lowBitsSeen, this.#dummySeen)
    if (counter !== undefined && this.#isLostWrap(counter, high, low, -units, isDummy)) {
      this.#counter = counter
      this.tally.wraps += 1
      this.#offset += counter.highWordStep
      return this.#accept(high + counter.highWordStep, low, writtenHigh)
    }
    const wasWrong = before !== undefined && (high > before.hi || (high === before.hi && low > before.lo))
    if (wasWrong && (before.hi >= 0 || -units > SWAPPED_UNITS)) {
      this.#retract(before, sink)
      return this.#accept(high, low, writtenHigh)
    }
    this.#behindInARow += 1
    if (this.#behindInARow < RESTART_AFTER) {
      this.tally.outOfOrder += 1
      return
    }
    this.tally.restarts += 1
    deliver(this.#batch, sink)
    sink.gap?.('the time line began anew')
    this.#accept(high, low, writtenHigh)
  }

  #isLostWrap(counter: LossyCounter, high: number, low: number, units: number, isDummy: boolean): boolean {
    return isLostWrap({
      counter,
      from: placeInWrap(this.#high, this.#low, counter),
      to: placeInWrap(high, low, counter),
      units,
      isDummy,
      dummyPlace: this.#dummyPlace?.counter === counter ? this.#dummyPlace.place : -1,
      meanGapUnits: this.#meanGapUnits(),
    })
  }

  #meanGapUnits(): number {
    const first = this.tally.first
    const events = this.tally.events + this.#batch.count
    if (first === undefined || events < 2) return Infinity
    // High words alone: good to 16 ms, and the mean is only compared with wraps.
    const scale = 2 ** (32 - this.#shift)
    const firstHigh = (first.time.hi * 0x1_0000_0000 + first.time.lo) / scale
    return Math.max(((this.#high - firstHigh) * 0x40_0000) / events, 1)
  }

  #accept(high: number, low: number, writtenHigh: number): void {
    this.#high = high
    this.#low = low
    this.#behindInARow = 0
    if (low & 16) {
      const counter = lossyCounter(this.#lostWraps, this.#lowBitsSeen, true)
      if (counter !== undefined && this.#dummyPlace?.counter !== counter)
        this.#dummyPlace = { counter, place: placeInWrap(high, low, counter) }
      return
    }
    const { count, times, patterns } = this.#batch
    times[2 * count] = (low >>> this.#shift) | (high << (32 - this.#shift))
    times[2 * count + 1] = high / 2 ** this.#shift
    patterns[count] = low & 15
    this.#batch.count = count + 1
    this.#lastRepaired = high
    this.#lastHigh = writtenHigh
    this.#lastLow = low
    this.tally.first ??= this.#mark(high, low, writtenHigh)
  }

  #here(): Jump {
    return {
      hi: this.#high,
      lo: this.#low,
      lastRepaired: this.#lastRepaired,
      lastHigh: this.#lastHigh,
      lastLow: this.#lastLow,
    }
  }

  /** The event taken last jumped ahead, and what follows does not agree. */
  #retract(before: Jump, sink: TagSink): void {
    const { tally } = this
    tally.invalid += 1
    const first = tally.first?.value
    if (first?.hi === this.#lastHigh && first.lo === this.#lastLow) tally.first = undefined
    if (this.#batch.count === 0) return sink.gap?.('a detection handed on before turned out to be out of place')
    this.#batch.count -= 1
    this.#lastRepaired = before.lastRepaired
    this.#lastHigh = before.lastHigh
    this.#lastLow = before.lastLow
  }

  #mark(high: number, low: number, writtenHigh: number): TagMark {
    const time = (hi: number): Words64 => ({
      hi: Math.floor(hi / 2 ** this.#shift),
      lo: ((low >>> this.#shift) | (hi << (32 - this.#shift))) >>> 0,
    })
    return {
      time: time(high),
      writtenTime: time(writtenHigh),
      value: { hi: writtenHigh, lo: low },
      pattern: low & 15,
    }
  }

  #settle(sink: TagSink): void {
    const { tally } = this
    if (this.#lastRepaired >= 0) tally.last = this.#mark(this.#lastRepaired, this.#lastLow, this.#lastHigh)
    deliver(this.#batch, sink)
    for (let kind = 0; kind < 32; kind++) {
      const count = this.#seen[kind] ?? 0
      if (count === 0) continue
      this.#seen[kind] = 0
      tally.records += count
      if (kind > 15) tally.dummies += count
      else {
        tally.events += count
        tally.patterns[kind] = (tally.patterns[kind] ?? 0) + count
      }
    }
  }
}
