/** Pauses between connection attempts. */
import { createBackoff } from '../base/backoff.js'
import type { Random } from '../base/random.js'
import type { TunnelTimings } from './options.js'

export interface RetrySchedule {
  /** The pause before the next attempt, in ms. */
  nextMs(why: 'lost' | 'banned'): number
  /** After a proven minute: begin anew. */
  reset(): void
}

type RetryTimings = Pick<
  TunnelTimings,
  'fastRetriesMs' | 'retryFirstMs' | 'retryMaxMs' | 'bannedFirstMs' | 'bannedMaxMs'
>

export function createRetrySchedule(timings: RetryTimings, random: Random): RetrySchedule {
  const slow = createBackoff({ firstMs: timings.retryFirstMs, maxMs: timings.retryMaxMs }, random)
  const banned = createBackoff({ firstMs: timings.bannedFirstMs, maxMs: timings.bannedMaxMs }, random)
  let fastTries = 0
  return {
    nextMs(why) {
      if (why === 'banned') return banned.nextMs()
      const fast = timings.fastRetriesMs[fastTries]
      fastTries += 1
      return fast ?? slow.nextMs()
    },
    reset() {
      fastTries = 0
      slow.reset()
      banned.reset()
    },
  }
}
