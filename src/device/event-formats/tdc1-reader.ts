import {
  deliver,
  newBatch,
  requireLittleEndian,
  TagTally,
  type TagBatch,
  type TagMark,
  type TagReader,
  type TagSink,
} from './batch.js'
import {
  forwardTicks,
  isDummyInPlace,
  isEvent,
  limitOfFirstWords,
  limitTicks,
  mayFollow,
  plausiblePairs,
  WIDEST_LIMIT_TICKS,
} from './tdc1-plausibility.js'
import { TDC1_HALF_TICKS, TDC1_WRAP_TICKS } from './tdc1-words.js'
import { UNIT_2_NS } from './units.js'

const BATCH_EVENTS = 16_384
const STAGED_BYTES = 65_536
/** Records looked at to settle what a doubtful one is. */
const WINDOW = 12
/** Shifts tried when a window makes no sense: the unit loses 16-bit words, a line bytes. */
const SHIFTS = [2, 1, 3]
/** Behind a gap, a time lower by less than this (2 ms) is no wrap: what stood before the gap was wrong. */
const SAME_WRAP_TICKS = 2 ** 20

/**
 * Streaming reader of raw TDC1 records (also known as `-a4` files). Wraps are counted by "lower than the record before",
 * dummies included, which the unit's own rule makes exact; records out of place, repeated or impossible are left out and
 * counted, and a stream that slipped by some bytes is caught again and the place marked as a gap.
 * A doubtful record waits for up to eleven successors; `flush` settles it at once.
 */
export class Tdc1Reader implements TagReader {
  readonly unit = UNIT_2_NS
  readonly tally = new TagTally(16)
  readonly #staged = new Uint8Array(STAGED_BYTES)
  readonly #words = new Uint32Array(this.#staged.buffer)
  readonly #shifted = new Uint32Array(WINDOW)
  readonly #batch: TagBatch = newBatch(BATCH_EVENTS)
  /** Records by their low five bits, moved to the tally after each push. */
  readonly #seen = new Uint32Array(32)
  #stagedBytes = 0
  /** Tick of the last record in place; -1 before the first. */
  #tick = -1
  #wraps = 0
  /** The same for the record before that one, should it turn out to have been wrong. */
  #tickBefore = -1
  #wrapsBefore = 0
  /** The same for the record before the last step that was taken although it was long. */
  #beforeLongStep: { tick: number; wraps: number; limit: number; records: number } | undefined
  /** The last record in place, where it may repeat. */
  #word = -1
  #limit = WIDEST_LIMIT_TICKS
  #limitKnown = false
  #ratedTick = 0
  #ratedEvents = 0
  #acceptNext = false

  constructor() {
    requireLittleEndian()
  }

  push(chunk: Uint8Array, sink: TagSink): void {
    let offset = 0
    while (offset < chunk.length) {
      const taken = Math.min(chunk.length - offset, STAGED_BYTES - this.#stagedBytes)
      this.#staged.set(
        offset === 0 && taken === chunk.length ? chunk : chunk.subarray(offset, offset + taken),
        this.#stagedBytes,
      )
      this.#stagedBytes += taken
      offset += taken
      this.#drain(sink, false)
    }
    this.#settle(sink)
  }

  flush(sink: TagSink): void {
    this.#drain(sink, true)
    this.#settle(sink)
  }

  end(sink: TagSink): void {
    this.flush(sink)
    if (this.#stagedBytes > 0) {
      this.tally.strayBytes += this.#stagedBytes
      this.tally.notes.push(`the last record is cut off after ${this.#stagedBytes} of 4 bytes`)
      this.#stagedBytes = 0
    }
  }

  /** Bytes were lost here (the unit's FIFO ran over, the line closed): what follows begins anew on a record limit. */
  interrupt(sink: TagSink, reason: string): void {
    this.flush(sink)
    this.tally.strayBytes += this.#stagedBytes
    this.#stagedBytes = 0
    this.#acceptNext = true
    sink.gap?.(reason)
  }

  #drain(sink: TagSink, final: boolean): void {
    for (;;) {
      const complete = this.#stagedBytes >> 2
      const eaten = this.#read(complete, final, sink)
      const shift =
        eaten < complete && !(complete - eaten < WINDOW && !final) ? this.#realign(eaten, complete, sink) : 0
      const bytes = 4 * eaten + shift
      this.#staged.copyWithin(0, bytes, this.#stagedBytes)
      this.#stagedBytes -= bytes
      if (shift === 0) return
    }
  }

  /** Reads words until the end or one that is not where the stream seems to be; returns how many it took. */
  #read(count: number, final: boolean, sink: TagSink): number {
    if (!this.#limitKnown && count >= 17) {
      this.#limit = limitOfFirstWords(this.#words, count)
      this.#limitKnown = true
    }
    const words = this.#words
    const seen = this.#seen
    const { times, patterns } = this.#batch
    let i = 0
    while (i < count) {
      if (this.#batch.count === BATCH_EVENTS) this.#deliver(sink)
      // The straight road: an event a plausible step ahead.
      let out = this.#batch.count
      const until = Math.min(count, i + BATCH_EVENTS - out)
      const limit = this.#limit
      const wrapLo = (this.#wraps & 31) << 27
      const wrapHi = Math.floor(this.#wraps / 32)
      let tick = this.#tick
      const begun = out
      if (!this.#acceptNext && tick >= 0) {
        for (; i < until; i++) {
          const word = words[i] ?? 0
          const next = word >>> 5
          const step = next - tick
          const low = word & 31
          if (step <= 0 || step > limit || (low - 1) >>> 0 > 14) break
          seen[low] = (seen[low] ?? 0) + 1
          times[2 * out] = wrapLo | next
          times[2 * out + 1] = wrapHi
          patterns[out] = low
          tick = next
          out += 1
        }
      }
      if (out > begun) {
        this.#tickBefore = out - begun > 1 ? (words[i - 2] ?? 0) >>> 5 : this.#tick
        this.#wrapsBefore = this.#wraps
        this.#tick = tick
        this.#word = words[i - 1] ?? 0
        if (this.tally.first === undefined) this.tally.first = this.#mark(words[i - (out - begun)] ?? 0, this.#wraps)
        this.#batch.count = out
      }
      if (i >= until) continue
      const word = words[i] ?? 0
      if (this.#acceptNext || this.#tick < 0) {
        if (isEvent(word) || isDummyInPlace(word)) this.#accept(word)
        else this.#leaveOut(word, 'invalid')
        i += 1
        continue
      }
      if (mayFollow(this.#tick, word, this.#limit) && word !== this.#word) {
        this.#accept(word)
        i += 1
        continue
      }
      if (word === this.#word) {
        this.tally.repeated += 1
        this.#leaveOut(word, 'outOfOrder')
        if (isDummyInPlace(word)) this.#doubt(sink, 'a dummy comes twice: it was repeated, or a whole wrap is missing')
        i += 1
        continue
      }
      const window = Math.min(WINDOW, count - i)
      if (window < WINDOW && !final) return i
      if (this.#bestShift(i, window) !== 0) return i
      if (window >= 4 && plausiblePairs(words, i, window, this.#limit) * 2 < window - 1) {
        // No reading of the next records fits the rate: the rate must have changed.
        this.#limit = WIDEST_LIMIT_TICKS
        this.#limitKnown = false
        if (mayFollow(this.#tick, word, this.#limit)) continue
      }
      i += this.#settleDoubt(i, window, sink)
    }
    return i
  }

  /** Takes a record whose successors are known; returns how many records that settled. */
  #settleDoubt(at: number, window: number, sink: TagSink): number {
    const word = this.#words[at] ?? 0
    const tick = word >>> 5
    if (!isEvent(word)) {
      this.#leaveOut(word, 'invalid')
      return 1
    }
    if (window < 2) {
      // Nothing came after it, so a pause is no surprise.
      if (mayFollow(this.#tick, word, WIDEST_LIMIT_TICKS)) this.#accept(word)
      else this.#acceptDoubtful(word, sink)
      return 1
    }
    const next = this.#words[at + 1] ?? 0
    const toThis = forwardTicks(this.#tick, tick)
    const toNext = forwardTicks(this.#tick, next >>> 5)
    const behind = TDC1_WRAP_TICKS - toThis
    if (toThis === 0) {
      // The same tick with other inputs: the unit would have made one record of it.
      this.#leaveOut(word, 'outOfOrder')
    } else if (isDummyInPlace(next) && mayFollow(this.#tick, word, WIDEST_LIMIT_TICKS)) {
      // A dummy says that the source has become slow.
      this.#accept(word)
    } else if (
      isDummyInPlace(next) &&
      toThis - toNext < this.#limit &&
      ((tick ^ (next >>> 5)) & TDC1_HALF_TICKS) === 0
    ) {
      // A dummy that was due before this event stands behind it.
      this.#accept(word)
      this.#leaveOut(next, 'outOfOrder')
      return 2
    } else if (toThis > toNext && mayFollow(this.#tick, next, this.#limit)) {
      this.#leaveOut(word, behind <= this.#limit ? 'outOfOrder' : 'invalid')
    } else if (this.#lastWasWrong(word)) {
      this.#retract(sink)
      this.#accept(word)
    } else if (toThis <= toNext) {
      // On the way to the next one: only the step was long.
      this.tally.longSteps += 1
      this.#beforeLongStep = {
        tick: this.#tick,
        wraps: this.#wraps,
        limit: this.#limit,
        records: this.#recordsSoFar(),
      }
      this.#accept(word)
    } else {
      this.#acceptDoubtful(word, sink)
    }
    return 1
  }

  #accept(word: number): void {
    const low = word & 31
    const tick = word >>> 5
    this.#tickBefore = this.#tick
    this.#wrapsBefore = this.#wraps
    if (tick < this.#tick && !(this.#acceptNext && this.#tick - tick < Math.min(this.#limit, SAME_WRAP_TICKS))) {
      this.#wraps += 1
      this.tally.wraps += 1
    }
    this.#tick = tick
    this.#word = word
    this.#acceptNext = false
    this.#seen[low] = (this.#seen[low] ?? 0) + 1
    if (low > 15) return
    const batch = this.#batch
    if (this.tally.first === undefined) this.tally.first = this.#mark(word, this.#wraps)
    batch.times[2 * batch.count] = ((this.#wraps & 31) << 27) | tick
    batch.times[2 * batch.count + 1] = Math.floor(this.#wraps / 32)
    batch.patterns[batch.count] = low
    batch.count += 1
  }

  #acceptDoubtful(word: number, sink: TagSink): void {
    this.#doubt(sink, 'a step in time that the records around it do not explain')
    this.#accept(word)
  }

  #doubt(sink: TagSink, reason: string): void {
    this.tally.doubtful += 1
    this.#deliver(sink)
    sink.gap?.(reason)
  }

  #leaveOut(word: number, why: 'outOfOrder' | 'invalid'): void {
    const low = word & 31
    this.#seen[low] = (this.#seen[low] ?? 0) + 1
    this.tally[why] += 1
  }

  /** True where `word` fits the record before the last one, but not the last one: that one was out of place then. */
  #lastWasWrong(word: number): boolean {
    return (
      this.#limit < WIDEST_LIMIT_TICKS &&
      this.#tickBefore >= 0 &&
      isEvent(this.#word) &&
      !mayFollow(this.#tick, word, this.#limit) &&
      mayFollow(this.#tickBefore, word, this.#limit)
    )
  }

  /** The record taken last was the one out of place. It cannot be called back once it was delivered. */
  #retract(sink: TagSink): void {
    const tally = this.tally
    const wrapped = this.#wraps - this.#wrapsBefore
    this.#wraps -= wrapped
    tally.wraps -= wrapped
    tally.invalid += 1
    this.#tick = this.#tickBefore
    this.#tickBefore = -1
    if (this.#batch.count === 0) return sink.gap?.('a detection handed on before turned out to be out of place')
    this.#batch.count -= 1
    if (this.#batch.count === 0 && tally.last === undefined) tally.first = undefined
  }

  /** The shift by which the records of the window make clearly more sense than as they stand, or 0. */
  #bestShift(at: number, window: number): number {
    if (window < 6) return 0
    const bytes = this.#staged.subarray(4 * at, 4 * (at + window))
    const shifted = new Uint8Array(this.#shifted.buffer)
    const unshifted = plausiblePairs(this.#words, at, window, this.#limit)
    let best = 0
    let most = Math.max(Math.ceil((window - 2) * 0.75), unshifted + 3) - 1
    for (const shift of SHIFTS) {
      shifted.set(bytes.subarray(shift))
      const good = plausiblePairs(this.#shifted, 0, window - 1, this.#limit)
      if (good <= most) continue
      best = shift
      most = good
    }
    return best
  }

  #realign(at: number, complete: number, sink: TagSink): number {
    const window = Math.min(WINDOW, complete - at)
    const shift = this.#bestShift(at, window)
    if (shift === 0) return 0
    this.tally.slips += 1
    this.tally.strayBytes += shift
    const next = this.#shiftedWord(at, shift)
    if (this.#lastWasWrong(next)) this.#retract(sink)
    else this.#takeBackLongStep(next)
    this.#deliver(sink)
    this.#acceptNext = true
    sink.gap?.(`the stream slipped: ${4 - shift} bytes were lost`)
    return shift
  }

  #recordsSoFar(): number {
    return this.#seen.reduce((sum, count) => sum + count, this.tally.records)
  }

  /** A long step just before a slip was the slip itself, read as a few records of a slow source: time goes on before it. */
  #takeBackLongStep(next: number): void {
    const before = this.#beforeLongStep
    if (before === undefined || this.#recordsSoFar() - before.records > WINDOW) return
    if (mayFollow(this.#tick, next, before.limit) || !mayFollow(before.tick, next, before.limit)) return
    this.tally.wraps -= this.#wraps - before.wraps
    this.#wraps = before.wraps
    this.#tick = before.tick
    this.#tickBefore = -1
  }

  #shiftedWord(at: number, shift: number): number {
    const byte = (i: number): number => this.#staged[4 * at + shift + i] ?? 0
    return (byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24)) >>> 0
  }

  #mark(word: number, wraps: number): TagMark {
    const tick = word >>> 5
    return {
      time: { hi: Math.floor(wraps / 32), lo: (((wraps & 31) << 27) | tick) >>> 0 },
      writtenTime: { hi: 0, lo: tick },
      value: { hi: 0, lo: word },
      pattern: word & 15,
    }
  }

  /** Hands over the batch and notes its last detection. */
  #deliver(sink: TagSink): void {
    const { count, times, patterns } = this.#batch
    if (count === 0) return
    const lo = times[2 * count - 2] ?? 0
    const pattern = patterns[count - 1] ?? 0
    const tick = lo & (TDC1_WRAP_TICKS - 1)
    this.tally.last = {
      time: { hi: times[2 * count - 1] ?? 0, lo },
      writtenTime: { hi: 0, lo: tick },
      value: { hi: 0, lo: ((tick << 5) | pattern) >>> 0 },
      pattern,
    }
    deliver(this.#batch, sink)
  }

  /** After a push: hands over, counts, and looks at the rate anew. */
  #settle(sink: TagSink): void {
    const tally = this.tally
    this.#deliver(sink)
    const seen = this.#seen
    let events = 0
    for (let low = 0; low < 32; low++) {
      const count = seen[low] ?? 0
      if (count === 0) continue
      tally.records += count
      if (low > 15) tally.dummies += count
      else {
        events += count
        tally.patterns[low] = (tally.patterns[low] ?? 0) + count
      }
      seen[low] = 0
    }
    tally.events += events
    this.#ratedEvents += events
    if (this.#ratedEvents < 64) return
    const now = this.#wraps * TDC1_WRAP_TICKS + this.#tick
    this.#limit = limitTicks((now - this.#ratedTick) / this.#ratedEvents)
    this.#limitKnown = true
    this.#ratedTick = now
    this.#ratedEvents = 0
  }
}
