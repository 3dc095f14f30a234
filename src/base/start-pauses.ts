import { createBackoff } from './backoff.js'
import type { Random } from './random.js'

/** Beyond so many starts in a row the pause is the longest anyway. */
const mostRemembered = 64

/** The pause after the n-th start (from 1), ms, jitter included; the same for one n, so that a decision does not flutter. */
export function createStartPauses(firstMs: number, maxMs: number, random: Random): (starts: number) => number {
  const backoff = createBackoff({ firstMs, maxMs }, random)
  const known: number[] = []
  return (starts) => {
    const index = Math.min(starts, mostRemembered)
    while (known.length < index) known.push(backoff.nextMs())
    return known[index - 1] ?? 0
  }
}
