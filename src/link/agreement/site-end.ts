/** What the own SiteAgent does with its WaitForSessions: opens and ends them, reads or not; and the own deadlines. */
import { emit, type Step } from './draft.js'
import { questionTick } from './question.js'
import { leaveOpen, suspectTick, takeFlight } from './reports.js'
import { forgetDoubts, loseFlight, returnFlight } from './taking.js'

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
  draft.site = { ...draft.site, stream, retiring, writable: true, heardOnStream: false, epoch: '', spoiled: false }
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
  forgetDoubts(step)
  const { flight } = draft
  if (confirmation === 'total' && flight?.blind === true) {
    // Longer than a question to the SiteAgent takes.
    draft.flight = { ...flight, inferAtMs: step.nowMs + draft.limits.answerMs + draft.limits.settleMs }
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
  suspectTick(step)
  questionTick(step)
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
