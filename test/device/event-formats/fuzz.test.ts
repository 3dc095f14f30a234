import { expect, it } from 'vitest'
import { fuzzOnce } from './fuzz.js'
import { seeded } from './tdc1-streams.js'

it('no damage to any format crashes a reader or makes its counts disagree', () => {
  const seen = new Set<string>()
  const from = Math.floor(Math.random() * 2 ** 31)
  for (let i = 0; i < 3_000; i++) {
    try {
      seen.add(fuzzOnce(seeded(from + i)))
    } catch (error) {
      throw new Error(`seed ${from + i}`, { cause: error })
    }
  }
  expect(seen.size).toBe(15)
})
