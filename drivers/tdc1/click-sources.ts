import { createHash } from 'node:crypto'

/** Clicks of an emulated detector, by the unit's own ticks of 2 ns. */
export interface ClickSource {
  /** Hands on the clicks up to `tick` (not included) that were not handed on yet, ascending. */
  until(tick: number, click: (tick: number, pattern: number) => void): void
}

export const TICKS_PER_SECOND = 500_000_000

/** Small, fast, and the same for the same seed: for clicks, not for keys. */
export class SeededNumbers {
  #state: number

  constructor(seed: string | number) {
    this.#state = typeof seed === 'number' ? seed >>> 0 : createHash('sha256').update(seed).digest().readUInt32LE(0)
  }

  /** Uniform in [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    const state = this.#state
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }

  /** A random gap whose mean is `mean`. */
  gap(mean: number): number {
    return -Math.log(1 - this.next()) * mean
  }

  /** Normal, with standard deviation 1. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next())
  }
}

/** Light that clicks at random, on each input alike. */
export class RandomLight implements ClickSource {
  #next: number

  constructor(
    private readonly perSecond: number,
    private readonly numbers: SeededNumbers,
  ) {
    this.#next = this.#gap()
  }

  until(tick: number, click: (tick: number, pattern: number) => void): void {
    while (this.#next < tick) {
      click(Math.floor(this.#next), 1 << Math.floor(this.numbers.next() * 4))
      this.#next += this.#gap()
    }
  }

  #gap(): number {
    return this.perSecond <= 0 ? Infinity : this.numbers.gap(TICKS_PER_SECOND / this.perSecond)
  }
}

/** A generator's square wave on input 1. */
export class SquareWave implements ClickSource {
  #count = 1

  constructor(private readonly perSecond: number) {}

  until(tick: number, click: (tick: number, pattern: number) => void): void {
    for (;;) {
      const at = Math.round((this.#count * TICKS_PER_SECOND) / this.perSecond)
      if (at >= tick) return
      click(at, 1)
      this.#count += 1
    }
  }
}

export interface PairLightOptions {
  /** Both sides give the same one. */
  seed: string
  side: 'alice' | 'bob'
  /** Pairs made a second, and the share of its photons that this side detects. */
  pairsPerSecond: number
  efficiency: number
  /** Dark counts a second on each input. */
  darkPerSecond: number
  /** Share of wrong results where the bases are equal. */
  errorShare: number
  /** Unix time in ms at tick 0 of this unit. */
  zeroUnixMs: number
  /** The unit's clock runs so many parts in a million fast. */
  clockPpm: number
}

const SLOT_MS = 10
const JITTER_TICKS = 0.175

/**
 * One side of an entangled-pair source: both sides draw the same pairs for each 10 ms of wall-clock time from the seed,
 * and each its own losses, dark counts and jitter. Results are anti-correlated in equal bases (a singlet); inputs 1 to 4
 * are V, −, H, +.
 */
export class PairLight implements ClickSource {
  #slot: number
  #waiting: { tick: number; pattern: number }[] = []

  constructor(private readonly options: PairLightOptions) {
    this.#slot = Math.floor(options.zeroUnixMs / SLOT_MS)
  }

  until(tick: number, click: (tick: number, pattern: number) => void): void {
    while (this.#tickAt(this.#slot * SLOT_MS) - 10 < tick) {
      this.#draw(this.#slot)
      this.#slot += 1
    }
    this.#waiting.sort((a, b) => a.tick - b.tick)
    let used = 0
    for (const entry of this.#waiting) {
      if (entry.tick >= tick) break
      click(entry.tick, entry.pattern)
      used += 1
    }
    this.#waiting.splice(0, used)
  }

  /** Tick of this unit at a time in Unix ms. */
  #tickAt(unixMs: number): number {
    const { zeroUnixMs, clockPpm } = this.options
    return (((unixMs - zeroUnixMs) * TICKS_PER_SECOND) / 1_000) * (1 + clockPpm * 1e-6)
  }

  #draw(slot: number): void {
    const { seed, side, pairsPerSecond, efficiency, darkPerSecond, errorShare } = this.options
    const common = new SeededNumbers(`${seed} ${slot}`)
    const own = new SeededNumbers(`${seed} ${slot} ${side}`)
    const end = SLOT_MS
    for (let at = common.gap(1_000 / pairsPerSecond); at < end; at += common.gap(1_000 / pairsPerSecond)) {
      const aliceBasis = common.next() < 0.5 ? 0 : 1
      const bobBasis = common.next() < 0.5 ? 0 : 1
      const aliceBit = common.next() < 0.5 ? 0 : 1
      const wrong = common.next() < errorShare
      const other = common.next() < 0.5 ? 0 : 1
      if (own.next() >= efficiency) continue
      const basis = side === 'alice' ? aliceBasis : bobBasis
      const bobBit = aliceBasis === bobBasis ? (wrong ? aliceBit : 1 - aliceBit) : other
      const bit = side === 'alice' ? aliceBit : bobBit
      this.#put(slot * SLOT_MS + at, own.normal() * JITTER_TICKS, 1 << (2 * bit + basis))
    }
    if (darkPerSecond <= 0) return
    for (let input = 0; input < 4; input++) {
      for (let at = own.gap(1_000 / darkPerSecond); at < end; at += own.gap(1_000 / darkPerSecond))
        this.#put(slot * SLOT_MS + at, 0, 1 << input)
    }
  }

  #put(unixMs: number, jitterTicks: number, pattern: number): void {
    const tick = Math.floor(this.#tickAt(unixMs) + jitterTicks)
    if (tick >= 0) this.#waiting.push({ tick, pattern })
  }
}
