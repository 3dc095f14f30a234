import { afterEach, expect, test } from 'vitest'
import { closeDummyLab } from '../gateway/support/dummy-lab.js'
import { cppCycles, javaCycles, type Cycle } from './cycles.js'

afterEach(closeDummyLab)

test('C++ sites hold the same keys in the same order over many starts and stops, racing calls in any order', async () => {
  const cycles: Cycle[] = []
  await cppCycles(15, (cycle) => cycles.push(cycle))
  expect(cycles).toHaveLength(15)
  expect(cycles.filter(({ equal }) => !equal)).toEqual([])
})

test('Java sites that are asked anew again and again each begin at one and the same key', async () => {
  const cycles: Cycle[] = []
  await javaCycles(12, (cycle) => cycles.push(cycle))
  expect(cycles).toHaveLength(12)
  expect(cycles.filter(({ equal }) => !equal)).toEqual([])
})
