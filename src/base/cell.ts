import type { Clock } from './clock.js'

/** Takes a listener away again. */
export type Unsubscribe = () => void

/** A state that others may watch but not change. */
export interface ReadonlyCell<S> {
  /** The present state. */
  readonly value: S
  /** Wall-clock ms at which the present state began. */
  readonly sinceMs: number
  /** Called after each change with the new and the old state; not called on subscribing. */
  subscribe(listener: (next: S, previous: S) => void): Unsubscribe
}

/**
 * The one place in which a component's state (a discriminated union) changes. A listener that throws does not keep
 * the others from being told; its error goes to `onListenerError`.
 */
export class StateCell<S> implements ReadonlyCell<S> {
  #value: S
  #sinceMs: number
  readonly #listeners = new Set<(next: S, previous: S) => void>()

  constructor(
    initial: S,
    private readonly clock: Pick<Clock, 'nowMs'>,
    private readonly onListenerError: (error: unknown) => void = () => {},
  ) {
    this.#value = initial
    this.#sinceMs = clock.nowMs()
  }

  get value(): S {
    return this.#value
  }

  get sinceMs(): number {
    return this.#sinceMs
  }

  set(next: S): void {
    const previous = this.#value
    this.#value = next
    this.#sinceMs = this.clock.nowMs()
    for (const listener of [...this.#listeners]) {
      try {
        listener(next, previous)
      } catch (error) {
        this.onListenerError(error)
      }
    }
  }

  subscribe(listener: (next: S, previous: S) => void): Unsubscribe {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

/** Resolves with the first state (the present one included) for which `accept` holds; rejects when `signal` aborts. */
export function untilState<S, T extends S>(
  cell: ReadonlyCell<S>,
  accept: (state: S) => state is T,
  signal: AbortSignal,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const present = cell.value
    if (accept(present)) return resolve(present)
    const stop = (): void => {
      unsubscribe()
      signal.removeEventListener('abort', onAbort)
    }
    const onAbort = (): void => {
      stop()
      reject(signal.reason instanceof Error ? signal.reason : new Error('stopped'))
    }
    const unsubscribe = cell.subscribe((state) => {
      if (!accept(state)) return
      stop()
      resolve(state)
    })
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
