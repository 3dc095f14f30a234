/** Made-up TDC1 streams. */
import { Tdc1Encoder, tdc1Bytes } from '../../../src/device/event-formats/tdc1-words.js'

/** A small generator of numbers in [0, 1) that always gives the same series for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export interface MadeClick {
  tick: number
  pattern: number
}

/** Random clicks at a mean rate, from tick 0 on; ticks ascend strictly. */
export function randomClicks(count: number, perSecond: number, random: () => number): MadeClick[] {
  const meanTicks = 5e8 / perSecond
  const clicks: MadeClick[] = []
  let tick = 0
  for (let i = 0; i < count; i++) {
    tick += 1 + Math.floor(-Math.log(1 - random()) * meanTicks)
    clicks.push({ tick, pattern: 1 << Math.floor(random() * 4) })
  }
  return clicks
}

/** The words that a unit sends for them, dummies included. */
export function wordsOfClicks(clicks: readonly MadeClick[]): number[] {
  const encoder = new Tdc1Encoder()
  const words: number[] = []
  for (const { tick, pattern } of clicks) encoder.click(tick, pattern, words)
  encoder.finish(words)
  return words
}

export function bytesOfClicks(clicks: readonly MadeClick[]): Uint8Array {
  return tdc1Bytes(wordsOfClicks(clicks))
}
