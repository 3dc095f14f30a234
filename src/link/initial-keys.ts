import { wipe } from '../base/wipe.js'

/** The initial key of the latest WaitForSession, for the one session that asks for it; wiped when another one comes. */
export class InitialKeys {
  #present: Uint8Array | undefined
  #takers: ((key: Uint8Array) => void)[] = []

  /** Owns `key` from here. */
  put(key: Uint8Array): void {
    const taker = this.#takers.shift()
    if (taker !== undefined) {
      taker(key)
      return
    }
    wipe(this.#present)
    this.#present = key
  }

  /** Resolves with the present key or the next one; the receiver wipes it. Rejects when `signal` aborts. */
  take(signal: AbortSignal): Promise<Uint8Array> {
    const present = this.#present
    this.#present = undefined
    if (present !== undefined) return Promise.resolve(present)
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#takers = this.#takers.filter((taker) => taker !== accept)
        reject(new Error('stopped'))
      }
      const accept = (key: Uint8Array): void => {
        signal.removeEventListener('abort', onAbort)
        resolve(key)
      }
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      this.#takers.push(accept)
    })
  }

  close(): void {
    wipe(this.#present)
    this.#present = undefined
  }
}
