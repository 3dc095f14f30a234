import { wipe } from '../../src/base/wipe.js'
import type { DeviceEvent } from '../../src/device/contract.js'

/** Makes keys of sifted runs. */
export interface WindowKeys {
  /** Bits of the window under way. */
  readonly bits: number
  /** Runs come in ascending order; some may be missing. Takes `bits` over and wipes it. */
  add(runId: bigint, bits: Uint8Array): void
  reset(): void
}

/**
 * A window of so many runs gives one key, with the window's number as its id, if this side has every run of it and they
 * hold bits enough. So a run that only one side has costs its window and nothing after it.
 */
export function createWindowKeys(runsPerKey: number, keyBytes: number, emit: (event: DeviceEvent) => void): WindowKeys {
  const kept = new Uint8Array(runsPerKey * 16)
  let length = 0
  let runs = 0
  let window = -1n

  function clear(): void {
    kept.fill(0)
    length = 0
    runs = 0
  }
  function give(): void {
    const key = new Uint8Array(keyBytes)
    for (let i = 0; i < keyBytes * 8; i += 1) key[i >> 3] = (key[i >> 3] ?? 0) | ((kept[i] ?? 0) << (i & 7))
    emit({ type: 'key', id: window, key })
  }
  return {
    get bits() {
      return length
    },
    add(runId, bits) {
      const next = runId / BigInt(runsPerKey)
      if (next !== window) {
        if (runs > 0) emit({ type: 'discarded', reason: 'invalid', count: 1, id: window })
        clear()
        window = next
      }
      kept.set(bits, length)
      length += bits.length
      runs += 1
      wipe(bits)
      if (runs < runsPerKey) return
      if (length >= keyBytes * 8) give()
      else emit({ type: 'discarded', reason: 'invalid', count: 1, id: window })
      clear()
    },
    reset() {
      clear()
      window = -1n
    },
  }
}
