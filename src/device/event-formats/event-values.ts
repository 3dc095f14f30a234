/**
 * The 64-bit event value of S-Fifteen's and CQT's readers: time in the top bits (1/256 ns at bit 10, 1/8 ns at bit 15,
 * 2 ns at bit 19), bits 9..5 belong to the unit, bit 4 marks a dummy, bits 3..0 are the inputs. Values here are pairs
 * of unsigned words; BigInt appears only outside of loops.
 */
import type { Words64 } from './batch.js'

/** Order of a value's two words in a binary or hexadecimal file. */
export type WordOrder = 'lowFirst' | 'highFirst'

/** Units of 1/256 ns after which the 4 ps card's fast mode counts anew: 262.144 µs. */
export const FAST_WRAP_UNITS = 2 ** 26

/** The value of a time in 1/256 ns (below 2^54) and a pattern. */
export function eventValue(time256thNs: bigint, pattern: number, dummy = false): bigint {
  return BigInt.asUintN(64, time256thNs << 10n) | (dummy ? 0x10n : 0n) | BigInt(pattern & 15)
}

/** The value that the TDC1's reader writes for a record word after `wraps` wraps. */
export function valueOfTdc1Word(word: number, wraps: number): bigint {
  const ticks = (BigInt(wraps) << 27n) | BigInt(word >>> 5)
  return BigInt.asUintN(64, ticks << 19n) | BigInt(word & 31)
}

/** The value that the card's reader writes in fast mode for a 32-bit word after `wraps` wraps that it noticed. */
export function valueOfFastWord(word: number, wraps: number): bigint {
  const upper = (BigInt(wraps) << 32n) | BigInt((word & ~0x3f) >>> 0)
  return BigInt.asUintN(64, upper << 4n) | 0x300n | BigInt(word & 0x3f)
}

/** Values as bytes of a binary file (`a1`: low word first, `a1X`: high word first). */
export function valueBytes(values: readonly bigint[], order: WordOrder): Uint8Array {
  const bytes = new Uint8Array(8 * values.length)
  const view = new DataView(bytes.buffer)
  values.forEach((value, i) => {
    const lo = Number(value & 0xffff_ffffn)
    const hi = Number(value >> 32n)
    view.setUint32(8 * i, order === 'lowFirst' ? lo : hi, true)
    view.setUint32(8 * i + 4, order === 'lowFirst' ? hi : lo, true)
  })
  return bytes
}

/** Values as text (`a0`: 8 digits a line, low word first; `a2`: 16 digits a line). */
export function valueText(values: readonly bigint[], form: 'a0' | 'a2'): string {
  const lines = values.map((value) => {
    const digits = value.toString(16).padStart(16, '0')
    return form === 'a2' ? `${digits}\n` : `${digits.slice(8)}\n${digits.slice(0, 8)}\n`
  })
  return lines.join('')
}

/** A value as people compare it: 16 hexadecimal digits. */
export function hexOf(value: Words64): string {
  return (value.hi >>> 0).toString(16).padStart(8, '0') + (value.lo >>> 0).toString(16).padStart(8, '0')
}
