/**
 * Totals come on change only, so a gateway that does not know what became of a batch, or whether it is the same store,
 * asks: it sends a message without keys, upon which a C++ SiteAgent tells its total as it is. One that does not answer
 * in time is treated as one that cannot be asked, and the next batch's total has to tell.
 */
import { emit, log, type Step } from './draft.js'
import type { AgreementState } from './state.js'
import { doubtWasOut } from './taking.js'

/** True while the SiteAgent's answer is waited for. */
export function isAsking(state: AgreementState): boolean {
  const { question, stream } = state.site
  return question?.untilMs !== undefined && question.stream === stream
}

/** Asks where there is something to ask, once a WaitForSession. */
export function ask(step: Step): void {
  const { draft } = step
  const { site, flight } = draft
  if (site.stream === undefined || site.retiring !== undefined || !site.writable) return
  if (site.confirmation !== 'total' || site.restartsNumbering || site.question?.stream === site.stream) return
  const unreported = flight?.blind === true && flight.stage === 'sent' && flight.stream === site.stream
  if (flight !== undefined && !unreported) return
  const open = draft.doubts.length > 0 || draft.kept[0]?.sentBefore === true
  if (!open && !unreported && !site.mayBeRenewed) return
  draft.site = { ...site, question: { stream: site.stream, untilMs: step.nowMs + draft.limits.answerMs } }
  emit(step, { type: 'ask', stream: site.stream })
}

/** The time for an answer is over. */
export function questionTick(step: Step): void {
  const { draft } = step
  const { question } = draft.site
  if (question?.untilMs === undefined || step.nowMs < question.untilMs) return
  draft.site = { ...draft.site, question: { ...question, untilMs: undefined } }
  if (question.stream !== draft.site.stream) return
  const [next] = draft.kept
  if (next?.sentBefore === true) {
    log(
      step,
      'warn',
      `the SiteAgent does not say whether it has batch ${next.serial}: it gets it again, and its total tells before any other key`,
    )
  }
  if (draft.role === 'left') return
  // The right side cannot try the next batch to learn of one that it has sent first in another role: silence has to do.
  const open = draft.doubts.filter(({ order }) => order === 'first')
  draft.doubts = draft.doubts.filter(({ order }) => order !== 'first')
  for (const doubt of open) doubtWasOut(step, doubt)
}
