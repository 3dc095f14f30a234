/** Waiting for what other processes do: a deadline, and a look now and then. */

/** Something that should have come did not: the run cannot go on, and what it saw is in the message. */
export class Stuck extends Error {
  override readonly name = 'Stuck'
}

/** Rejects with the reason of `signal` where it aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer)
      reject(signal.reason instanceof Error ? signal.reason : new Error('stopped'))
    }
    if (signal.aborted) return reject(signal.reason instanceof Error ? signal.reason : new Error('stopped'))
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** The first defined value that `look` gives; undefined after `timeoutMs`. */
export async function poll<T>(
  look: () => Promise<T | undefined> | T | undefined,
  everyMs: number,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<T | undefined> {
  const untilMs = performance.now() + timeoutMs
  for (;;) {
    const value = await look()
    if (value !== undefined) return value
    if (performance.now() >= untilMs) return undefined
    await pause(everyMs, signal)
  }
}
