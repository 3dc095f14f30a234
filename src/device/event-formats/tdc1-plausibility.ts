/**
 * Which record may follow which in a TDC1 stream. The unit puts a dummy behind every half of its counter's range that
 * held no event, so records are never a whole wrap apart: a lower time is a wrap, unless what is known of the stream
 * says that it is a record out of its place.
 */
import { TDC1_DUMMY_BIT, TDC1_DUMMY_TICK, TDC1_HALF_TICKS, TDC1_WRAP_TICKS } from './tdc1-words.js'

const HALF_MASK = TDC1_HALF_TICKS - 1
const WRAP_MASK = TDC1_WRAP_TICKS - 1
/** How far a dummy may be from its place in its half; all recordings have it exactly there. */
const DUMMY_JITTER_TICKS = 64
/** A step that misses a whole wrap by less than 1 µs is two neighbours swapped, not a wait of 268 ms. */
const SWAP_TICKS = 512
/** No step is called too long for a stream's rate below this: 2 µs. */
const SHORTEST_LIMIT_TICKS = 2 ** 10
/** A step this many mean gaps long happens once in e^64 with random clicks. */
const GAPS_IN_LIMIT = 64

/** Longest step taken without looking at what follows, where nothing is known of the rate. */
export const WIDEST_LIMIT_TICKS = TDC1_HALF_TICKS

/** Ticks from `from` to `to`, going forward, less than a wrap. */
export function forwardTicks(from: number, to: number): number {
  return (to - from) & WRAP_MASK
}

/** The longest step that needs no second look, for a mean distance of events. */
export function limitTicks(meanGapTicks: number): number {
  return Math.min(WIDEST_LIMIT_TICKS, Math.max(SHORTEST_LIMIT_TICKS, Math.ceil(meanGapTicks * GAPS_IN_LIMIT)))
}

/** True for a dummy where dummies stand. */
export function isDummyInPlace(word: number): boolean {
  return (word & TDC1_DUMMY_BIT) !== 0 && Math.abs(((word >>> 5) & HALF_MASK) - TDC1_DUMMY_TICK) <= DUMMY_JITTER_TICKS
}

/** True for a record that may be an event: an input is set and it is no dummy. */
export function isEvent(word: number): boolean {
  return ((word & 31) - 1) >>> 0 <= 14
}

/** True where `next` may come right after a record at `tick`, in a stream whose steps are `limit` at most. */
export function mayFollow(tick: number, next: number, limit: number): boolean {
  if (isDummyInPlace(next)) return true
  if (!isEvent(next)) return false
  const nextTick = next >>> 5
  const step = forwardTicks(tick, nextTick)
  if (step === 0) return false
  if (step <= limit) return true
  if (limit < WIDEST_LIMIT_TICKS) return false
  // Two boundaries crossed: the half between them was empty, so a dummy is due before this event.
  if (((tick ^ nextTick) & TDC1_HALF_TICKS) === 0) return (nextTick & HALF_MASK) <= TDC1_DUMMY_TICK + DUMMY_JITTER_TICKS
  return step <= TDC1_WRAP_TICKS - SWAP_TICKS
}

/** Of the neighbours among `count` words beginning at `at`, how many may follow each other. */
export function plausiblePairs(words: Uint32Array, at: number, count: number, limit: number): number {
  let good = 0
  for (let i = at + 1; i < at + count; i++) {
    const before = words[i - 1] ?? 0
    if ((isEvent(before) || isDummyInPlace(before)) && mayFollow(before >>> 5, words[i] ?? 0, limit)) good += 1
  }
  return good
}

/** A first idea of the limit: from the median step of the words at hand, which a few misplaced records cannot move. */
export function limitOfFirstWords(words: Uint32Array, count: number): number {
  const sample = Math.min(count, 65)
  if (sample < 17) return WIDEST_LIMIT_TICKS
  const steps: number[] = []
  for (let i = 1; i < sample; i++) steps.push(forwardTicks((words[i - 1] ?? 0) >>> 5, (words[i] ?? 0) >>> 5))
  steps.sort((a, b) => a - b)
  // The median of random gaps is ln 2 of their mean.
  return limitTicks((steps[steps.length >> 1] ?? 0) / Math.LN2)
}
