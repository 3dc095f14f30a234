/** One record of the TDC1: u32 little-endian, bits 31..5 time in 2 ns ticks, bit 4 dummy, bits 3..0 the inputs that clicked. */

/** Ticks of the 27-bit counter: it wraps every 268.435456 ms. */
export const TDC1_WRAP_TICKS = 2 ** 27
/** A dummy follows each half of the counter's range that held no event. */
export const TDC1_HALF_TICKS = 2 ** 26
/** Where in its half a dummy stands. */
export const TDC1_DUMMY_TICK = 3960
export const TDC1_DUMMY_BIT = 0x10
/** Pattern bits that dummies carry. */
export const TDC1_DUMMY_PATTERN = 1

/** The record's number. `tick` may be any non-negative integer below 2^53; its low 27 bits are kept. */
export function tdc1Word(tick: number, pattern: number, dummy = false): number {
  return ((tick % TDC1_WRAP_TICKS) * 32 + (dummy ? TDC1_DUMMY_BIT : 0) + (pattern & 15)) >>> 0
}

/** Record words as the bytes on the line. */
export function tdc1Bytes(words: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(words.length * 4)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < words.length; i++) view.setUint32(4 * i, words[i] ?? 0, true)
  return bytes
}

export interface Tdc1Click {
  /** Ticks since the counter's zero, not wrapped. */
  tick: number
  /** Inputs, 1 to 15. */
  pattern: number
}

/**
 * Makes the unit's record stream out of ascending clicks: clicks of one tick merge, and where none came from one dummy
 * place to the next, a dummy stands there. (Whether the unit counts from place to place or from half to half is not
 * known; only so are two records never a whole wrap apart.) Feed it one click at a time.
 */
export class Tdc1Encoder {
  /** The next dummy place. */
  #placeTick: number
  #clicked = false
  #pending: Tdc1Click | undefined

  /** Counting begins at `firstTick`; nothing clicked before it. */
  constructor(firstTick = 0) {
    const half = Math.floor((firstTick - TDC1_DUMMY_TICK) / TDC1_HALF_TICKS) + 1
    this.#placeTick = half * TDC1_HALF_TICKS + TDC1_DUMMY_TICK
    // The first place is passed in silence: nothing is known of the time before.
    this.#clicked = true
  }

  /** Appends to `out` the words that are certain once this click is known. Throws RangeError where time goes back. */
  click(tick: number, pattern: number, out: number[]): void {
    const pending = this.#pending
    if (pending !== undefined && tick === pending.tick) {
      pending.pattern |= pattern
      return
    }
    if (pending !== undefined && tick < pending.tick) throw new RangeError('clicks must ascend')
    this.advance(tick - 1, out)
    this.#pending = { tick, pattern }
  }

  /** Time passes to `tick` (included) without a further click: appends what is due until then. */
  advance(tick: number, out: number[]): void {
    const pending = this.#pending
    if (pending !== undefined && pending.tick <= tick) {
      this.#pending = undefined
      this.#passTo(pending.tick, out)
      out.push(tdc1Word(pending.tick, pending.pattern))
      this.#clicked = true
    }
    this.#passTo(tick, out)
  }

  /** Writes a click that still waits for company in its tick. */
  finish(out: number[]): void {
    if (this.#pending !== undefined) this.advance(this.#pending.tick, out)
  }

  #passTo(tick: number, out: number[]): void {
    while (this.#placeTick <= tick) {
      if (!this.#clicked) out.push(tdc1Word(this.#placeTick, TDC1_DUMMY_PATTERN, true))
      this.#clicked = false
      this.#placeTick += TDC1_HALF_TICKS
    }
  }
}
