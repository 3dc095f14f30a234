/** What the other side says of batches, and how proposals come out. */
import { bothRestart } from './delivery.js'
import { diverge, emit, log, nextKeyNumber, type Step } from './draft.js'
import type { AgreementEvent, AgreementMessage } from './events.js'
import { proven } from './reconcile.js'
import type { BatchRef } from './state.js'
import { beginTogether, presentStores, resume } from './stores.js'
import { assumeSent, compareTotals, forgetDoubts } from './taking.js'

function protocolError(step: Step, text: string): void {
  emit(step, { type: 'protocolError', text })
}

export function peerMessage(step: Step, message: AgreementMessage): void {
  const { draft } = step
  if (draft.connection !== 'up' || draft.peer === undefined) {
    protocolError(step, `${message.type}: said before Hello`)
    return
  }
  switch (message.type) {
    case 'site':
      draft.peer = { ...draft.peer, site: message.site }
      return
    case 'refused':
      return answered(step, message.serial, message.reason)
    case 'takenIn':
    case 'withdrawn':
    case 'diverged':
    case 'acceptDivergence':
    case 'beginAnew':
      // A stranger, who holds none of our keys and knows none of our history, changes nothing; and what the other side
      // says of a sequence that is over for this side does not count any more.
      if (!draft.peer.fits) return
      return aboutBatches(step, message)
  }
}

function aboutBatches(
  step: Step,
  message: AgreementMessage & {
    readonly type: 'takenIn' | 'withdrawn' | 'diverged' | 'acceptDivergence' | 'beginAnew'
  },
): void {
  switch (message.type) {
    case 'takenIn':
      return takenInThere(step, message.serial, message.total, message.skipped)
    case 'withdrawn':
      return withdrawnThere(step, message.serial, message.drop)
    case 'diverged':
      return diverge(step, { firstDifferingKey: message.firstDifferingKey, reason: message.reason }, false)
    case 'acceptDivergence':
      log(step, 'warn', 'the operator at the other site accepts that the stores have parted')
      return resume(step, 'adopt')
    case 'beginAnew':
      return beginTogether(step, { mine: message.stores.theirs, theirs: message.stores.mine })
  }
}

function takenInThere(step: Step, serial: number, total: bigint | undefined, skipped: boolean): void {
  const { draft } = step
  const [first, ...laterAhead] = draft.ahead
  if (first?.serial === serial) {
    draft.ahead = laterAhead
    draft.settled = serial
    if (!skipped) compareTotals(step, first.count, first.total, total)
    return
  }
  const doubt = draft.doubts.find((batch) => batch.serial === serial && batch.order === 'first')
  if (doubt !== undefined) {
    // We died between telling them and writing it down: they have it because ours was in.
    draft.doubts = draft.doubts.filter((other) => other !== doubt)
    draft.position += doubt.count
    draft.settled = serial
    if (draft.store.total !== undefined) {
      draft.store = { ...draft.store, total: draft.store.total + BigInt(doubt.count) }
    }
    emit(step, { type: 'delivered', serial, inferred: false })
    return
  }
  const foreseen = draft.doubts.find((batch) => batch.serial === serial && batch.foreseen === true)
  if (foreseen !== undefined) {
    assumeSent(step, foreseen)
    return forgetDoubts(step)
  }
  // Theirs was first: ours is due now.
  const index = draft.kept.findIndex((batch) => batch.serial === serial && batch.order === 'follow' && !batch.due)
  if (index >= 0 && !skipped) {
    if (draft.kept.slice(0, index).some(({ due }) => !due)) return protocolError(step, 'TakenIn.serial: out of order')
    draft.kept = draft.kept.map((batch) =>
      batch.serial === serial ? { ...batch, due: true, peerTotal: total } : batch,
    )
    return
  }
  // Said once more by a side that died after it had told us.
  if (serial <= draft.settled || draft.flight?.serial === serial || isDue(step, serial)) return
  const lost = draft.peer?.lost.find((batch) => batch.serial === serial)
  if (lost !== undefined && draft.peer !== undefined && bothRestart(draft)) {
    // Both begin anew with the next session: nothing of an older one is owed.
    draft.peer = { ...draft.peer, lost: draft.peer.lost.filter((batch) => batch !== lost) }
    draft.settled = serial
    emit(step, { type: 'send', message: { type: 'takenIn', serial, total: undefined, skipped: true } })
    return
  }
  if (lost !== undefined) {
    diverge(step, {
      firstDifferingKey: nextKeyNumber(draft),
      reason: `the other SiteAgent has batch ${serial} of ${lost.count} keys, and this gateway lost them before it could send them`,
    })
    return
  }
  if (serial < draft.nextSerial) return hadToldBefore(step, serial)
  protocolError(step, `TakenIn.serial: no batch ${serial} is under way`)
}

/** They have a batch of which we told them before our process died, and of which we know better by now. */
function hadToldBefore(step: Step, serial: number): void {
  const { draft } = step
  draft.settled = serial
  if (draft.site.restartsNumbering || draft.peer?.site.restartsNumbering === true) return
  diverge(step, {
    firstDifferingKey: nextKeyNumber(draft),
    reason: `the other SiteAgent has batch ${serial}, and this one lost it`,
  })
}

function isDue({ draft }: Step, serial: number): boolean {
  return draft.kept.some((batch) => batch.serial === serial && batch.due)
}

function withdrawnThere(step: Step, serial: number, drop: boolean): void {
  const { draft } = step
  const batch = draft.kept.find((kept) => kept.serial === serial && kept.order === 'follow' && !kept.sentBefore)
  if (batch !== undefined) {
    draft.kept = draft.kept.filter((kept) => kept !== batch)
    emit(step, drop ? { type: 'drop', serial, reason: 'uncertain' } : { type: 'restore', serial })
    return
  }
  draft.doubts = draft.doubts.filter((doubt) => doubt.serial !== serial || doubt.foreseen !== true)
  const { peer } = draft
  if (peer?.lost.some((lost) => lost.serial === serial) === true) {
    draft.peer = { ...peer, lost: peer.lost.filter((lost) => lost.serial !== serial) }
    return
  }
  // We were told the contrary before the other side died, and have it by now: it learns so from us.
  if (serial < draft.nextSerial) return
  protocolError(step, `Withdrawn.serial: no batch ${serial} is under way`)
}

/** Left: the desk formed a batch. */
export function formed(step: Step, batch: BatchRef): void {
  const { draft } = step
  const { stream } = draft.site
  draft.proposed = { ...batch, stores: presentStores(draft), stream, peerStream: draft.peer?.site.stream }
  draft.nextSerial = batch.serial + 1
}

/** Left: the other side's word on the proposed batch. */
export function answered(step: Step, serial: number, outcome: 'verified' | 'mismatch' | 'missing'): void {
  const { draft } = step
  const { proposed } = draft
  if (proposed?.serial !== serial) {
    if (draft.peer?.resumed !== true) return protocolError(step, `no batch ${serial} was proposed`)
    // It was proposed before this side began anew.
    if (outcome === 'verified') {
      emit(step, { type: 'send', message: { type: 'withdrawn', serial, drop: false } })
    }
    return
  }
  draft.proposed = undefined
  if (outcome === 'missing') {
    emit(step, { type: 'restore', serial })
    return
  }
  if (outcome === 'mismatch') return mismatched(step, serial)
  proven(step, serial, proposed.stores)
  emit(step, { type: 'commit', serial })
  draft.kept = [
    ...draft.kept,
    {
      ...{ serial, count: proposed.count, order: 'first', due: false, sentBefore: false, peerTotal: undefined },
      ...{ stream: proposed.stream, peerStream: proposed.peerStream, foreseen: undefined },
    },
  ]
}

/** Right: how the desk found a proposed batch. */
export function prepared(step: Step, event: AgreementEvent & { readonly type: 'prepared' }): void {
  const { draft } = step
  const { serial, count, outcome, stores } = event
  const batch = { serial, count }
  if (draft.connection !== 'up' || draft.peer === undefined) {
    if (outcome !== 'missing') emit(step, { type: 'restore', serial: batch.serial })
    return
  }
  if (outcome === 'missing') {
    emit(step, { type: 'announceAnew' })
    emit(step, { type: 'send', message: { type: 'refused', serial: batch.serial, reason: 'missing' } })
    return
  }
  if (outcome === 'mismatch') {
    emit(step, { type: 'send', message: { type: 'refused', serial: batch.serial, reason: 'mismatch' } })
    return mismatched(step, batch.serial)
  }
  proven(step, batch.serial, stores)
  draft.nextSerial = Math.max(draft.nextSerial, batch.serial + 1)
  emit(step, { type: 'commit', serial: batch.serial }, { type: 'sendVerified', serial: batch.serial })
  draft.kept = [
    ...draft.kept,
    {
      ...{ ...batch, order: 'follow', due: false, sentBefore: false, peerTotal: undefined },
      stream: draft.site.stream,
      peerStream: draft.peer?.site.stream,
      foreseen: undefined,
    },
  ]
}

/** The keys of a peer that was one before are bad; to one that never showed any we lose no more than the proof. */
function mismatched(step: Step, serial: number): void {
  const { draft } = step
  emit(step, draft.peer?.proven === true ? { type: 'drop', serial, reason: 'mismatch' } : { type: 'restore', serial })
  draft.mismatches += 1
  if (draft.mismatches < draft.limits.maxMismatches) {
    log(step, 'error', `batch ${serial}: the two sites hold different keys under the same ids; nothing of it is sent`)
    return
  }
  draft.stopped = `${draft.mismatches} batches in a row differ between the sites: the two devices are not a pair, or the peer is not ours`
  log(step, 'error', draft.stopped)
}
