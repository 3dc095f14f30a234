import { sleep, type Clock } from '../base/clock.js'

/** A wait that somebody may cut short. */
export class Nudge {
  #waiting: AbortController | undefined
  #pending = false

  constructor(private readonly clock: Clock) {}

  /** Ends the present wait, or the next one if there is none now. */
  nudge(): void {
    this.#pending = true
    this.#waiting?.abort()
  }

  /** Resolves after `delayMs` or a nudge, saying which; rejects with E_CANCELLED when `signal` aborts. */
  async wait(delayMs: number, signal: AbortSignal): Promise<'time' | 'nudge'> {
    if (!this.#pending) {
      const controller = new AbortController()
      this.#waiting = controller
      try {
        await sleep(this.clock, delayMs, AbortSignal.any([signal, controller.signal]))
      } catch (error) {
        if (signal.aborted) throw error
      } finally {
        this.#waiting = undefined
      }
    }
    const nudged = this.#pending
    this.#pending = false
    return nudged ? 'nudge' : 'time'
  }
}
