import fc from 'fast-check'
import { expect, it } from 'vitest'
import { IdList } from '../../src/link/id-list.js'

const ids = fc.uniqueArray(fc.bigInt({ min: 0n, max: 60n }), { maxLength: 40 })

/** Numeric order, as the list keeps it. */
function ascending(list: readonly bigint[]): bigint[] {
  return [...new Set(list)].sort((one, two) => Number(one - two))
}

it('a list of ids is what a sorted set is, whatever is inserted, taken away and put in front', () => {
  const operation = fc.oneof(
    fc.record({ do: fc.constant('insertAll' as const), ids }),
    fc.record({ do: fc.constant('insert' as const), id: fc.bigInt({ min: 0n, max: 60n }) }),
    fc.record({ do: fc.constant('dropFront' as const), count: fc.nat({ max: 10 }) }),
    fc.record({ do: fc.constant('prepend' as const), count: fc.nat({ max: 5 }) }),
  )
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
      const list = new IdList()
      let model: bigint[] = []
      for (const step of operations) {
        if (step.do === 'insertAll') {
          list.insertAll(BigUint64Array.from(ascending(step.ids)))
          model = ascending([...model, ...step.ids])
        } else if (step.do === 'insert') {
          const index = list.insert(step.id)
          expect(index).toBe(model.includes(step.id) ? -1 : model.filter((one) => one < step.id).length)
          model = ascending([...model, step.id])
        } else if (step.do === 'dropFront') {
          list.dropFront(step.count)
          model = model.slice(step.count)
        } else {
          const first = model[0] ?? 61n
          const front = ascending(Array.from({ length: step.count }, (_, index) => first - BigInt(index + 1)))
          const possible = front.filter((id) => id >= 0n)
          list.prepend(BigUint64Array.from(possible))
          model = [...possible, ...model]
        }
        expect([...list.slice(0, list.length)]).toEqual(model)
        expect(list.last()).toBe(model.at(-1))
        for (const probe of [0n, 17n, 60n]) {
          expect(list.has(probe)).toBe(model.includes(probe))
          expect(list.lowerBound(probe)).toBe(model.filter((id) => id < probe).length)
        }
      }
    }),
    { numRuns: 300 },
  )
})
