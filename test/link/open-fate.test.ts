import { expect, it } from 'vitest'
import { type DurableState, restoredState } from '../../src/link/agreement/durable.js'
import { transition } from '../../src/link/agreement/machine.js'
import { helloOf } from '../../src/link/agreement/reconcile.js'

const limits = { settleMs: 350, inferAfterMs: 100, answerMs: 2_000, maxMismatches: 3 }

const settledBoth: DurableState = {
  lineage: '00',
  settled: 43,
  position: 622,
  nextSerial: 44,
  ahead: [],
  sending: [],
  total: 622n,
  ...{ store: '', empty: false, stores: { mine: '', theirs: '' } },
  offset: 0n,
  diverged: undefined,
  accepting: false,
}

it('a batch of open fate at the right site is no difference when the gateways meet once more', () => {
  const open: DurableState = {
    ...settledBoth,
    position: 618,
    total: 618n,
    sending: [{ serial: 43, count: 4, order: 'follow' }],
  }
  const right = restoredState(open, 'right', limits, '02')
  let left = restoredState(settledBoth, 'left', limits, '01')
  left = transition(left, { type: 'session', role: 'left', freshLineage: '01', nowMs: 0 }).state
  left = transition(left, { type: 'connected', nowMs: 1 }).state
  left = transition(left, { type: 'hello', hello: helloOf(right), nowMs: 2 }).state
  expect(left.peer?.fits).toBe(true)
  expect(left.diverged).toBeUndefined()
})
