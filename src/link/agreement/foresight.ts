/**
 * A batch that this site gets second has to go out the moment the other one has it, and not a write to the disk later. So
 * the record that it may be sent at any moment is written when it is verified. A process that dies after that does not
 * know whether it was sent: its SiteAgent's total tells, or that the other site never had it.
 */
import type { Draft } from './draft.js'
import type { AwaitedRecord } from './events.js'
import type { AgreementState, KeptBatch } from './state.js'

/**
 * What a record of a batch rests on beside the positions, which only grow: a process that finds the record must read its
 * SiteAgent's total as this one would. Undefined where it could not: where totals do not tell the fate of a batch.
 */
function basisOf({ site, store, stores, lineage, offset, diverged, accepting }: AgreementState): string | undefined {
  if (site.confirmation !== 'total' || site.restartsNumbering || store.total === undefined) return undefined
  if (diverged !== undefined || accepting) return undefined
  return [lineage, store.name, stores.mine, stores.theirs, offset].join('|')
}

/** The record of `batch` is on the disk, and tells all that a process which died would have to know. */
export function isForeseen(state: AgreementState, { foreseen }: KeptBatch): boolean {
  return foreseen?.safe === true && foreseen.basis === basisOf(state)
}

/** Marks the batches that the record which is written now foresees, and names them. */
export function foresee(draft: Draft): AwaitedRecord[] {
  const basis = basisOf(draft)
  if (basis === undefined) return []
  const awaited: AwaitedRecord[] = []
  const wants = ({ order, sentBefore, foreseen }: KeptBatch): boolean =>
    order === 'follow' && !sentBefore && foreseen?.basis !== basis
  if (!draft.kept.some(wants)) return awaited
  draft.kept = draft.kept.map((batch) => {
    if (!wants(batch)) return batch
    awaited.push({ type: 'foreseen', serial: batch.serial, basis })
    return { ...batch, foreseen: { basis, safe: false } }
  })
  return awaited
}

/** The record is on the disk. */
export function recordIsSafe(draft: Draft, { serial, basis }: AwaitedRecord & { readonly type: 'foreseen' }): void {
  const isMeant = (batch: KeptBatch): boolean => batch.serial === serial && batch.foreseen?.basis === basis
  draft.kept = draft.kept.map((batch) => (isMeant(batch) ? { ...batch, foreseen: { basis, safe: true } } : batch))
}
