/** Which batch goes to the own SiteAgent next, and whether it may. */
import { emit, type Step } from './draft.js'
import type { AwaitedRecord } from './events.js'
import { isForeseen, recordIsSafe } from './foresight.js'
import { ask, isAsking } from './question.js'
import type { AgreementState, KeptBatch, SiteView } from './state.js'
import { holdsOwed, settleStores, storesUnclear } from './stores.js'
import { returnFlight, skipAfter, withdraw } from './taking.js'
import { avoidedCounts } from './totals.js'

/** Why the own SiteAgent can be sent nothing now; undefined where it can. */
export function streamBlocked(state: AgreementState): string | undefined {
  const { site } = state
  if (state.diverged !== undefined) return 'the two stores have parted'
  if (state.stopped !== undefined) return state.stopped
  if (site.stream === undefined) return 'the SiteAgent does not wait for keys'
  if (site.spoiled) return 'this session has keys of a sequence that was given up: start the link again'
  if (site.retiring !== undefined) return 'an older WaitForSession is being settled'
  if (!site.writable) return 'the SiteAgent does not read'
  if (site.confirmation === 'none') return "waiting for the SiteAgent's reports"
  if (isAsking(state)) return 'the SiteAgent was asked for its total'
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
    store: state.store.name,
    empty: state.store.empty,
    epoch: state.site.epoch,
    sees: state.peer?.site.store ?? '',
    reason: blocked ?? '',
  }
}

/** Two sites that both number from 1 with each WaitForSession must begin anew together. */
export function bothRestart(state: AgreementState): boolean {
  return state.site.restartsNumbering && state.peer?.site.restartsNumbering === true
}

/** Only one of two such sites has asked anew: what it is sent would get other numbers than at the other one. */
export function epochBroken(state: AgreementState): boolean {
  if (!bothRestart(state) || state.peer === undefined) return false
  const { stream = '', epoch } = state.site
  const theirs = state.peer.site
  return (epoch !== '' && epoch !== theirs.stream) || (theirs.epoch !== '' && theirs.epoch !== stream)
}

/** Why no batch goes its way to both sites; undefined where one can. The left side's view. */
export function linkBlocked(state: AgreementState): string | undefined {
  const own = siteBlocked(state)
  if (own !== undefined) return own
  if (state.connection !== 'up' || state.peer === undefined) return 'the other gateway is not connected'
  const unclear = storesUnclear(state)
  if (unclear !== undefined) return unclear
  if (!state.peer.site.ready) return `the other site: ${state.peer.site.reason || 'not ready'}`
  if (epochBroken(state)) return 'only one of the two SiteAgents has asked anew: start the link again'
  return undefined
}

/** A batch that the left side would have its desk form. */
export interface WantedBatch {
  readonly serial: number
  /** `small`: a site tells no totals. `probe`: its total has to tell of one before it, so it is as small as can be. */
  readonly size: 'full' | 'small' | 'probe'
  readonly avoidCounts: readonly number[]
}

/** What the left side would have its desk form now; undefined while nothing is wanted. */
export function wantedBatch(state: AgreementState): WantedBatch | undefined {
  if (state.role !== 'left' || state.proposed !== undefined || linkBlocked(state) !== undefined) return undefined
  if (state.kept.some(({ order }) => order === 'first')) return undefined
  const small = state.site.confirmation === 'inferred' || state.peer?.site.confirmation === 'inferred'
  const open = state.flight === undefined ? state.doubts : [...state.doubts, state.flight]
  const size = small ? 'small' : state.doubts.length > 0 ? 'probe' : 'full'
  return { serial: state.nextSerial, size, avoidCounts: avoidedCounts(open) }
}

/** Does what has become possible. */
export function advance(step: Step): void {
  const { draft } = step
  settleStores(step)
  ask(step)
  skipOldEpoch(step)
  if (draft.flight !== undefined || streamBlocked(draft) !== undefined) return
  const [next] = draft.kept
  if (next === undefined || storesUnclear(draft) !== undefined) return
  if (next.due && (holdsOwed(draft) || waitsForHello(draft, next))) return
  if (next.due) launch(step, next)
  else if (next.order === 'first') launchFirst(step, next)
}

/**
 * A site that numbers anew has asked anew since. Whether the batch is still owed depends on how the other site numbers,
 * which is not known between a new connection and the other side's Hello.
 */
function waitsForHello(state: AgreementState, { stream }: KeptBatch): boolean {
  return state.site.restartsNumbering && state.peer === undefined && stream !== state.site.stream
}

function launchFirst(step: Step, batch: KeptBatch): void {
  const { draft } = step
  if (draft.ahead.length > 0 || draft.peer?.fits !== true || linkBlocked(draft) !== undefined) return
  const { site } = draft
  const other = draft.peer.site
  if (bothRestart(draft)) {
    if (batch.stream !== site.stream || batch.peerStream !== other.stream) {
      // Verified for WaitForSessions that are over: the other site would not deliver its copy in these.
      draft.kept = draft.kept.filter((kept) => kept !== batch)
      withdraw(step, batch, false)
      // One that was verified while this one was on its way may wait behind it.
      return advance(step)
    }
  }
  launch(step, batch)
}

function launch(step: Step, batch: KeptBatch): void {
  const { draft } = step
  const foreseen = isForeseen(draft, batch)
  draft.kept = draft.kept.slice(1)
  if (draft.site.restartsNumbering && draft.site.epoch === '')
    draft.site = { ...draft.site, epoch: batch.peerStream ?? '' }
  draft.flight = {
    serial: batch.serial,
    count: batch.count,
    order: batch.order,
    stage: foreseen ? 'sending' : 'journaling',
    stream: draft.site.stream ?? '',
    peerStream: batch.peerStream,
    peerTotal: batch.peerTotal,
    lostAtMs: undefined,
    inferAtMs: undefined,
    blind: false,
    sinceMs: step.nowMs,
  }
  if (foreseen) emit(step, { type: 'deliver', serial: batch.serial, stream: draft.flight.stream })
}

/** The record is safe: off it goes, or may once it is due. */
export function journalled(step: Step, record: AwaitedRecord): void {
  const { draft } = step
  if (record.type === 'foreseen') return recordIsSafe(draft, record)
  const { flight } = draft
  const { serial, stream } = record
  // The record of an older flight of the same batch may come late, when that of the present one is not safe yet.
  if (flight?.serial !== serial || flight.stream !== stream || flight.stage !== 'journaling') return
  if (draft.diverged !== undefined) return returnFlight(step, flight)
  draft.flight = { ...flight, stage: 'sending' }
  emit(step, { type: 'deliver', serial, stream: flight.stream })
}

/** Where both sites number anew, what was owed to an older WaitForSession is owed no more. */
function skipOldEpoch(step: Step): void {
  const { draft } = step
  if (!bothRestart(draft)) return
  const theirs = draft.connection === 'up' ? draft.peer?.site.stream : undefined
  const old = draft.kept.filter(
    ({ due, stream, peerStream }) =>
      due && (stream !== draft.site.stream || (theirs !== undefined && theirs !== '' && peerStream !== theirs)),
  )
  if (old.length === 0) return
  draft.kept = draft.kept.filter((batch) => !old.includes(batch))
  for (const batch of old) skipAfter(step, batch)
}
