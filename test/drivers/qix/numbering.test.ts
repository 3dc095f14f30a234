import { expect, it } from 'vitest'
import { IdWatch } from '../../../drivers/qix/numbering.js'

const key = (value: number): Uint8Array => new Uint8Array(32).fill(value)

it('lets ids begin anywhere and rise with holes', () => {
  const ids = new IdWatch()
  expect([5n, 6n, 900n, 2n ** 64n - 1n].map((id, index) => ids.note(id, key(index)))).toEqual(Array(4).fill('next'))
})

it('knows a repetition by id and key, also when the clock behind the ids was set back', () => {
  const ids = new IdWatch()
  for (const id of [100, 200, 300]) ids.note(BigInt(id), key(id / 100))
  expect(ids.note(300n, key(3))).toBe('repeated')
  expect(ids.note(200n, key(2))).toBe('repeated')
  expect(ids.note(400n, key(4))).toBe('next')
})

it('takes the same id with another key for a restart', () => {
  const ids = new IdWatch()
  for (const id of [1, 2, 3]) ids.note(BigInt(id), key(id))
  expect(ids.note(1n, key(9))).toBe('restarted')
  expect(ids.note(2n, key(10))).toBe('next')
  expect(ids.note(3n, key(3))).toBe('next')
})

it('takes an id below all that it has seen for a restart, and one that fills a hole for a late frame', () => {
  const ids = new IdWatch()
  for (const id of [10, 11, 13]) ids.note(BigInt(id), key(id))
  expect(ids.note(12n, key(12))).toBe('late')
  expect(ids.note(0n, key(0))).toBe('restarted')
})

it('forgets what is long past', () => {
  const ids = new IdWatch()
  for (let id = 0; id < 1_000; id += 1) expect(ids.note(BigInt(id), key(id % 256))).toBe('next')
  expect(ids.note(1n, key(1))).toBe('restarted')
})
