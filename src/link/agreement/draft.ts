import type { AgreementEffect } from './events.js'
import type { AgreementState, Divergence, FateMessage } from './state.js'

/** A state under change: top-level fields are replaced, nothing inside them is. */
export type Draft = { -readonly [K in keyof AgreementState]: AgreementState[K] }

/** One transition: the draft, what it asks for, and the time at which it happens. */
export interface Step {
  readonly draft: Draft
  readonly effects: AgreementEffect[]
  readonly nowMs: number
}

export function emit(step: Step, ...effects: AgreementEffect[]): void {
  step.effects.push(...effects)
}

export function log(step: Step, level: 'info' | 'warn' | 'error', text: string): void {
  step.effects.push({ type: 'log', level, text })
}

/** True if what the other side says of batches counts. */
export function peerCounts({ draft }: Step): boolean {
  return draft.connection === 'up' && draft.peer?.fits === true
}

/** Tells the other side what became of a batch. */
export function tellFate(step: Step, message: FateMessage): void {
  const { draft } = step
  if (draft.connection === 'greeting') draft.unsaid = [...draft.unsaid, message]
  else if (peerCounts(step)) emit(step, { type: 'send', message })
}

/** The stores have parted: nothing is delivered until an operator accepts it or both stores are new. */
export function diverge(step: Step, divergence: Divergence, tellPeer = true): void {
  const { draft } = step
  if (draft.diverged !== undefined) {
    // The lowest number that either side knows of is the one that counts.
    if (divergence.firstDifferingKey < draft.diverged.firstDifferingKey) draft.diverged = divergence
    return
  }
  draft.diverged = divergence
  log(step, 'error', `the two stores have parted at key ${divergence.firstDifferingKey}: ${divergence.reason}`)
  if (tellPeer && draft.connection === 'up') emit(step, { type: 'send', message: { type: 'diverged', ...divergence } })
}

/** Number of the key that the own SiteAgent gets next, as far as is known. */
export function nextKeyNumber(draft: Draft): bigint {
  return (draft.store.total ?? BigInt(draft.position)) + 1n
}
