import { expect, it } from 'vitest'
import { type DurableState, restoredState } from '../../src/link/agreement/durable.js'
import { transition } from '../../src/link/agreement/machine.js'
import { helloOf } from '../../src/link/agreement/reconcile.js'
import type { AgreementState } from '../../src/link/agreement/state.js'

const limits = { settleMs: 350, inferAfterMs: 100, answerMs: 2_000, maxMismatches: 3 }
const settled: DurableState = {
  ...{ lineage: '00', settled: 7, position: 70, nextSerial: 8, ahead: [], sending: [], offset: 0n, accepting: false },
  total: 70n,
  ...{ store: '', empty: false, stores: { mine: '', theirs: '' } },
  diverged: undefined,
}
const parted: DurableState = {
  ...settled,
  total: 4n,
  diverged: { firstDifferingKey: 1n, reason: 'found out after the connection was lost' },
}

function connected(state: AgreementState, role: 'left' | 'right'): AgreementState {
  const begun = transition(state, {
    type: 'session',
    role,
    freshLineage: role === 'left' ? '01' : '02',
    nowMs: 0,
  }).state
  return transition(begun, { type: 'connected', nowMs: 1 }).state
}

function greeted(state: AgreementState, other: AgreementState): AgreementState {
  return transition(state, { type: 'hello', hello: helloOf(other), nowMs: 2 }).state
}

it('a parting that only one side knew of is accepted there, and both go on', () => {
  const left = connected(restoredState(settled, 'left', limits, '01'), 'left')
  const accepted = transition(restoredState(parted, 'right', limits, '02'), {
    type: 'acceptDivergence',
    nowMs: 0,
  }).state
  const right = connected(accepted, 'right')
  for (const state of [greeted(left, right), greeted(right, left)]) {
    expect(state.diverged).toBeUndefined()
    expect(state.accepting).toBe(false)
    expect(state.offset).toBe('adopt')
  }
})

it('where only the other side heard of the acceptance before the connection was lost, the next one makes up for it', () => {
  const left = connected(restoredState(settled, 'left', limits, '01'), 'left')
  const accepted = transition(restoredState(parted, 'right', limits, '02'), {
    type: 'acceptDivergence',
    nowMs: 0,
  }).state
  const right = connected(accepted, 'right')
  const leftWentOn = transition(greeted(left, right), { type: 'disconnected', nowMs: 3 }).state
  const rightAgain = connected(transition(right, { type: 'disconnected', nowMs: 3 }).state, 'right')
  const after = greeted(rightAgain, connected(leftWentOn, 'left'))
  expect(after.diverged).toBeUndefined()
  expect(after.offset).toBe('adopt')
})
