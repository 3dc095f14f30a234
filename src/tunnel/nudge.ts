import type { Clock } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'

/** A wait that somebody may cut short. */
export class Nudge {
  #wake: (() => void) | undefined
  #pending = false

  constructor(private readonly clock: Clock) {}

  /** Ends the present wait, or the next one if there is none now. */
  nudge(): void {
    this.#pending = true
    this.#wake?.()
  }

  /** A wish for which there was no wait yet is none any more. */
  forget(): void {
    this.#pending = false
  }

  /** Resolves after `delayMs` or a nudge, saying which; rejects with E_CANCELLED when `signal` aborts. */
  wait(delayMs: number, signal: AbortSignal): Promise<'time' | 'nudge'> {
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        timer.cancel()
        signal.removeEventListener('abort', onAbort)
        this.#wake = undefined
        settle()
      }
      const onAbort = (): void => finish(() => reject(new GatewayError('E_CANCELLED', 'stopped')))
      const onNudge = (): void => {
        this.#pending = false
        finish(() => resolve('nudge'))
      }
      const timer = this.clock.after(delayMs, () => finish(() => resolve('time')))
      if (signal.aborted) return onAbort()
      if (this.#pending) return onNudge()
      signal.addEventListener('abort', onAbort, { once: true })
      this.#wake = onNudge
    })
  }
}
