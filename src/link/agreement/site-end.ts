/** What the own SiteAgent does: asks for keys, stops asking, reads or not, tells totals, restarts. */
import { diverge, emit, log, type Step, tellFate } from './draft.js'
import type { Flight } from './state.js'
import { doubtWasIn, doubtWasOut, loseFlight, returnFlight, takenAfter, takenFirst, withdraw } from './taking.js'
import { readTotal, type TotalReading } from './totals.js'

export function streamOpened(step: Step, stream: string): void {
  const { draft } = step
  const { site, flight } = draft
  const old = site.stream
  let { retiring } = site
  if (old !== undefined) {
    if (flight?.stream === old && flight.lostAtMs === undefined && flight.stage !== 'journaling') {
      retiring = { stream: old, untilMs: step.nowMs + draft.limits.settleMs }
    } else {
      emit(step, { type: 'endStream', stream: old, reason: 'a newer WaitForSession took its place' })
      streamGone(step, old)
    }
  }
  draft.site = { ...draft.site, stream, retiring, writable: true, heardOnStream: false }
}

export function streamEnded(step: Step, stream: string): void {
  const { draft } = step
  if (draft.site.stream === stream) draft.site = { ...draft.site, stream: undefined, writable: false }
  if (draft.site.retiring?.stream === stream) draft.site = { ...draft.site, retiring: undefined }
  streamGone(step, stream)
}

function streamGone(step: Step, stream: string): void {
  const { draft } = step
  const { flight } = draft
  if (flight === undefined || flight.stream !== stream || flight.lostAtMs !== undefined) return
  if (flight.stage === 'journaling') {
    returnFlight(step, flight)
    return
  }
  if (draft.site.confirmation === 'inferred') loseFlight(step, flight)
  else draft.flight = { ...flight, lostAtMs: step.nowMs, inferAtMs: undefined }
}

export function writableChanged(step: Step, writable: boolean): void {
  const { draft } = step
  draft.site = { ...draft.site, writable }
  const { flight } = draft
  if (flight === undefined || flight.stage !== 'sent' || flight.lostAtMs !== undefined) return
  if (draft.site.confirmation === 'inferred') {
    draft.flight = { ...flight, inferAtMs: writable ? step.nowMs + draft.limits.inferAfterMs : undefined }
  }
}

export function siteFacts(step: Step, confirmation: 'total' | 'inferred' | 'none', restartsNumbering: boolean): void {
  const { draft } = step
  if (draft.site.confirmation === confirmation && draft.site.restartsNumbering === restartsNumbering) return
  draft.site = { ...draft.site, confirmation, restartsNumbering }
  const { flight } = draft
  if (confirmation === 'total' && flight?.blind === true) {
    draft.flight = { ...flight, inferAtMs: step.nowMs + draft.limits.settleMs }
  }
  if (confirmation !== 'inferred' || flight?.stage !== 'sent') return
  if (flight.lostAtMs !== undefined) loseFlight(step, flight)
  else if (draft.site.writable) draft.flight = { ...flight, inferAtMs: step.nowMs + draft.limits.inferAfterMs }
}

export function handedOver(step: Step, serial: number): void {
  const { draft } = step
  const { flight } = draft
  if (flight?.serial !== serial || flight.stage !== 'sending') return
  const infer = draft.site.confirmation === 'inferred' && draft.site.writable
  const inferAtMs = infer ? step.nowMs + draft.limits.inferAfterMs : undefined
  draft.flight = { ...flight, stage: 'sent', inferAtMs: flight.lostAtMs === undefined ? inferAtMs : undefined }
}

/** The subscription to the reports broke: what happened meanwhile is not known. */
export function reportsInterrupted(step: Step): void {
  const { draft } = step
  draft.site = { ...draft.site, mayBeRenewed: draft.store.total !== undefined }
  draft.store = { ...draft.store, id: undefined }
  const { flight } = draft
  if (flight !== undefined && flight.stage !== 'journaling') draft.flight = { ...flight, blind: true }
}

export function siteRestarted(step: Step): void {
  const { draft } = step
  // Old news: the new store has told its total already.
  if (draft.site.stream !== undefined && draft.site.heardOnStream) return
  log(step, 'warn', 'the SiteAgent was restarted: its key store begins anew')
  draft.site = { ...draft.site, mayBeRenewed: true, renewed: true, fresh: draft.diverged !== undefined }
  draft.store = { ...draft.store, id: undefined }
}

export function totalTold(step: Step, report: { readonly storeId: bigint; readonly total: bigint }): void {
  const { draft } = step
  const reading = readTotal(draft.store, report, openBatches(step))
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
function openBatches({ draft }: Step): Parameters<typeof readTotal>[2] {
  const flight = draft.flight?.stage === 'journaling' ? undefined : draft.flight
  if (flight !== undefined) return { flight, doubts: draft.doubts }
  const [next] = draft.kept
  return { flight: next?.sentBefore === true ? next : undefined, doubts: draft.doubts }
}

function explainedTotal(
  step: Step,
  report: { readonly storeId: bigint; readonly total: bigint },
  reading: TotalReading & { readonly type: 'explained' },
): void {
  const { draft } = step
  const { flight } = openBatches(step)
  const doubts = draft.doubts
  let running = report.total - (reading.flightIn ? BigInt(flight?.count ?? 0) : 0n)
  doubts.forEach((doubt, index) => {
    if (reading.doubtsIn[index] === true) running -= BigInt(doubt.count)
  })
  const { mayBeRenewed, renewed, fresh } = draft.site
  draft.site = { ...draft.site, mayBeRenewed: false, renewed: false, fresh: false, heardOnStream: true }
  if (reading.fell) {
    log(step, 'warn', `the SiteAgent's key store began anew: it holds ${report.total} keys`)
    // What an operator accepted is adopted with the next batch at both sites: this one.
    if (draft.offset !== 'adopt') draft.offset = 0n
  }
  // Doubts first: they were sent before.
  draft.doubts = []
  const lastIn = reading.flightIn ? doubts.length : reading.doubtsIn.lastIndexOf(true)
  doubts.forEach((doubt, index) => {
    const wasIn = reading.doubtsIn[index] === true
    if (wasIn) running += BigInt(doubt.count)
    draft.store = { id: report.storeId, total: running, suspect: undefined }
    if (wasIn) doubtWasIn(step, doubt, running)
    // A report that tells of nothing later leaves the later ones open.
    else if (reading.fell && doubt.order === 'first') withdraw(step, doubt, true)
    else if (index > lastIn) draft.doubts = [...draft.doubts, doubt]
    else if (!reading.fell) doubtWasOut(step, doubt)
  })
  draft.store = { id: report.storeId, total: report.total, suspect: undefined }
  if (!reading.flightIn || flight === undefined) {
    draft.site = { ...draft.site, mayBeRenewed, renewed, fresh }
    return
  }
  takeFlight(step, report.total, false)
  if (reading.fell) storeBeganAnew(step)
}

/** The left store is new; the right one must be as well, or the two have parted. */
function storeBeganAnew(step: Step): void {
  const { draft } = step
  if (draft.ahead.length === 0 || draft.offset === 'adopt') return
  const other = draft.peer?.site
  if (other?.mayBeRenewed === true || other?.renewed === true || other?.restartsNumbering === true) return
  diverge(step, {
    firstDifferingKey: 1n,
    reason: 'this SiteAgent lost its keys and the other one did not: restart both SiteAgents, or accept the divergence',
  })
}

function takeFlight(step: Step, total: bigint | undefined, inferred: boolean): void {
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
  draft.store = { ...draft.store, total, suspect: undefined }
  draft.site = { ...draft.site, mayBeRenewed: false, renewed: false, fresh: false, heardOnStream: true }
  diverge(step, {
    firstDifferingKey: lower + 1n,
    reason: `this SiteAgent holds ${total} keys where ${before} were known: something else gave or took keys`,
  })
}

/** Its report was lost. The stream lives, so the next batch's total tells of this one as well. */
function leaveOpen(step: Step, flight: Flight): void {
  const { draft } = step
  const { serial, count, order } = flight
  draft.flight = undefined
  draft.doubts = [...draft.doubts, { serial, count, order }]
  if (order === 'first') return
  draft.settled = serial
  emit(step, { type: 'delivered', serial, inferred: true })
  tellFate(step, { type: 'takenIn', serial, total: undefined, skipped: true })
}

/** Deadlines of the own end. */
export function siteTick(step: Step): void {
  const { draft } = step
  const { retiring } = draft.site
  const flying = draft.flight
  if (retiring !== undefined && (flying?.stream !== retiring.stream || step.nowMs >= retiring.untilMs)) {
    draft.site = { ...draft.site, retiring: undefined }
    emit(step, { type: 'endStream', stream: retiring.stream, reason: 'a newer WaitForSession took its place' })
    streamGone(step, retiring.stream)
  }
  const { suspect } = draft.store
  if (suspect !== undefined && step.nowMs >= suspect.atMs) unexplainedTotal(step, suspect.total)
  const { flight } = draft
  if (flight === undefined) return
  if (flight.lostAtMs !== undefined && step.nowMs >= flight.lostAtMs + draft.limits.settleMs) loseFlight(step, flight)
  else if (flight.inferAtMs === undefined || step.nowMs < flight.inferAtMs) return
  else if (draft.site.confirmation === 'total') leaveOpen(step, flight)
  else {
    if (draft.store.total !== undefined) {
      draft.store = { ...draft.store, total: draft.store.total + BigInt(flight.count) }
    }
    takeFlight(step, undefined, true)
  }
}
