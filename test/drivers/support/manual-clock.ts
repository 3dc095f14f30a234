import type { Clock, Timer } from '../../../src/base/clock.js'

interface Due {
  atMs: number
  order: number
  fn: () => void
}

/** Time that passes only when told to. */
export class ManualClock implements Clock {
  #ms = 1_700_000_000_000
  #order = 0
  readonly #due = new Set<Due>()

  nowMs(): number {
    return this.#ms
  }

  monotonicMs(): number {
    return this.#ms
  }

  after(delayMs: number, fn: () => void): Timer {
    const due = { atMs: this.#ms + Math.max(0, delayMs), order: (this.#order += 1), fn }
    this.#due.add(due)
    return { cancel: () => void this.#due.delete(due) }
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#due.size
  }

  /** Lets `ms` pass, timer by timer; between them everything that can run without time runs. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#ms + ms
    await settle()
    for (;;) {
      const next = [...this.#due]
        .filter(({ atMs }) => atMs <= untilMs)
        .sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0]
      if (next === undefined) break
      this.#due.delete(next)
      this.#ms = Math.max(this.#ms, next.atMs)
      next.fn()
      await settle()
    }
    this.#ms = untilMs
  }
}

/** Lets everything run that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i += 1) await new Promise((resolve) => setImmediate(resolve))
}
