/** What becomes of the batches of a sequence that has come to its end. */
import { emit, type Step } from './draft.js'

/** Drops every batch of the old sequence but `except`. */
export function dropUnsettled(step: Step, reason: 'diverged' | 'uncertain' | 'renewed', except?: number): void {
  const { draft } = step
  for (const { serial } of [...draft.kept, ...draft.doubts]) {
    if (serial !== except) emit(step, { type: 'drop', serial, reason })
  }
  if (draft.flight !== undefined) emit(step, { type: 'drop', serial: draft.flight.serial, reason })
  if (draft.proposed !== undefined && draft.proposed.serial !== except) {
    emit(step, { type: 'restore', serial: draft.proposed.serial })
    draft.proposed = undefined
  }
  draft.kept = draft.kept.filter(({ serial }) => serial === except)
  draft.doubts = []
  draft.flight = undefined
  draft.ahead = []
  if (draft.site.restartsNumbering && draft.site.epoch !== '') draft.site = { ...draft.site, spoiled: true }
}
