/** Whatever is asked of a desk, in whatever order: every key that came is in exactly one count. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { addsUp } from '../../src/link/counts.js'
import { Desk } from '../../src/link/desk.js'

type Operation =
  | { do: 'offer'; id: number; length: number }
  | { do: 'announced'; from: number; count: number; anew: boolean }
  | { do: 'form'; maxKeys: number }
  | { do: 'prepare'; from: number; count: number }
  | { do: 'commit' | 'delivered' | 'drop' | 'restore'; nth: number }
  | { do: 'limits'; passMs: number }
  | { do: 'droppedByPeer'; through: number }
  | { do: 'renumbered' | 'reconnected' | 'dropWaiting' }

const id = fc.integer({ min: 0, max: 60 })
const count = fc.integer({ min: 1, max: 20 })
const nth = fc.integer({ min: 0, max: 5 })

const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('offer'), id, length: fc.constantFrom(32, 32, 32, 32, 31) }) },
  fc.record({ do: fc.constant('announced'), from: id, count, anew: fc.boolean() }),
  { weight: 3, arbitrary: fc.record({ do: fc.constant('form'), maxKeys: count }) },
  fc.record({ do: fc.constant('prepare'), from: id, count }),
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('commit', 'delivered', 'drop', 'restore'), nth }) },
  fc.record({ do: fc.constant('limits'), passMs: fc.integer({ min: 0, max: 300 }) }),
  fc.record({ do: fc.constant('droppedByPeer'), through: id }),
  fc.record({ do: fc.constantFrom('renumbered', 'reconnected', 'dropWaiting') }),
)

function run(from: number, length: number): BigUint64Array {
  return BigUint64Array.from({ length }, (_, index) => BigInt(from + index))
}

it('received = delivered + held + sacrificed + dropped by reason after every step, in any order of steps', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 120 }), (operations) => {
      const desk = new Desk(32, { maxHeldKeys: 25, maxHeldMs: 500, gapWaitMs: 10 })
      const batches: number[] = []
      let nowMs = 0
      let serial = 0
      const apply = (step: Operation): void => {
        nowMs += 1
        switch (step.do) {
          case 'offer':
            return desk.offer(BigInt(step.id), new Uint8Array(step.length).fill(step.id), nowMs)
          case 'announced':
            desk.announced(run(step.from, step.count), step.anew, nowMs)
            return
          case 'form': {
            serial += 1
            const formed = desk.form({
              serial,
              maxKeys: step.maxKeys,
              minKeys: 1,
              maxWaitMs: 0,
              avoidCounts: [3],
              nowMs,
            })
            if ('proposal' in formed) batches.push(serial)
            return
          }
          case 'prepare': {
            if (step.count < 2) return
            serial += 1
            const prepared = desk.prepare(serial, run(step.from, step.count), 1, new Uint8Array(16))
            if (prepared.outcome !== 'missing') batches.push(serial)
            return
          }
          case 'limits':
            nowMs += step.passMs
            desk.enforceLimits(nowMs)
            return
          case 'droppedByPeer':
            return desk.droppedByPeer(BigInt(step.through))
          case 'renumbered':
            return desk.renumbered()
          case 'reconnected':
            return desk.reconnected()
          case 'dropWaiting':
            return desk.dropWaiting('uncertain')
          default: {
            const batch = batches[step.nth % Math.max(1, batches.length)] ?? 99
            if (step.do === 'commit') desk.commit(batch)
            else if (step.do === 'delivered') desk.delivered(batch)
            else if (step.do === 'drop') desk.drop(batch, 'uncertain')
            else desk.restore(batch, nowMs)
          }
        }
      }
      for (const step of operations) {
        apply(step)
        expect(addsUp(desk.counts())).toBe(true)
      }
      desk.close()
      expect(desk.counts().held).toBe(0n)
      expect(addsUp(desk.counts())).toBe(true)
    }),
    { numRuns: 300 },
  )
})
