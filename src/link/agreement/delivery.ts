/** Which batch goes to the own SiteAgent next, and whether it may. */
import { avoidedCounts } from './totals.js'
import { diverge, type Draft, emit, log, type Step } from './draft.js'
import type { AgreementState, KeptBatch, SiteView } from './state.js'
import { returnFlight, skipAfter, withdraw } from './taking.js'

/** Why the own SiteAgent can be sent nothing now; undefined where it can. */
export function streamBlocked(state: AgreementState): string | undefined {
  const { site } = state
  if (state.diverged !== undefined) return 'the two stores have parted'
  if (state.stopped !== undefined) return state.stopped
  if (site.stream === undefined) return 'the SiteAgent does not wait for keys'
  if (site.retiring !== undefined) return 'an older WaitForSession is being settled'
  if (!site.writable) return 'the SiteAgent does not read'
  if (site.confirmation === 'none') return "waiting for the SiteAgent's reports"
  return undefined
}

/** Why no new batch may go to the own SiteAgent; undefined where one can. */
export function siteBlocked(state: AgreementState): string | undefined {
  return streamBlocked(state) ?? (state.paused ? 'a stop is being settled' : undefined)
}

/** What the other side is told of the own SiteAgent. */
export function siteView(state: AgreementState): SiteView {
  const blocked = siteBlocked(state)
  return {
    ready: blocked === undefined,
    stream: state.site.stream ?? '',
    confirmation: state.site.confirmation === 'total' ? 'total' : 'inferred',
    restartsNumbering: state.site.restartsNumbering,
    mayBeRenewed: state.site.mayBeRenewed,
    renewed: state.site.renewed,
    fresh: state.site.fresh,
    reason: blocked ?? '',
  }
}

/** Two sites that both number from 1 with each WaitForSession must begin anew together. */
export function bothRestart(state: AgreementState): boolean {
  return state.site.restartsNumbering && state.peer?.site.restartsNumbering === true
}

/** Left: only one of two such sites has asked anew. */
function epochBroken(state: AgreementState): boolean {
  if (!bothRestart(state) || state.epoch === undefined) return false
  const mineChanged = state.site.stream !== state.epoch.mine
  const theirsChanged = state.peer?.site.stream !== state.epoch.theirs
  return mineChanged !== theirsChanged
}

/** Why no batch goes its way to both sites; undefined where one can. The left side's view. */
export function linkBlocked(state: AgreementState): string | undefined {
  const own = siteBlocked(state)
  if (own !== undefined) return own
  if (state.connection !== 'up' || state.peer === undefined) return 'the other gateway is not connected'
  if (!state.peer.site.ready) return `the other site: ${state.peer.site.reason || 'not ready'}`
  if (epochBroken(state)) return 'only one of the two SiteAgents has asked anew: start the link again'
  return undefined
}

/** What the left side would have its desk form now; undefined while nothing is wanted. */
export function wantedBatch(
  state: AgreementState,
): { readonly serial: number; readonly small: boolean; readonly avoidCounts: readonly number[] } | undefined {
  if (state.role !== 'left' || state.proposed !== undefined || linkBlocked(state) !== undefined) return undefined
  if (state.kept.some(({ order }) => order === 'first')) return undefined
  const small = state.site.confirmation === 'inferred' || state.peer?.site.confirmation === 'inferred'
  const open = state.flight === undefined ? state.doubts : [...state.doubts, state.flight]
  return { serial: state.nextSerial, small, avoidCounts: avoidedCounts(open) }
}

/** Does what has become possible. */
export function advance(step: Step): void {
  const { draft } = step
  resumeWhenBothRenewed(step)
  skipOldEpoch(step)
  if (draft.flight !== undefined || streamBlocked(draft) !== undefined) return
  const [next] = draft.kept
  if (next === undefined) return
  if (next.due) launch(step, next)
  else if (next.order === 'first') launchFirst(step, next)
}

function launchFirst(step: Step, batch: KeptBatch): void {
  const { draft } = step
  if (draft.ahead.length > 0 || draft.peer?.fits !== true || linkBlocked(draft) !== undefined) return
  const { site } = draft
  const other = draft.peer.site
  if (site.renewed && draft.position > 0 && !other.renewed && !other.mayBeRenewed && !site.restartsNumbering) {
    diverge(step, {
      firstDifferingKey: 1n,
      reason: 'this SiteAgent was restarted and the other one was not: restart both, or accept the divergence',
    })
    return
  }
  if (bothRestart(draft)) {
    if (batch.stream !== site.stream || batch.peerStream !== other.stream) {
      // Verified for WaitForSessions that are over: the other site would not deliver its copy in these.
      draft.kept = draft.kept.filter((kept) => kept !== batch)
      withdraw(step, batch, false)
      // One that was verified while this one was on its way may wait behind it.
      return advance(step)
    }
    draft.epoch = { mine: site.stream ?? '', theirs: other.stream }
  }
  launch(step, batch)
}

function launch(step: Step, batch: KeptBatch): void {
  const { draft } = step
  draft.kept = draft.kept.slice(1)
  draft.flight = {
    serial: batch.serial,
    count: batch.count,
    order: batch.order,
    stage: 'journaling',
    stream: draft.site.stream ?? '',
    peerTotal: batch.peerTotal,
    lostAtMs: undefined,
    inferAtMs: undefined,
    blind: false,
  }
}

/** The record is safe: off it goes. */
export function journalled(step: Step, serial: number): void {
  const { draft } = step
  const { flight } = draft
  if (flight?.serial !== serial || flight.stage !== 'journaling') return
  if (draft.diverged !== undefined) return returnFlight(step, flight)
  draft.flight = { ...flight, stage: 'sending' }
  emit(step, { type: 'deliver', serial, stream: flight.stream })
}

/** Where both sites number anew, what was owed to an older WaitForSession is owed no more. */
function skipOldEpoch(step: Step): void {
  const { draft } = step
  if (!bothRestart(draft)) return
  const old = draft.kept.filter(({ due, stream }) => due && stream !== draft.site.stream)
  if (old.length === 0) return
  draft.kept = draft.kept.filter((batch) => !old.includes(batch))
  for (const batch of old) skipAfter(step, batch)
}

function resumeWhenBothRenewed(step: Step): void {
  const { draft } = step
  if (draft.diverged === undefined || !draft.site.fresh || draft.peer?.site.fresh !== true) return
  if (draft.connection !== 'up') return
  log(step, 'warn', 'both SiteAgents were restarted: their stores begin anew together')
  resume(step, 0n)
  draft.store = { id: undefined, total: 0n, suspect: undefined }
}

/** Forgets what is unsettled, at both sides, and begins a new sequence once the two have verified a batch. */
export function resume(step: Step, offset: Draft['offset']): void {
  const { draft } = step
  draft.diverged = undefined
  draft.accepting = false
  draft.offset = offset
  dropUnsettled(step, 'diverged')
  draft.lineage = ''
  draft.settled = 0
  draft.position = 0
  if (draft.peer !== undefined) draft.peer = { ...draft.peer, fits: false }
}

/** Drops every batch of the old sequence but `except`. */
export function dropUnsettled(step: Step, reason: 'diverged' | 'uncertain', except?: number): void {
  const { draft } = step
  for (const { serial } of [...draft.kept, ...draft.doubts]) {
    if (serial !== except) emit(step, { type: 'drop', serial, reason })
  }
  if (draft.flight !== undefined) emit(step, { type: 'drop', serial: draft.flight.serial, reason })
  if (draft.proposed !== undefined && draft.proposed.serial !== except) {
    emit(step, { type: 'restore', serial: draft.proposed.serial })
    draft.proposed = undefined
  }
  draft.kept = draft.kept.filter(({ serial }) => serial === except)
  draft.doubts = []
  draft.flight = undefined
  draft.ahead = []
  draft.epoch = undefined
}
