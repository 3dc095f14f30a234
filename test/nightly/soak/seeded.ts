/** Choices that follow from a seed, so that a run can be told to somebody else by one number. */
import { createHash } from 'node:crypto'
import type { Random } from '../../../src/base/random.js'

/** Not for keys: whoever knows the seed knows all that comes. */
export function seededRandom(seed: number): Random {
  let counter = 0
  const block = (): Buffer => {
    counter += 1
    return createHash('sha256').update(`${seed}:${counter}`).digest()
  }
  return {
    bytes(length) {
      const bytes = new Uint8Array(length)
      for (let at = 0; at < length; at += 32) bytes.set(block().subarray(0, Math.min(32, length - at)), at)
      return bytes
    },
    fraction: () => block().readUIntBE(0, 6) / 2 ** 48,
  }
}

/** A whole number from `least` to `most`. */
export function between(random: Random, least: number, most: number): number {
  return least + Math.floor(random.fraction() * (most - least + 1))
}

/** One of the choices; each is as likely as its weight says. */
export function weighted<T extends { readonly weight: number }>(random: Random, choices: readonly T[]): T {
  const total = choices.reduce((sum, { weight }) => sum + weight, 0)
  let left = random.fraction() * total
  for (const choice of choices) {
    left -= choice.weight
    if (left < 0) return choice
  }
  const last = choices.at(-1)
  if (last === undefined) throw new Error('nothing to choose from')
  return last
}

export function oneOf<T>(random: Random, choices: readonly [T, ...T[]]): T {
  return choices[between(random, 0, choices.length - 1)] ?? choices[0]
}
