import type { Random } from './random.js'

export interface BackoffOptions {
  /** First pause. */
  firstMs: number
  /** Longest pause. */
  maxMs: number
  /** Each pause is this many times the one before; default 2. */
  factor?: number
  /** Share of the pause that is random, 0 to 1; default 0.2 (± 10 %). */
  jitter?: number
}

/** Growing pauses between tries. */
export interface Backoff {
  /** The next pause in ms, jitter included. */
  nextMs(): number
  /** After success: begin again with the first pause. */
  reset(): void
  /** Tries since the last reset. */
  readonly tries: number
}

export function createBackoff(options: BackoffOptions, random: Random): Backoff {
  const { firstMs, maxMs, factor = 2, jitter = 0.2 } = options
  let tries = 0
  return {
    get tries() {
      return tries
    },
    nextMs() {
      const plainMs = Math.min(maxMs, firstMs * factor ** Math.min(tries, 60))
      tries += 1
      return Math.round(plainMs * (1 - jitter / 2 + jitter * random.fraction()))
    },
    reset() {
      tries = 0
    },
  }
}
