/** Two gateways meet: where does each stand, and what follows for the batches in between? */
import { dropUnsettled } from './abandon.js'
import { bothRestart, siteView } from './delivery.js'
import { diverge, type Draft, emit, log, nextKeyNumber, type Step } from './draft.js'
import type { AgreementState, Hello, KeptBatch, StorePair } from './state.js'
import { resume } from './stores.js'
import { assumeSent, compareTotals, forgetDoubts } from './taking.js'

/**
 * How far the other side may be ahead in serials: more than a year of batches, for a gateway that lost its state folder;
 * so little that no stranger uses the serials up.
 */
const MAX_SERIAL_LEAD = 2 ** 32

/** What we say first on a connection. */
export function helloOf(state: AgreementState): Hello {
  const flight = state.flight
  const inDoubt = state.doubts.filter(({ order }) => order === 'first').map(({ serial, count }) => ({ serial, count }))
  if (flight?.order === 'first') inDoubt.push({ serial: flight.serial, count: flight.count })
  return {
    lineage: state.lineage,
    freshLineage: state.freshLineage,
    settled: state.settled,
    ahead: state.ahead.map(({ serial, count }) => ({ serial, count })),
    inDoubt,
    unsure: state.doubts.filter(({ order }) => order === 'follow').map(({ serial, count }) => ({ serial, count })),
    position: state.position,
    total: state.site.restartsNumbering ? undefined : state.store.total,
    divergedAt: state.diverged?.firstDifferingKey,
    acceptsDivergence: state.accepting,
    nextSerial: state.nextSerial,
    stores: state.stores,
    site: siteView(state),
  }
}

export function connected(step: Step): void {
  const { draft } = step
  draft.connection = 'greeting'
  draft.peer = undefined
  draft.unsaid = []
  draft.saidOpen = draft.doubts.map(({ serial }) => serial)
  draft.toldSite = JSON.stringify(siteView(draft))
  emit(step, { type: 'sendHello' })
}

/** What was only proposed or verified waits again; what may have been sent stays as it is. */
export function disconnected(step: Step): void {
  const { draft } = step
  draft.connection = 'down'
  if (draft.peer !== undefined) draft.peer = { ...draft.peer, fits: false, proven: false }
  if (draft.proposed !== undefined) {
    emit(step, { type: 'restore', serial: draft.proposed.serial })
    draft.proposed = undefined
  }
  restoreWhere(step, ({ order }) => order === 'first')
  const { flight } = draft
  if (flight?.order !== 'first' || flight.stage !== 'journaling') return
  // Not sent yet: the other side may come back without its copy.
  draft.flight = undefined
  emit(step, { type: 'restore', serial: flight.serial })
}

function restoreWhere(step: Step, chosen: (batch: KeptBatch) => boolean): void {
  const { draft } = step
  for (const batch of draft.kept) if (chosen(batch)) emit(step, { type: 'restore', serial: batch.serial })
  draft.kept = draft.kept.filter((batch) => !chosen(batch))
}

export function greeted(step: Step, hello: Hello): void {
  const { draft } = step
  if (draft.connection !== 'greeting') {
    emit(step, { type: 'protocolError', text: 'Hello: said twice' })
    return
  }
  if (hello.nextSerial > draft.nextSerial + MAX_SERIAL_LEAD) {
    emit(step, { type: 'protocolError', text: 'Hello.next_serial: too far above what was used here' })
    return
  }
  draft.connection = 'up'
  draft.nextSerial = Math.max(draft.nextSerial, hello.nextSerial)
  draft.peer = { site: hello.site, proven: false, fits: false, resumed: false, hello, lost: [] }
  // The other side has acted on what was accepted here, and the connection was lost before we did.
  if (draft.accepting && hello.divergedAt === undefined && draft.lineage !== hello.lineage) resume(step, 'adopt')
  if (draft.lineage === '' || draft.lineage !== hello.lineage || !fit(step, hello)) {
    // Of a sequence that the other side never heard of nothing was taken in there, and nothing was sent here.
    restoreWhere(step, ({ order, due, sentBefore }) => order === 'follow' && !due && !sentBefore)
    log(
      step,
      'info',
      'the positions of the two gateways do not fit yet: they begin a new sequence once keys are verified',
    )
    return
  }
  draft.peer = { ...draft.peer, fits: true }
  // A store that began anew without a loss may be counted in by one side before the other hears of it.
  draft.stores = { ...draft.stores, theirs: hello.stores.mine }
  sayUnsaid(step, hello)
  forgetDoubts(step)
  if (hello.acceptsDivergence || draft.accepting) {
    if (draft.diverged !== undefined || hello.divergedAt !== undefined) resume(step, 'adopt')
  } else if (hello.divergedAt !== undefined) {
    diverge(step, { firstDifferingKey: hello.divergedAt, reason: 'the other gateway found it out' }, false)
  }
}

/** Between the two Hellos batches went on: what the other side could not know is told now. */
function sayUnsaid(step: Step, theirs: Hello): void {
  const { draft } = step
  const mine = new Set(draft.ahead.map(({ serial }) => serial))
  const awaited = new Set([...theirs.ahead, ...theirs.inDoubt].map(({ serial }) => serial))
  for (const message of draft.unsaid) {
    if (message.type === 'withdrawn' || mine.has(message.serial) || awaited.has(message.serial)) {
      emit(step, { type: 'send', message })
    }
  }
  draft.unsaid = []
}

/**
 * Brings our view up to theirs, or changes nothing and returns false where no history leads to both. A position of the
 * other side is one of: what both had settled, one of the batches that we are ahead with, one that we were sending when
 * our process died.
 */
function fit(step: Step, theirs: Hello): boolean {
  const { draft } = step
  const after = catchUp(draft, theirs)
  if (after === undefined) return false
  const { ahead, settled, doubts, position, dueSerials, assumed } = after
  draft.ahead = ahead
  draft.settled = settled
  const doubted = new Set(theirs.inDoubt.map(({ serial }) => serial))
  // What was foreseen, and the other site neither has nor may have, was never sent.
  draft.doubts = doubts.filter(({ serial, foreseen }) => foreseen !== true || doubted.has(serial))
  if (draft.store.total !== undefined && position > draft.position) {
    draft.store = { ...draft.store, total: draft.store.total + BigInt(position - draft.position) }
  }
  draft.position = position
  // What the other side neither has nor may have was abandoned by it.
  restoreWhere(
    step,
    ({ serial, due, order }) => order === 'follow' && !due && !doubted.has(serial) && !dueSerials.has(serial),
  )
  draft.kept = draft.kept.map((batch) => (dueSerials.has(batch.serial) ? { ...batch, due: true } : batch))
  const held = new Set(
    [...draft.kept, ...(draft.flight === undefined ? [] : [draft.flight])].map(({ serial }) => serial),
  )
  for (const { serial, count } of theirs.ahead) {
    if (!dueSerials.has(serial) || held.has(serial)) continue
    if (bothRestart(draft)) {
      // Both begin anew with the next session: nothing of an older one is owed.
      draft.settled = serial
      emit(step, { type: 'send', message: { type: 'takenIn', serial, total: undefined, skipped: true } })
      continue
    }
    if (assumed.has(serial)) {
      assumeSent(step, { serial, count })
      continue
    }
    diverge(step, {
      firstDifferingKey: nextKeyNumber(draft),
      reason: `the other SiteAgent has batch ${serial} of ${count} keys, and this gateway lost them before it could send them`,
    })
    return true
  }
  const lost = theirs.inDoubt.filter(({ serial }) => !held.has(serial))
  if (draft.peer !== undefined) draft.peer = { ...draft.peer, lost }
  if (
    draft.ahead.length === 0 &&
    theirs.ahead.length === 0 &&
    draft.flight === undefined &&
    draft.doubts.length === 0
  ) {
    // A total that does not tell of a batch of open fate yet is no difference.
    if (theirs.inDoubt.length === 0 && theirs.unsure.length === 0) compareSettled(step, theirs)
  }
  return true
}

function compareSettled(step: Step, theirs: Hello): void {
  const { draft } = step
  if (
    theirs.divergedAt !== undefined ||
    draft.settled === 0 ||
    draft.site.restartsNumbering ||
    theirs.site.restartsNumbering
  )
    return
  // A store that began anew has another total; what that means depends on the other store, which may be new as well.
  if (draft.store.name !== draft.stores.mine || theirs.site.store !== theirs.stores.mine) return
  if (draft.offset !== 'adopt') compareTotals(step, 0, draft.store.total, theirs.total)
}

interface CaughtUp {
  readonly ahead: Draft['ahead']
  readonly settled: number
  readonly doubts: Draft['doubts']
  readonly position: number
  /** Batches that the other side has and we have not. */
  readonly dueSerials: ReadonlySet<number>
  /** Of those, the ones that we were sending when our process died. */
  readonly assumed: ReadonlySet<number>
}

function catchUp(draft: Draft, theirs: Hello): CaughtUp | undefined {
  const common = commonPosition(draft, theirs)
  if (common === undefined) return undefined
  // They lead with what they took in after our own position.
  const index = theirs.ahead.findIndex(({ serial }) => serial === common.settled)
  const leading = theirs.ahead.slice(index + 1)
  if (leading.length > 0 && common.ahead.length > 0) return undefined
  const dueSerials = new Set(leading.map(({ serial }) => serial))
  const assumed = new Set<number>()
  const doubts = common.doubts.filter(({ serial, order }) => {
    if (order === 'first' || !dueSerials.has(serial)) return true
    assumed.add(serial)
    return false
  })
  return { ...common, doubts, dueSerials, assumed }
}

type Position = Pick<CaughtUp, 'ahead' | 'settled' | 'doubts' | 'position'>

/** Where we stand once their settled batch counts as settled here; undefined where no history explains it. */
function commonPosition(draft: Draft, theirs: Hello): Position | undefined {
  const { settled, ahead, doubts, position } = draft
  const present: Position = { settled, ahead, doubts, position }
  if (theirs.settled === settled) return present
  const known = ahead.findIndex(({ serial }) => serial === theirs.settled)
  if (known >= 0) return { ...present, settled: theirs.settled, ahead: ahead.slice(known + 1) }
  const doubt = doubts.find(({ serial }) => serial === theirs.settled)
  if (doubt?.order === 'follow') {
    // We told them so of ours and died; perhaps only that it may be in, so our SiteAgent's total still has to tell.
    const { serial, count, order } = doubt
    return {
      ...{ settled: theirs.settled, ahead: [], position },
      doubts: doubts.map((other) => (other === doubt ? { serial, count, order } : other)),
    }
  }
  if (doubt !== undefined) {
    // They have it because we told them that ours was in, and died.
    return {
      settled: theirs.settled,
      ahead: [],
      doubts: doubts.filter((other) => other !== doubt),
      position: position + doubt.count,
    }
  }
  // The store began anew while the two Hellos crossed: the batch that was in doubt is not in it, and they have it.
  if (draft.saidOpen.includes(theirs.settled)) return { ...present, settled: theirs.settled, ahead: [] }
  if (theirs.ahead.some(({ serial }) => serial === settled)) return present
  // The same, seen from the side that lived.
  return [...theirs.inDoubt, ...theirs.unsure].some(({ serial }) => serial === settled) ? present : undefined
}

/** The other side has shown that it holds our keys; if the positions did not fit, a new sequence begins with `serial`. */
export function proven(step: Step, serial: number, stores: StorePair): void {
  const { draft } = step
  const { peer } = draft
  if (peer === undefined) return
  draft.mismatches = 0
  draft.peer = { ...peer, proven: true, fits: true, resumed: false }
  if (peer.fits) return
  const unsettled = draft.ahead.length + draft.doubts.length + draft.kept.length
  if (unsettled > 0) log(step, 'warn', 'the two gateways do not share their history: what was unsettled is dropped')
  dropUnsettled(step, 'uncertain', serial)
  draft.lineage = draft.role === 'left' ? draft.freshLineage : peer.hello.freshLineage
  draft.settled = 0
  draft.position = 0
  draft.stores = stores
}
