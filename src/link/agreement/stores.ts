/**
 * Which key stores a sequence counts in. A SiteAgent that was restarted has an empty store: where both were, the two
 * begin anew; where one was, they have parted.
 */
import { dropUnsettled } from './abandon.js'
import { type Draft, diverge, emit, log, type Step } from './draft.js'
import type { AgreementState, StorePair } from './state.js'

/** The stores as this side sees them now. */
export function presentStores(state: AgreementState): StorePair {
  return { mine: state.store.name, theirs: state.peer?.site.store ?? '' }
}

/** Stores that number anew with each WaitForSession have no history that a restart could end. */
function restartsMatter(state: AgreementState): boolean {
  return !state.site.restartsNumbering && state.peer?.site.restartsNumbering !== true
}

/** Why nothing may be sent until more is known of the two stores; undefined where it may. */
export function storesUnclear(state: AgreementState): string | undefined {
  if (!restartsMatter(state)) return undefined
  const { peer, stores } = state
  const mineNew = state.store.name !== stores.mine
  const waits = 'a SiteAgent was restarted: what that means for the two stores is being settled'
  if (state.connection !== 'up' || peer === undefined) return mineNew ? waits : undefined
  // A new sequence begins with whatever stores there are.
  if (!peer.fits) return undefined
  const theirsNew = peer.site.store !== stores.theirs
  if (mineNew && peer.site.sees !== state.store.name) return waits
  if (!mineNew && !theirsNew) return undefined
  // What is not certain was asked, and there was no answer: the next total has to tell.
  const tries = mineNew && !theirsNew && (!peer.site.mayBeRenewed || peer.site.ready)
  return tries ? undefined : waits
}

/** The own store is new, and whether what is owed to it is of its sequence is not known. */
export function holdsOwed(state: AgreementState): boolean {
  return restartsMatter(state) && state.store.name !== state.stores.mine && state.peer?.fits !== true
}

/** Draws the conclusion from stores that began anew. */
export function settleStores(step: Step): void {
  const { draft } = step
  const { peer, stores, store, diverged } = draft
  if (draft.connection !== 'up' || peer === undefined || !restartsMatter(draft)) return
  const mineNew = store.name !== stores.mine
  const theirsNew = peer.site.store !== stores.theirs
  if (!mineNew && !theirsNew) return
  // What the other side knew of its own store when it had heard of this one is worth something.
  if (mineNew && peer.site.sees !== store.name) return
  // The left side alone knows for certain that nothing is on its way to both, so it decides; where the two do not meet
  // in one sequence any more a parting may be over all the same.
  const decides = peer.fits ? draft.role === 'left' : diverged !== undefined
  if (store.empty && peer.site.empty && decides && draft.flight === undefined) {
    log(step, 'warn', 'both SiteAgents were restarted: their stores begin anew together')
    const present = presentStores(draft)
    if (peer.fits) emit(step, { type: 'send', message: { type: 'beginAnew', stores: present } })
    beginTogether(step, present)
    return
  }
  if (diverged !== undefined || !peer.fits) return
  if (mineNew && theirsNew && store.empty && peer.site.empty) return
  if (mineNew && peer.site.mayBeRenewed && !peer.site.ready) return
  const lostHere = mineNew && (draft.position > 0 || draft.settled > 0)
  const lostThere = theirsNew && (draft.settled > 0 || draft.kept.some(({ due }) => due))
  if (lostHere === lostThere) {
    // Nothing of the sequence, or all of it, is gone; the totals are compared after the next batch.
    draft.stores = presentStores(draft)
    if (draft.offset !== 'adopt') draft.offset = 0n
    return
  }
  // The other side knows best whether it has lost anything, and says so.
  if (lostThere) return
  diverge(step, {
    firstDifferingKey: 1n,
    reason:
      'this SiteAgent was restarted and lost its keys, the other one was not: restart both, or accept the divergence',
  })
}

/** A new sequence in two empty stores. */
export function beginTogether(step: Step, stores: StorePair): void {
  resume(step, 0n)
  step.draft.stores = stores
}

/** Forgets what is unsettled, at both sides, and begins a new sequence once the two have verified a batch. */
export function resume(step: Step, offset: Draft['offset']): void {
  const { draft } = step
  draft.accepting = false
  draft.offset = offset
  dropUnsettled(step, draft.diverged === undefined ? 'renewed' : 'diverged')
  draft.diverged = undefined
  draft.lineage = ''
  draft.settled = 0
  draft.position = 0
  if (draft.peer !== undefined) draft.peer = { ...draft.peer, fits: false, resumed: true }
}
