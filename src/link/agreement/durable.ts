/** What of the agreement's state must outlive the process: positions and counts, never a key. */
import type { AgreementState, BatchRef, Divergence, Doubt, MachineLimits, StorePair } from './state.js'
import { initialState } from './state.js'

export interface DurableState {
  readonly lineage: string
  readonly settled: number
  readonly position: number
  readonly nextSerial: number
  readonly ahead: readonly BatchRef[]
  /** Sent, about to be, or foreseen: the process may have died at any moment after. In the order of sending. */
  readonly sending: readonly Doubt[]
  readonly total: bigint | undefined
  /** The own store's name, whether it is known to be empty, and the stores that the sequence counts in. */
  readonly store: string
  readonly empty: boolean
  readonly stores: StorePair
  readonly offset: bigint | 'adopt'
  readonly diverged: Divergence | undefined
  readonly accepting: boolean
}

export function durableOf(state: AgreementState): DurableState {
  const sending: Doubt[] = [...state.doubts]
  const { flight } = state
  if (flight !== undefined) sending.push({ serial: flight.serial, count: flight.count, order: flight.order })
  for (const kept of state.kept) {
    const { serial, count, order } = kept
    if (kept.sentBefore) sending.push({ serial, count, order })
    else if (kept.foreseen !== undefined) sending.push({ serial, count, order, foreseen: true })
  }
  return {
    lineage: state.lineage,
    settled: state.settled,
    position: state.position,
    nextSerial: state.nextSerial,
    ahead: state.ahead.map(({ serial, count }) => ({ serial, count })),
    sending,
    total: state.store.total,
    store: state.store.name,
    empty: state.store.empty,
    stores: state.stores,
    offset: state.offset,
    diverged: state.diverged,
    accepting: state.accepting,
  }
}

/** The state after a restart: everything that was being sent is in doubt, and its keys are lost. */
export function restoredState(
  durable: DurableState,
  role: 'left' | 'right',
  limits: MachineLimits,
  freshLineage: string,
): AgreementState {
  const fresh = initialState(role, limits, freshLineage)
  return {
    ...fresh,
    lineage: durable.lineage,
    settled: durable.settled,
    position: durable.position,
    nextSerial: durable.nextSerial,
    ahead: durable.ahead.map((batch) => ({ ...batch, total: undefined })),
    doubts: durable.sending,
    store: { id: undefined, total: durable.total, suspect: undefined, name: durable.store, empty: durable.empty },
    stores: durable.stores,
    offset: durable.offset,
    diverged: durable.diverged,
    accepting: durable.accepting,
    // The reports were not heard while the process was down.
    site: { ...fresh.site, mayBeRenewed: durable.total !== undefined || durable.lineage !== '' },
  }
}

/** The state of a process that begins, on the left until a session says otherwise. */
export function stateAtStart(
  durable: DurableState | undefined,
  limits: MachineLimits,
  freshLineage: string,
): AgreementState {
  return durable === undefined
    ? initialState('left', limits, freshLineage)
    : restoredState(durable, 'left', limits, freshLineage)
}
