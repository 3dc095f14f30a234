/** The agreement of one end as a pure function: (state, event) → (state, effects). */
import { advance, journalled, siteView } from './delivery.js'
import { type Draft, emit, log, type Step } from './draft.js'
import { durableOf } from './durable.js'
import { foresee } from './foresight.js'
import type { AgreementEffect, AgreementEvent } from './events.js'
import { answered, formed, peerMessage, prepared } from './peer-messages.js'
import { connected, disconnected, greeted } from './reconcile.js'
import { reportsInterrupted, siteRestarted, totalTold } from './reports.js'
import { handedOver, siteFacts, siteTick, streamEnded, streamOpened, writableChanged } from './site-end.js'
import type { AgreementState } from './state.js'
import { resume } from './stores.js'

export interface Transition {
  readonly state: AgreementState
  readonly effects: readonly AgreementEffect[]
}

export function transition(state: AgreementState, event: AgreementEvent): Transition {
  const draft: Draft = { ...state }
  const step: Step = { draft, effects: [], nowMs: event.nowMs }
  apply(step, event)
  siteTick(step)
  advance(step)
  tellSite(step, state)
  persist(step, state)
  return { state: draft, effects: step.effects }
}

function apply(step: Step, event: AgreementEvent): void {
  const { draft } = step
  switch (event.type) {
    case 'session':
      return beginSession(step, event.role, event.freshLineage)
    case 'streamOpened':
      return streamOpened(step, event.stream)
    case 'streamEnded':
      return streamEnded(step, event.stream)
    case 'writable':
      return writableChanged(step, event.writable)
    case 'siteFacts':
      return siteFacts(step, event.confirmation, event.restartsNumbering)
    case 'reportsInterrupted':
      return reportsInterrupted(step)
    case 'siteRestarted':
      return siteRestarted(step, event.store)
    case 'total':
      return totalTold(step, event)
    case 'connected':
      return connected(step)
    case 'hello':
      return greeted(step, event.hello)
    case 'disconnected':
      return disconnected(step)
    case 'message':
      return peerMessage(step, event.message)
    case 'formed':
      return formed(step, { serial: event.serial, count: event.count })
    case 'verified':
      return answered(step, event.serial, event.genuine ? 'verified' : 'mismatch')
    case 'prepared':
      return prepared(step, event)
    case 'journalled':
      return journalled(step, event.record)
    case 'handedOver':
      return handedOver(step, event.serial)
    case 'pause':
      draft.paused = event.paused
      return
    case 'acceptDivergence':
      return acceptDivergence(step)
    case 'tick':
      return
  }
}

/** A session begins; a link that mismatches had stopped may try again. */
function beginSession(step: Step, role: 'left' | 'right', freshLineage: string): void {
  const { draft } = step
  draft.freshLineage = freshLineage
  draft.mismatches = 0
  draft.stopped = undefined
  draft.paused = false
  draft.role = role
}

function acceptDivergence(step: Step): void {
  const { draft } = step
  if (draft.diverged === undefined) return
  log(step, 'warn', `the operator accepts that the stores parted at key ${draft.diverged.firstDifferingKey}`)
  if (draft.connection === 'up' && draft.peer?.fits === true) {
    emit(step, { type: 'send', message: { type: 'acceptDivergence' } })
    resume(step, 'adopt')
  } else draft.accepting = true
}

/** The other side is told of the own SiteAgent when something has changed. */
function tellSite(step: Step, before: AgreementState): void {
  const { draft } = step
  const sees = draft.peer?.site.store === before.peer?.site.store
  if (draft.connection === 'down' || (sees && same(draft, before, SITE_FIELDS))) return
  const site = siteView(draft)
  const told = JSON.stringify(site)
  if (told === draft.toldSite) return
  draft.toldSite = told
  emit(step, { type: 'send', message: { type: 'site', site } })
}

/** What a site's view and a durable record are made of: where none of it was replaced, nothing needs to be compared. */
const SITE_FIELDS = ['site', 'store', 'diverged', 'stopped', 'paused', 'toldSite', 'connection'] as const
const DURABLE_FIELDS = [
  'lineage',
  'settled',
  'position',
  'nextSerial',
  'ahead',
  'doubts',
  'flight',
  'kept',
  'store',
  'stores',
  'offset',
  'diverged',
  'accepting',
] as const

function same(a: AgreementState, b: AgreementState, fields: readonly (keyof AgreementState)[]): boolean {
  return fields.every((field) => a[field] === b[field])
}

const asText = (value: unknown): string =>
  JSON.stringify(value, (_, field: unknown) => (typeof field === 'bigint' ? `${field}n` : field))

function persist(step: Step, before: AgreementState): void {
  const { draft } = step
  if (same(draft, before, DURABLE_FIELDS)) return
  const awaited = foresee(draft)
  const record = durableOf(draft)
  const { flight } = draft
  const was = before.flight
  const begun = was?.serial === flight?.serial && was?.stage === 'journaling' && was.stream === flight?.stream
  if (flight?.stage === 'journaling' && !begun) {
    awaited.push({ type: 'flight', serial: flight.serial, stream: flight.stream })
  }
  if (awaited.length === 0 && asText(record) === asText(durableOf(before))) return
  // Before anything that depends on it.
  step.effects.unshift({ type: 'journal', record, awaited })
}

/** When `tick` is due next, monotonic ms; undefined where nothing waits for time. */
export function nextTickMs(state: AgreementState): number | undefined {
  const times = [
    state.site.retiring?.untilMs,
    state.store.suspect?.atMs,
    state.site.question?.untilMs,
    state.flight?.lostAtMs === undefined ? undefined : state.flight.lostAtMs + state.limits.settleMs,
    state.flight?.inferAtMs,
  ].filter((time) => time !== undefined)
  return times.length === 0 ? undefined : Math.min(...times)
}

/** True while a batch is on its way at this end, or due here and deliverable, or the other side is about to get it. */
export function isSettling(state: AgreementState): boolean {
  if (state.flight !== undefined && state.flight.stage !== 'journaling') return true
  if (state.flight !== undefined) return true
  if (state.kept.some(({ due }) => due) && state.site.stream !== undefined && state.site.writable) return true
  return (
    state.ahead.length > 0 && state.connection === 'up' && state.peer?.fits === true && state.peer.site.stream !== ''
  )
}

/** What one site lacks of what the other has, as far as this end knows. */
export function owed(state: AgreementState): { readonly here: number; readonly there: number } {
  const sum = (batches: readonly { readonly count: number }[]): number =>
    batches.reduce((keys, { count }) => keys + count, 0)
  const here = sum(state.kept.filter(({ due }) => due))
  const flying = state.flight?.order === 'follow' ? state.flight.count : 0
  return { here: here + flying, there: sum(state.ahead) }
}
