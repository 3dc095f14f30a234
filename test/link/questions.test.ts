import { expect, it } from 'vitest'
import { type DurableState, restoredState } from '../../src/link/agreement/durable.js'
import { transition } from '../../src/link/agreement/machine.js'
import type { AgreementState } from '../../src/link/agreement/state.js'
import { readTotal } from '../../src/link/agreement/totals.js'

const limits = { settleMs: 350, inferAfterMs: 100, answerMs: 2_000, maxMismatches: 3 }
const durable: DurableState = {
  ...{ lineage: '00', settled: 7, position: 70, nextSerial: 9, ahead: [], offset: 0n, accepting: false },
  ...{ store: '', empty: false, stores: { mine: '', theirs: '' } },
  sending: [{ serial: 8, count: 10, order: 'first' }],
  total: 70n,
  diverged: undefined,
}

function asking(): AgreementState {
  const begun = restoredState(durable, 'left', limits, '01')
  const facts = { type: 'siteFacts', confirmation: 'total', restartsNumbering: false, nowMs: 0 } as const
  const opened = transition(transition(begun, facts).state, { type: 'streamOpened', stream: 'ab', nowMs: 1 })
  expect(opened.effects).toContainEqual({ type: 'ask', stream: 'ab' })
  return opened.state
}

it('a gateway that died in doubt asks its SiteAgent, and the answer settles the fate of the batch', () => {
  const was = transition(asking(), { type: 'total', storeId: 1n, total: 80n, nowMs: 2 }).state
  expect(was.doubts).toEqual([])
  expect(was.ahead).toMatchObject([{ serial: 8, count: 10 }])
  const wasNot = transition(asking(), { type: 'total', storeId: 1n, total: 70n, nowMs: 2 }).state
  expect(wasNot.doubts).toEqual([])
  expect(wasNot.ahead).toEqual([])
})

it('an answer of 0 shows that the store began anew while the gateway was away', () => {
  const { store, doubts } = transition(asking(), { type: 'total', storeId: 1n, total: 0n, nowMs: 2 }).state
  expect(store).toMatchObject({ total: 0n, name: 'ab', empty: true })
  expect(doubts).toEqual([])
})

it('the first batch of a new store is recognised where it is as large as all that the old one held', () => {
  const store = { id: undefined, total: 10n, suspect: undefined, name: '', empty: false }
  const open = { flight: { serial: 2, count: 10 }, doubts: [] }
  const context = { mayBeRenewed: true, asked: false }
  expect(readTotal(store, { storeId: 3n, total: 10n }, open, context)).toMatchObject({
    ...{ type: 'explained', flightIn: true, fell: true },
  })
})
