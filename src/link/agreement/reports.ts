/** What the own SiteAgent tells of its key store: totals, unasked or asked for, and that it was restarted. */
import { diverge, emit, log, nextKeyNumber, type Step, tellFate } from './draft.js'
import type { Doubt, Flight } from './state.js'
import { doubtWasIn, doubtWasOut, returnFlight, takenAfter, takenFirst, withdraw } from './taking.js'
import { type OpenBatches, readTotal, type TotalReading } from './totals.js'

type Report = { readonly storeId: bigint; readonly total: bigint }

/** The subscription to the reports broke: what happened meanwhile is not known. */
export function reportsInterrupted(step: Step): void {
  const { draft } = step
  draft.site = {
    ...draft.site,
    mayBeRenewed: draft.store.total !== undefined || draft.lineage !== '',
    question: undefined,
  }
  draft.store = { ...draft.store, id: undefined }
  const { flight } = draft
  if (flight !== undefined && flight.stage !== 'journaling') draft.flight = { ...flight, blind: true }
}

/** The SiteAgent was restarted for certain. */
export function siteRestarted(step: Step, name: string): void {
  const { draft } = step
  // Old news: the new store has told its total already.
  if (draft.site.stream !== undefined && draft.site.heardOnStream) return
  log(step, 'warn', 'the SiteAgent was restarted: its key store begins anew')
  storeReplaced(step, name)
}

/** Nothing that was sent before is in the new store. */
function storeReplaced(step: Step, name: string): void {
  const { draft } = step
  const { flight } = draft
  const doubts = draft.doubts
  draft.doubts = []
  draft.site = { ...draft.site, mayBeRenewed: false }
  draft.store = { id: undefined, total: 0n, suspect: undefined, name, empty: true }
  for (const doubt of doubts) {
    if (doubt.order === 'first') withdraw(step, doubt, false)
    else if (doubt.foreseen !== true) lostInSession(step, doubt)
  }
  draft.kept = draft.kept.map((batch) => (batch.sentBefore ? { ...batch, sentBefore: false } : batch))
  if (flight === undefined || flight.stage === 'journaling') return
  if (flight.stream === draft.site.stream && flight.lostAtMs === undefined) return
  if (flight.order === 'follow') returnFlight(step, flight)
  else {
    draft.flight = undefined
    withdraw(step, flight, false)
  }
}

/**
 * Between two stores that number on the loss of one is a parting of its own, see `settleStores`. A session of the other
 * site that numbers for itself goes on, though, and would have a gap that nobody tells of.
 */
function lostInSession(step: Step, { serial }: Doubt): void {
  const { draft } = step
  if (draft.site.restartsNumbering || draft.peer?.site.restartsNumbering !== true) return
  diverge(step, {
    firstDifferingKey: nextKeyNumber(draft),
    reason: `this SiteAgent was restarted before it told whether it had batch ${serial}, which the other site has`,
  })
}

export function totalTold(step: Step, report: Report): void {
  const { draft } = step
  const asked = draft.site.question?.untilMs !== undefined
  const context = { mayBeRenewed: draft.site.mayBeRenewed, asked }
  const reading = readTotal(draft.store, report, openBatches(step), context)
  switch (reading.type) {
    case 'ignored':
      return
    case 'explained':
      explainedTotal(step, report, reading)
      return
    case 'unexplained':
      if (reading.sure) unexplainedTotal(step, report.total)
      else draft.store = { ...draft.store, suspect: { total: report.total, atMs: step.nowMs + draft.limits.settleMs } }
  }
}

/** What a report may be about: a batch whose keys are back in the kept ones may still turn out to be in. */
function openBatches({ draft }: Step): OpenBatches {
  const flight = draft.flight?.stage === 'journaling' ? undefined : draft.flight
  if (flight !== undefined) return { flight, doubts: draft.doubts }
  const [next] = draft.kept
  return { flight: next?.sentBefore === true ? next : undefined, doubts: draft.doubts }
}

function explainedTotal(step: Step, report: Report, reading: TotalReading & { readonly type: 'explained' }): void {
  const { draft } = step
  const { flight } = openBatches(step)
  const { flightIn, doubtsIn, fell, final } = reading
  if (fell) return toldByNewStore(step, report, flightIn)
  const doubts = draft.doubts
  let running = report.total - (flightIn ? BigInt(flight?.count ?? 0) : 0n)
  doubts.forEach((doubt, index) => {
    if (doubtsIn[index] === true) running -= BigInt(doubt.count)
  })
  draft.doubts = []
  const lastIn = final ? doubts.length : doubtsIn.lastIndexOf(true)
  // Doubts first: they were sent before.
  doubts.forEach((doubt, index) => {
    const wasIn = doubtsIn[index] === true
    if (wasIn) running += BigInt(doubt.count)
    draft.store = { ...draft.store, id: report.storeId, total: running, suspect: undefined }
    if (wasIn) doubtWasIn(step, doubt, running)
    // A report that tells of nothing later leaves the later ones open.
    else if (index > lastIn) draft.doubts = [...draft.doubts, doubt]
    else doubtWasOut(step, doubt)
  })
  const grew = flightIn || doubtsIn.includes(true)
  heard(step, report, draft.store.empty && !grew)
  if (flightIn) takeFlight(step, report.total, false)
  else if (final) notTakenIn(step)
}

/** A figure that only a store can tell which began anew. */
function toldByNewStore(step: Step, report: Report, flightIn: boolean): void {
  const { draft } = step
  log(step, 'warn', `the SiteAgent's key store began anew: it holds ${report.total} keys`)
  const name = draft.site.stream ?? draft.flight?.stream ?? ''
  if (!flightIn) {
    storeReplaced(step, name)
    return heard(step, report, draft.store.empty)
  }
  const doubts = draft.doubts
  draft.doubts = []
  for (const doubt of doubts) if (doubt.order === 'first') withdraw(step, doubt, true)
  draft.store = { ...draft.store, name }
  // What an operator accepted is adopted with the next batch at both sites: this one.
  if (draft.offset !== 'adopt') draft.offset = 0n
  heard(step, report, false)
  takeFlight(step, report.total, false)
}

/** The store has told its total: what was not known of it is known. */
function heard(step: Step, report: Report, empty: boolean): void {
  const { draft } = step
  const { question } = draft.site
  draft.store = { ...draft.store, id: report.storeId, total: report.total, suspect: undefined, empty }
  draft.site = {
    ...draft.site,
    mayBeRenewed: false,
    heardOnStream: true,
    question: question === undefined || draft.doubts.length > 0 ? question : { ...question, untilMs: undefined },
  }
}

/** The SiteAgent answered that it has nothing of what was sent before. */
function notTakenIn(step: Step): void {
  const { draft } = step
  draft.kept = draft.kept.map((batch) => (batch.sentBefore ? { ...batch, sentBefore: false } : batch))
}

/** The batch on its way is in, or the one that was sent on an earlier stream and kept. */
export function takeFlight(step: Step, total: bigint | undefined, inferred: boolean): void {
  const { draft } = step
  const { flight } = draft
  if (flight !== undefined) {
    draft.flight = undefined
    if (flight.order === 'first') takenFirst(step, flight, { total, inferred })
    else takenAfter(step, flight, flight.peerTotal, { total, inferred })
    return
  }
  const [next, ...others] = draft.kept
  if (next?.sentBefore !== true) return
  draft.kept = others
  takenAfter(step, next, next.peerTotal, { total, inferred })
}

function unexplainedTotal(step: Step, total: bigint): void {
  const { draft } = step
  const before = draft.store.total ?? 0n
  const lower = total < before ? total : before
  draft.store = { ...draft.store, total, suspect: undefined, empty: false }
  draft.site = { ...draft.site, mayBeRenewed: false, heardOnStream: true }
  diverge(step, {
    firstDifferingKey: lower + 1n,
    reason: `this SiteAgent holds ${total} keys where ${before} were known: something else gave or took keys`,
  })
}

/** A report that nothing explained by now is believed. */
export function suspectTick(step: Step): void {
  const { suspect } = step.draft.store
  if (suspect !== undefined && step.nowMs >= suspect.atMs) unexplainedTotal(step, suspect.total)
}

/** Its report was lost. The stream lives, so the next batch's total tells of this one as well. */
export function leaveOpen(step: Step, flight: Flight): void {
  const { draft } = step
  const { serial, count, order } = flight
  draft.flight = undefined
  draft.doubts = [...draft.doubts, { serial, count, order }]
  if (order === 'first') return
  draft.settled = serial
  emit(step, { type: 'delivered', serial, inferred: true })
  tellFate(step, { type: 'takenIn', serial, total: undefined, skipped: true })
}
