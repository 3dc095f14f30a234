import type { Clock } from '../base/clock.js'

/** Those who wait until nothing is on its way between the sites. */
export class SettleWaiters {
  #waiters: (() => void)[] = []

  constructor(
    private readonly clock: Clock,
    private readonly isSettling: () => boolean,
  ) {}

  /** Resolves once nothing is on its way, or after `timeoutMs`; true if it settled. */
  wait(timeoutMs: number): Promise<boolean> {
    if (!this.isSettling()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const finish = (settled: boolean): void => {
        timer.cancel()
        this.#waiters = this.#waiters.filter((waiter) => waiter !== onChange)
        resolve(settled)
      }
      const onChange = (): void => {
        if (!this.isSettling()) finish(true)
      }
      const timer = this.clock.after(timeoutMs, () => finish(!this.isSettling()))
      this.#waiters.push(onChange)
    })
  }

  /** Something changed. */
  notify(): void {
    for (const waiter of [...this.#waiters]) waiter()
  }
}
