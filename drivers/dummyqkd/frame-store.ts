import type { Clock } from '../../src/base/clock.js'
import { wipe } from '../../src/base/wipe.js'

/** Emitted frames that wait to be sifted, each once. */
export interface FrameStore {
  readonly size: number
  /** Adds the frame that comes next; over the bound the oldest is wiped and its number of qubits returned. */
  add(frameId: bigint, qubits: Uint8Array): number | undefined
  get(frameId: bigint): Uint8Array | undefined
  /** The frame belongs to the caller from here. */
  take(frameId: bigint): Uint8Array | undefined
  /** Waits until the frame is there, at most `withinMs`; false where it does not come, never could, or `signal` aborts. */
  until(frameId: bigint, withinMs: number, signal: AbortSignal): Promise<boolean>
  /** Wipes everything; whoever waits gets false. */
  clear(): void
}

export function createFrameStore(clock: Clock, bound: number): FrameStore {
  const frames = new Map<bigint, Uint8Array>()
  const waiting = new Set<() => void>()
  let next = 0n
  let open = true

  const wake = (): void => {
    for (const look of [...waiting]) look()
  }
  return {
    get size() {
      return frames.size
    },
    add(frameId, qubits) {
      frames.set(frameId, qubits)
      next = frameId + 1n
      let lost: number | undefined
      const oldest = frames.size > bound ? frames.entries().next().value : undefined
      if (oldest !== undefined) {
        frames.delete(oldest[0])
        lost = oldest[1].length
        wipe(oldest[1])
      }
      wake()
      return lost
    },
    get: (frameId) => frames.get(frameId),
    take(frameId) {
      const qubits = frames.get(frameId)
      frames.delete(frameId)
      return qubits
    },
    until(frameId, withinMs, signal) {
      return new Promise((resolve) => {
        const settle = (there: boolean): void => {
          timer.cancel()
          waiting.delete(look)
          signal.removeEventListener('abort', look)
          resolve(there)
        }
        const look = (): void => {
          if (frames.has(frameId)) settle(true)
          // A frame below the next one was there once and is used up.
          else if (!open || signal.aborted || frameId < next) settle(false)
        }
        const timer = clock.after(withinMs, () => settle(false))
        waiting.add(look)
        signal.addEventListener('abort', look)
        look()
      })
    },
    clear() {
      open = false
      for (const qubits of frames.values()) wipe(qubits)
      frames.clear()
      wake()
    },
  }
}
