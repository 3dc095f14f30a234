/** How well the beginning of a file reads as each of the binary formats that carry no mark of their own. */
import { CQP_RECORD_BYTES, QUTAG_HEADER_BYTES, QUTAG_RECORD_BYTES } from './channel-lists.js'
import { isNoxRecord, NOX_RECORD_BYTES } from './nox.js'
import { isDummyInPlace, isEvent, limitOfFirstWords, plausiblePairs } from './tdc1-plausibility.js'
import { TDC1_DUMMY_BIT, TDC1_DUMMY_TICK, TDC1_HALF_TICKS } from './tdc1-words.js'

/** Longest pause between two records that a reading may need: 1.1 s in ps. */
const LONG_STEP_PS = 2n ** 40n

/** A reading: whether it holds, and how sure that is. */
export interface Reading {
  holds: boolean
  /** Set where the content proves it: nothing else reads so. */
  certain: boolean
}

const NO: Reading = { holds: false, certain: false }

/** The sample's whole little-endian words. */
export function wordsOf(sample: Uint8Array): Uint32Array {
  const whole = sample.length - (sample.length % 4)
  return new Uint32Array(sample.slice(0, whole).buffer)
}

/** Raw TDC1 words. */
export function readsAsTdc1(words: Uint32Array): Reading {
  const count = words.length
  if (count < 2) return NO
  let repeats = 0
  let inPlace = 0
  for (let i = 0; i < count; i++) {
    const word = words[i] ?? 0
    const isDummy = (word & TDC1_DUMMY_BIT) !== 0
    if (isDummy && ((word >>> 5) & (TDC1_HALF_TICKS - 1)) === TDC1_DUMMY_TICK) inPlace += 1
    // Events do not hit the very tick of a wrap before; the high words of 64-bit values do.
    if (!isDummy && i >= 2 && word === words[i - 2]) repeats += 1
  }
  if (repeats * 10 > count) return NO
  const first = words[0] ?? 0
  const good =
    plausiblePairs(words, 0, count, limitOfFirstWords(words, count)) + (isEvent(first) || isDummyInPlace(first) ? 1 : 0)
  return { holds: good >= count * 0.9, certain: good >= count * 0.9 && (count >= 32 || inPlace > 0) }
}

export interface ValueReading extends Reading {
  /** Share of records that stand behind the one before, lost wraps included. */
  backShare: number
  /** From the lowest to the highest value. */
  span: bigint
}

/** A step back by less than this is a lost wrap where times come in steps of 2 ns (TDC1), in units of the value. */
const TDC1_WRAP_VALUE = 2n ** 46n
/** The same where there are dummies (the card's fast mode). */
const CARD_WRAP_VALUE = 2n ** 36n
const BELOW_2_NS = 0x7_ffe0

/** 64-bit event values; `lowAt` is the place of the low word in each pair. */
export function readsAsValues(words: Uint32Array, lowAt: 0 | 1): ValueReading {
  const count = words.length >> 1
  let back = 0
  let lostByTdc1 = 0
  let lostByCard = 0
  let lowBits = 0
  let dummies = 0
  let clicks = 0
  let before = -1n
  let lowest = 2n ** 64n
  let highest = 0n
  for (let i = 0; i < count; i++) {
    const low = words[2 * i + lowAt] ?? 0
    const value = (BigInt(words[2 * i + 1 - lowAt] ?? 0) << 32n) | BigInt(low)
    if (value < before) {
      back += 1
      if (before - value < TDC1_WRAP_VALUE) lostByTdc1 += 1
      if (before - value < CARD_WRAP_VALUE) lostByCard += 1
    }
    if ((low & 31) !== 0) clicks += 1
    if ((low & 16) !== 0) dummies += 1
    lowBits |= low
    if (value < lowest) lowest = value
    if (value > highest) highest = value
    before = value
  }
  const explained = (lowBits & BELOW_2_NS) === 0 ? lostByTdc1 : dummies > 0 ? lostByCard : 0
  const steps = count - 1
  return {
    // Of a slow source up to half of the records may stand behind a lost wrap.
    holds: count >= 2 && back - explained <= steps * 0.1 && back <= steps * 0.6 && clicks >= count * 0.9,
    certain: false,
    backShare: count < 2 ? 1 : back / steps,
    span: count === 0 ? 0n : highest - lowest,
  }
}

/** NOX records. */
export function readsAsNox(sample: Uint8Array): Reading {
  const count = Math.floor(sample.length / NOX_RECORD_BYTES)
  let good = 0
  for (let i = 0; i < count; i++) if (isNoxRecord(sample, NOX_RECORD_BYTES * i)) good += 1
  return { holds: count >= 2 && good === count, certain: count >= 4 && good === count }
}

/** A quTAG file. */
export function readsAsQutag(sample: Uint8Array): Reading {
  return readsAsList(sample, QUTAG_HEADER_BYTES, QUTAG_RECORD_BYTES, true)
}

/** A CQPToolkit detection list. */
export function readsAsCqp(sample: Uint8Array): Reading {
  return readsAsList(sample, 0, CQP_RECORD_BYTES, false)
}

function readsAsList(sample: Uint8Array, header: number, size: number, littleEndian: boolean): Reading {
  const count = Math.floor((sample.length - header) / size)
  if (count < 3) return NO
  const view = new DataView(sample.buffer, sample.byteOffset, sample.byteLength)
  let near = 0
  let forward = 0
  let channels = 0
  let before = 0n
  for (let i = 0; i < count; i++) {
    const at = header + size * i
    const time = view.getBigUint64(at, littleEndian)
    const step = time - before
    if (i > 0 && step >= 0n) forward += 1
    if (i > 0 && step < LONG_STEP_PS && step > -LONG_STEP_PS) near += 1
    if (littleEndian ? view.getUint16(at + 8, true) < 256 : view.getUint8(at + 8) < 16) channels += 1
    before = time
  }
  const steps = count - 1
  const holds = channels === count && near >= steps * 0.95 && forward >= steps * 0.9
  return { holds, certain: holds && count >= 16 }
}
