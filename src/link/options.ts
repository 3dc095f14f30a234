/** How much, how long, how often: every bound of a link with its default. */

export interface BatchOptions {
  /** Fewest keys to deliver in a batch while more are on their way. One batch gives up 32 bytes of key. */
  readonly minKeys: number
  /** Longest time that a key waits for a batch to fill, ms. */
  readonly maxWaitMs: number
  /** Most keys in one batch; 10,000 and 4 MiB are never passed. */
  readonly maxKeys: number
  /** Most keys in one batch where a site tells no totals. */
  readonly maxInferredKeys: number
}

export const DEFAULT_BATCH: BatchOptions = { minKeys: 16, maxWaitMs: 1_000, maxKeys: 10_000, maxInferredKeys: 64 }

export interface HoldOptions {
  /** Most keys that wait; the oldest above it are dropped at both sites. */
  readonly maxKeys: number
  /** Longest time that a key waits, ms. */
  readonly maxAgeMs: number
  /** How long a key that only one site has blocks later ones, once the other device has passed it, ms. */
  readonly gapWaitMs: number
}

export const DEFAULT_HOLD: HoldOptions = { maxKeys: 500_000, maxAgeMs: 24 * 3_600_000, gapWaitMs: 250 }

export interface TimingOptions {
  /** Longest answer to RunSession and SessionStarting, ms. */
  readonly answerMs: number
  /** Longest time that a stop waits for batches to settle, ms. */
  readonly settleMs: number
  /** When a batch counts as taken in where a site tells no totals, ms. */
  readonly inferAfterMs: number
  /** How long a site that was asked for its total is given to tell it, ms. */
  readonly answerTotalMs: number
  /** How long a site that should tell totals is waited for before batches are inferred, ms. */
  readonly reportsGraceMs: number
  /** Deadline of SessionEnding, ms. */
  readonly endingMs: number
  /** Between two signs of life on an idle link, ms; three of them missing end the connection. */
  readonly pingMs: number
  /** Pauses between tries to reach the peer, ms. */
  readonly retryFirstMs: number
  readonly retryMaxMs: number
  /** How long a peer that does not answer is tried, ms. */
  readonly retryForMs: number
  /** How long a session whose WaitForSession has gone is still shown as started, ms. */
  readonly goneGraceMs: number
}

export const DEFAULT_TIMING: TimingOptions = {
  answerMs: 2_500,
  settleMs: 400,
  inferAfterMs: 100,
  answerTotalMs: 2_000,
  reportsGraceMs: 5_000,
  endingMs: 400,
  pingMs: 2_000,
  retryFirstMs: 100,
  retryMaxMs: 15_000,
  retryForMs: 3_600_000,
  goneGraceMs: 1_000,
}

/** Mismatches in a row that stop a link. */
export const MAX_MISMATCHES = 3

const MAX_MESSAGE_BYTES = 4 * 1024 * 1024 - 64 * 1024

/** Keys of `keyBytes` bytes that fit into one RawKeys message: each costs its length and a header of up to 4 bytes. */
export function keysPerMessage(keyBytes: number, maxKeys: number): number {
  return Math.max(1, Math.min(maxKeys, 10_000, Math.floor(MAX_MESSAGE_BYTES / (keyBytes + 4))))
}
