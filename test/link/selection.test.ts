import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Desk } from '../../src/link/desk.js'
import { IdList } from '../../src/link/id-list.js'
import { fromRuns, toRuns } from '../../src/link/id-runs.js'
import { keysPerMessage } from '../../src/link/options.js'
import { select } from '../../src/link/selection.js'
import { RawKeysSchema } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { create, toBinary } from '@bufbuild/protobuf'

const ascending = (max: bigint): fc.Arbitrary<bigint[]> =>
  fc
    .uniqueArray(fc.bigInt({ min: 0n, max }), { maxLength: 60 })
    .map((ids) => ids.sort((one, two) => (one < two ? -1 : one > two ? 1 : 0)))

function listOf(ids: readonly bigint[]): IdList {
  const list = new IdList()
  list.insertAll(BigUint64Array.from(ids))
  return list
}

it('selects the ids that both hold, ascending, and nothing after one that may still come', () => {
  fc.assert(
    fc.property(
      ascending(80n),
      ascending(80n),
      fc.integer({ min: 1, max: 70 }),
      fc.integer({ min: 0, max: 300 }),
      fc
        .array(fc.integer({ min: 0, max: 200 }), { minLength: 60, maxLength: 60 })
        .map((times) => times.sort((one, two) => one - two)),
      (mine, theirs, maxKeys, nowMs, times) => {
        const gapWaitMs = 100
        const mineAtMs = (index: number): number => times[index] ?? 0
        // The other side announced everything at once, at 50 ms.
        const theirsPassedAtMs = (id: bigint): number | undefined => ((theirs.at(-1) ?? -1n) > id ? 50 : undefined)
        const { ids, oldestMs, blockedUntilMs } = select({
          ...{ mine: listOf(mine), theirs: listOf(theirs), mineAtMs, theirsPassedAtMs, nowMs, gapWaitMs, maxKeys },
        })
        const both = mine.filter((id) => theirs.includes(id))
        // A beginning of the intersection: none left out, none out of order.
        expect(ids).toEqual(both.slice(0, ids.length))
        expect(ids.length).toBeLessThanOrEqual(maxKeys)
        expect(oldestMs).toBe(Math.min(nowMs, ...ids.map((id) => mineAtMs(mine.indexOf(id)))))
        if (blockedUntilMs === undefined) {
          expect(ids).toEqual(both.slice(0, maxKeys))
        } else {
          expect(blockedUntilMs).toBeGreaterThan(nowMs)
          expect(blockedUntilMs).toBeLessThanOrEqual(Math.max(50, nowMs, ...times) + gapWaitMs)
        }
        // Every id that only one side has and that was passed over has had its time.
        const last = ids.at(-1) ?? -1n
        for (const [index, id] of mine.entries()) {
          if (id > last || theirs.includes(id)) continue
          expect(nowMs).toBeGreaterThanOrEqual(mineAtMs(index) + gapWaitMs)
          expect(nowMs).toBeGreaterThanOrEqual((theirsPassedAtMs(id) ?? nowMs) + gapWaitMs)
        }
      },
    ),
    { numRuns: 500 },
  )
})

it('ids travel as runs and come out as they were, and what is no ascending list is refused', () => {
  fc.assert(
    fc.property(ascending(2n ** 64n - 1n), ascending(200n), (wide, dense) => {
      for (const ids of [wide, dense]) {
        const list = BigUint64Array.from(ids)
        const runs = toRuns(list)
        expect(runs.length).toBeLessThanOrEqual(ids.length)
        expect(fromRuns(runs, ids.length)).toEqual(list)
        if (ids.length > 0) expect(fromRuns(runs, ids.length - 1)).toBeTypeOf('string')
      }
    }),
  )
  const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 9n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }))
  const count = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 2 ** 32 - 1 }))
  fc.assert(
    fc.property(fc.array(fc.record({ first: u64, count, step: u64 }), { maxLength: 6 }), (runs) => {
      const ids = fromRuns(runs, 50)
      if (typeof ids === 'string') return
      expect(ids.length).toBeLessThanOrEqual(50)
      ids.forEach((id, index) => expect(index === 0 || id > (ids[index - 1] ?? 0n)).toBe(true))
    }),
    { numRuns: 500 },
  )
})

it('a full message has at most 10,000 keys and stays below 4 MiB, for keys of 1 byte to 64 KiB', () => {
  const limit = 4 * 1024 * 1024
  const length = fc.oneof(
    fc.integer({ min: 1, max: 65_536 }),
    fc.constantFrom(1, 16, 32, 127, 128, 16_383, 16_384, 65_536),
  )
  fc.assert(
    fc.property(length, fc.integer({ min: 1, max: 20_000 }), (keyBytes, maxKeys) => {
      const most = keysPerMessage(keyBytes, maxKeys)
      expect(most).toBeGreaterThanOrEqual(1)
      expect(most).toBeLessThanOrEqual(Math.min(maxKeys, 10_000))
      const key = new Uint8Array(keyBytes)
      const message = create(RawKeysSchema, { keyData: Array.from({ length: most }, () => key) })
      expect(toBinary(RawKeysSchema, message).length).toBeLessThan(limit)
      // And none is smaller than it has to be.
      if (most < Math.min(maxKeys, 10_000)) expect((most + 1) * (keyBytes + 4)).toBeGreaterThan(limit - 64 * 1024)
    }),
    { numRuns: 15 },
  )
})

it('what exceeds the bound of one store is dropped at both, whatever each of them holds', () => {
  fc.assert(
    fc.property(ascending(100n), ascending(100n), fc.integer({ min: 1, max: 30 }), (mine, theirs, maxHeldKeys) => {
      const desks = [maxHeldKeys, 1_000].map(
        (bound) => new Desk(1, { maxHeldKeys: bound, maxHeldMs: 1_000, gapWaitMs: 0 }),
      )
      const [small, large] = desks
      if (small === undefined || large === undefined) throw new Error('two desks')
      for (const id of mine) small.offer(id, new Uint8Array(1), 0)
      for (const id of theirs) large.offer(id, new Uint8Array(1), 0)
      const dropped = small.enforceLimits(0)
      expect(dropped !== undefined).toBe(mine.length > maxHeldKeys)
      expect(small.waiting).toBe(Math.min(mine.length, maxHeldKeys))
      if (dropped === undefined) return
      large.droppedByPeer(dropped.through)
      // The oldest go, and both hold the same part of what both had.
      expect(mine.filter((id) => id <= dropped.through)).toHaveLength(mine.length - maxHeldKeys)
      expect(large.waiting).toBe(theirs.filter((id) => id > dropped.through).length)
      expect(small.counts().dropped).toEqual({ overflow: BigInt(mine.length - maxHeldKeys) })
      // What comes late below the bound is not taken up again by either.
      for (const desk of desks) {
        const before = desk.waiting
        desk.offer(dropped.through, new Uint8Array(1), 0)
        expect(desk.waiting).toBe(before)
      }
    }),
    { numRuns: 500 },
  )
})
