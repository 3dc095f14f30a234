/**
 * What a step back means in a file of 64-bit event values. The readers that write such files lose wraps of the unit's
 * short counter where a half of its range held no event; the file then steps back, by less than one wrap, and everything
 * after it is too early by one.
 */
import { FAST_WRAP_UNITS } from './event-values.js'

/** Which counter's wraps a file may have lost. `auto`: told by the resolution of its times and by its dummies. */
export type LostWraps = 'auto' | 'card' | 'tdc1' | 'none'

/** A counter whose wraps get lost, in units of 1/256 ns. */
export interface LossyCounter {
  readonly name: string
  readonly wrapUnits: number
  /** What one wrap adds to the value's high word. */
  readonly highWordStep: number
}

export const CARD_COUNTER: LossyCounter = {
  name: "the 4 ps card's fast mode (wraps of 262.144 µs)",
  wrapUnits: FAST_WRAP_UNITS,
  highWordStep: 16,
}
export const TDC1_COUNTER: LossyCounter = {
  name: 'the TDC1 (wraps of 268.435456 ms)',
  wrapUnits: 2 ** 36,
  highWordStep: 2 ** 14,
}

/** Value bits 5 to 18: zero where times come in steps of 2 ns. */
const BELOW_2_NS = 0x7_ffe0
/** Dummies stand on one place of each half, give or take a few counts. */
const DUMMY_JITTER_UNITS = 64
/** A step this many mean gaps long is not believed. */
const GAPS_IN_LIMIT = 64

/** The counter whose wraps are lost, as far as the values read until now tell. */
export function lossyCounter(setting: LostWraps, lowBitsSeen: number, dummiesSeen: boolean): LossyCounter | undefined {
  if (setting === 'card') return CARD_COUNTER
  if (setting === 'tdc1') return TDC1_COUNTER
  if (setting === 'none') return undefined
  if ((lowBitsSeen & BELOW_2_NS) === 0) return TDC1_COUNTER
  return dummiesSeen ? CARD_COUNTER : undefined
}

/** Place in the counter's range: `high` and `low` are the value's words. */
export function placeInWrap(high: number, low: number, counter: LossyCounter): number {
  return ((high % 0x1_0000) * 0x40_0000 + (low >>> 10)) % counter.wrapUnits
}

export interface BackStep {
  counter: LossyCounter
  /** Places of the record before and of this one in the counter's range. */
  from: number
  to: number
  /** How far back, in units; positive. */
  units: number
  isDummy: boolean
  /** Place of a dummy seen in this file, or -1. */
  dummyPlace: number
  /** Mean distance of the events so far, in units; Infinity while unknown. */
  meanGapUnits: number
}

/** True where a lost wrap explains the step back better than a record out of place. */
export function isLostWrap(step: BackStep): boolean {
  const { counter, units } = step
  if (units >= counter.wrapUnits) return false
  if (step.isDummy) return true
  if (step.dummyPlace < 0) return counter.wrapUnits - units <= step.meanGapUnits * GAPS_IN_LIMIT
  const half = counter.wrapUnits / 2
  const shift = counter.wrapUnits - step.dummyPlace + DUMMY_JITTER_UNITS
  const from = (step.from + shift) % counter.wrapUnits
  const to = (step.to + shift) % counter.wrapUnits
  // In the same half again: the other one was empty, so a dummy would stand before this event.
  return from >= half !== to >= half || to % half < 2 * DUMMY_JITTER_UNITS
}
