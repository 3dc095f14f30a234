import type { Unsubscribe } from '../base/cell.js'
import { GatewayError } from '../base/errors.js'

/** Events of one stand-in: remembered in order, passed on as they happen, and waited for. */
export class EventLog<E> {
  readonly #history: E[] = []
  readonly #listeners = new Set<(event: E) => void>()

  /** At most `keep` events are remembered; older ones are forgotten first. */
  constructor(private readonly keep = 100_000) {}

  get history(): readonly E[] {
    return this.#history
  }

  emit(event: E): void {
    this.#history.push(event)
    if (this.#history.length > this.keep) this.#history.shift()
    for (const listener of [...this.#listeners]) listener(event)
  }

  on(listener: (event: E) => void): Unsubscribe {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves with the first event, past ones from index `from` on included, that `accept` takes. Rejects with E_CANCELLED when `signal` aborts. */
  until(accept: (event: E) => boolean, signal: AbortSignal, from = 0): Promise<E> {
    return new Promise((resolve, reject) => {
      const past = this.#history.slice(from).find(accept)
      if (past !== undefined) return resolve(past)
      const stop = (): void => {
        off()
        signal.removeEventListener('abort', onAbort)
      }
      const onAbort = (): void => {
        stop()
        reject(new GatewayError('E_CANCELLED', 'waiting for an event: stopped before it came'))
      }
      const off = this.on((event) => {
        if (!accept(event)) return
        stop()
        resolve(event)
      })
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }
}
