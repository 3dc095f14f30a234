import { GatewayError } from './errors.js'

/** A timer that can be taken back. */
export interface Timer {
  cancel(): void
}

/** Time as the code sees it; tests pass one of their own. */
export interface Clock {
  /** Wall clock, Unix milliseconds. May step. */
  nowMs(): number
  /** Milliseconds since an arbitrary start; never steps back. */
  monotonicMs(): number
  /** Calls `fn` once after `delayMs`; with 0 as soon as everything that has come in by now is read. */
  after(delayMs: number, fn: () => void): Timer
}

/** The machine's own clock. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after(delayMs, fn) {
    if (delayMs === 0) {
      // A timer of 0 ms takes one or two.
      const immediate = setImmediate(fn)
      return { cancel: () => clearImmediate(immediate) }
    }
    const handle = setTimeout(fn, delayMs)
    return { cancel: () => clearTimeout(handle) }
  },
}

function cancelled(what: string): GatewayError {
  return new GatewayError('E_CANCELLED', `${what}: stopped`)
}

/** Resolves after `delayMs`; rejects with E_CANCELLED as soon as `signal` aborts. */
export function sleep(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(cancelled('sleep'))
    const onAbort = (): void => {
      timer.cancel()
      reject(cancelled('sleep'))
    }
    const timer = clock.after(delayMs, () => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    })
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/**
 * Runs `work` with a deadline of `timeoutMs` that also ends with `parent`. The signal handed to `work` aborts at the
 * deadline, with the parent, and once the result is there; the promise settles then whether or not `work` obeys it.
 * Rejects with E_DEADLINE (naming `what`) or E_CANCELLED.
 */
export function withDeadline<T>(
  clock: Clock,
  timeoutMs: number,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
  parent?: AbortSignal,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const controller = new AbortController()
    const settle = (finish: () => void): void => {
      timer.cancel()
      parent?.removeEventListener('abort', onAbort)
      finish()
      controller.abort()
    }
    const onAbort = (): void => settle(() => reject(cancelled(what)))
    const timer = clock.after(timeoutMs, () =>
      settle(() => reject(new GatewayError('E_DEADLINE', `${what}: no answer within ${timeoutMs} ms`))),
    )
    if (parent?.aborted === true) return onAbort()
    parent?.addEventListener('abort', onAbort, { once: true })
    // A `work` that throws at once is treated like one that rejects.
    Promise.resolve()
      .then(() => work(controller.signal))
      .then(
        (value) => settle(() => resolve(value)),
        (error: unknown) => settle(() => reject(error instanceof Error ? error : new Error(String(error)))),
      )
  })
}
