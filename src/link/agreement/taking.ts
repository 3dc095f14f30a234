/** A batch has come to the own SiteAgent, or certainly has not. */
import { diverge, type Draft, emit, log, nextKeyNumber, type Step, tellFate } from './draft.js'
import type { BatchRef, Doubt, Flight, KeptBatch } from './state.js'

interface Taken {
  /** The own SiteAgent's total after it, where one told. */
  readonly total: bigint | undefined
  readonly inferred: boolean
}

/** The total as the other side may compare it: only between stores that number on. */
function comparable(draft: Draft, total: bigint | undefined): bigint | undefined {
  return draft.site.restartsNumbering ? undefined : total
}

/** This site has it, the other one gets it next. */
export function takenFirst(step: Step, batch: BatchRef, taken: Taken): void {
  const { draft } = step
  const total = comparable(draft, taken.total)
  draft.position += batch.count
  draft.ahead = [...draft.ahead, { serial: batch.serial, count: batch.count, total }]
  emit(step, { type: 'delivered', serial: batch.serial, inferred: taken.inferred })
  tellFate(step, { type: 'takenIn', serial: batch.serial, total, skipped: false })
}

/** Both sites have it. */
export function takenAfter(step: Step, batch: BatchRef, peerTotal: bigint | undefined, taken: Taken): void {
  const { draft } = step
  const total = comparable(draft, taken.total)
  draft.position += batch.count
  draft.settled = batch.serial
  emit(step, { type: 'delivered', serial: batch.serial, inferred: taken.inferred })
  tellFate(step, { type: 'takenIn', serial: batch.serial, total, skipped: false })
  compareTotals(step, batch.count, total, peerTotal)
}

/** The other site has it, this one may, and it is never sent again: numbering begins anew here with the next session. */
export function skipAfter(step: Step, batch: BatchRef): void {
  const { draft } = step
  draft.settled = batch.serial
  emit(step, { type: 'drop', serial: batch.serial, reason: 'uncertain' })
  tellFate(step, { type: 'takenIn', serial: batch.serial, total: undefined, skipped: true })
}

/** Nobody has it. `drop`: this SiteAgent may have it all the same, so its keys are never used. */
export function withdraw(step: Step, batch: BatchRef, drop: boolean): void {
  emit(
    step,
    drop ? { type: 'drop', serial: batch.serial, reason: 'uncertain' } : { type: 'restore', serial: batch.serial },
  )
  tellFate(step, { type: 'withdrawn', serial: batch.serial, drop })
}

/** A batch of open fate turns out to have been taken in. */
export function doubtWasIn(step: Step, doubt: Doubt, total: bigint | undefined): void {
  const { draft } = step
  if (doubt.order === 'first') {
    takenFirst(step, doubt, { total, inferred: false })
    return
  }
  // Taken in before our process restarted; the keys went with it.
  draft.position += doubt.count
  if (doubt.serial <= draft.settled) return
  draft.settled = doubt.serial
  tellFate(step, { type: 'takenIn', serial: doubt.serial, total: comparable(draft, total), skipped: false })
}

/** A batch of open fate turns out not to have been taken in. */
export function doubtWasOut(step: Step, doubt: Doubt): void {
  if (doubt.order === 'first') {
    withdraw(step, doubt, false)
    return
  }
  // Whether the other site has it, it says.
  if (doubt.foreseen === true) return
  diverge(step, {
    firstDifferingKey: nextKeyNumber(step.draft),
    reason: 'the other site has a batch that never came here, and its keys were lost with this gateway',
  })
}

/** Both totals after the same batch: equal, or equal up to the difference that was accepted. */
export function compareTotals(step: Step, count: number, mine: bigint | undefined, theirs: bigint | undefined): void {
  const { draft } = step
  if (mine === undefined || theirs === undefined) return
  const difference = mine - theirs
  if (draft.offset === 'adopt') {
    draft.offset = difference
    log(step, 'warn', `going on with stores that differ by ${difference} keys, as was accepted`)
    return
  }
  if (difference === draft.offset) return
  const lower = mine < theirs ? mine : theirs
  diverge(step, {
    firstDifferingKey: lower - BigInt(count) + 1n,
    reason: `after the same batch this SiteAgent holds ${mine} keys and the other one ${theirs}`,
  })
}

/** The other site has it, and it may have been sent here before our process died: the own SiteAgent's total tells. */
export function assumeSent(step: Step, { serial, count }: BatchRef): void {
  const { draft } = step
  log(step, 'warn', `batch ${serial} may have been sent when this gateway died: its SiteAgent's next total tells`)
  draft.settled = serial
  draft.doubts = [...draft.doubts.filter((doubt) => doubt.serial !== serial), { serial, count, order: 'follow' }]
  emit(step, { type: 'send', message: { type: 'takenIn', serial, total: undefined, skipped: true } })
}

/** The stream of the batch on its way has ended, and no report came in time. */
export function loseFlight(step: Step, flight: Flight): void {
  const { draft } = step
  draft.flight = undefined
  const byTotal = draft.site.confirmation === 'total' || draft.site.confirmation === 'none'
  if (flight.order === 'first') {
    if (byTotal && !draft.site.restartsNumbering) {
      addDoubt(step, { serial: flight.serial, count: flight.count, order: 'first' })
    } else withdraw(step, flight, true)
    return
  }
  if (byTotal && !draft.site.restartsNumbering) draft.kept = [keptAgain(flight), ...draft.kept]
  else skipAfter(step, flight)
}

/** Doubts that can be told apart at once; more than this has never been seen outside tests. */
const MAX_DOUBTS = 3

function addDoubt(step: Step, doubt: Doubt): void {
  const { draft } = step
  draft.doubts = [...draft.doubts, doubt]
  const [oldest, ...others] = draft.doubts
  if (draft.doubts.length <= MAX_DOUBTS || oldest === undefined) return
  // Its SiteAgent has been silent about it for several sessions.
  draft.doubts = others
  doubtWasOut(step, oldest)
}

function keptAgain({ serial, count, order, peerTotal, stream, peerStream }: Flight): KeptBatch {
  return { serial, count, order, due: true, sentBefore: true, peerTotal, stream, peerStream, foreseen: undefined }
}

/** Where the numbering begins anew with each session no total tells what became of a batch, and nobody needs to know. */
export function forgetDoubts(step: Step): void {
  const { draft } = step
  if (!draft.site.restartsNumbering || draft.doubts.length === 0) return
  // What was only foreseen may have gone nowhere: the other side tells first.
  const open = draft.doubts.filter(({ foreseen }) => foreseen !== true)
  if (open.length === 0) return
  draft.doubts = draft.doubts.filter(({ foreseen }) => foreseen === true)
  for (const doubt of open) {
    if (doubt.order === 'first') withdraw(step, doubt, true)
    else if (doubt.serial > draft.settled) skipAfter(step, doubt)
  }
}

/** It was never sent: as it was before. */
export function returnFlight(step: Step, flight: Flight): void {
  const { draft } = step
  draft.flight = undefined
  const due = flight.order === 'follow'
  draft.kept = [{ ...keptAgain(flight), due, sentBefore: false }, ...draft.kept]
}
