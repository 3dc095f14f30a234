import { wipe } from '../../src/base/wipe.js'
import type { DeviceEvent } from '../../src/device/contract.js'

/** Above this share of errors in what was compared, somebody listens or the boards are out of adjustment: no key. */
export const MOST_ERRORS = 0.11

/** What a run leaves for the key, and what was found where bits were compared in public. */
export interface SiftedRun {
  bits: Uint8Array
  compared: number
  errors: number
}

/** Makes keys of sifted runs. */
export interface WindowKeys {
  /** Bits of the window under way. */
  readonly bits: number
  /** Runs come in ascending order; some may be missing. Takes the bits over and wipes them. */
  add(runId: bigint, run: SiftedRun): void
  reset(): void
}

/**
 * A window of so many runs gives one key, with the window's number as its id, if this side has every run of it, they
 * hold bits enough and few enough of the compared ones differ. So a run that only one side has costs its window and
 * nothing after it. `tell` hears what became of each window, with nothing of the key in it.
 */
export function createWindowKeys(
  runsPerKey: number,
  keyBytes: number,
  emit: (event: DeviceEvent) => void,
  tell: (text: string) => void = () => {},
): WindowKeys {
  const kept = new Uint8Array(runsPerKey * 16)
  let length = 0
  let runs = 0
  let compared = 0
  let errors = 0
  let window = -1n

  function clear(): void {
    kept.fill(0)
    length = 0
    runs = 0
    compared = 0
    errors = 0
  }
  function give(): void {
    const key = new Uint8Array(keyBytes)
    for (let i = 0; i < keyBytes * 8; i += 1) key[i >> 3] = (key[i >> 3] ?? 0) | ((kept[i] ?? 0) << (i & 7))
    tell(
      `window ${window}: ${length} bits of ${runsPerKey} runs, key of ${keyBytes * 8} bits made (demonstrator, not secure)`,
    )
    emit({ type: 'key', id: window, key })
  }
  function withhold(reason: 'invalid' | 'compromised', why: string): void {
    tell(`window ${window}: no key, ${why}`)
    emit({ type: 'discarded', reason, count: 1, id: window })
  }
  return {
    get bits() {
      return length
    },
    add(runId, run) {
      const next = runId / BigInt(runsPerKey)
      if (next !== window) {
        if (runs > 0) withhold('invalid', `${runsPerKey - runs} of its ${runsPerKey} runs are missing at this end`)
        clear()
        window = next
      }
      kept.set(run.bits, length)
      length += run.bits.length
      runs += 1
      compared += run.compared
      errors += run.errors
      wipe(run.bits)
      if (runs < runsPerKey) return
      if (errors > compared * MOST_ERRORS) withhold('compromised', `${errors} of ${compared} compared bits differ`)
      else if (length >= keyBytes * 8) give()
      else withhold('invalid', `${length} bits are too few for ${keyBytes} bytes`)
      clear()
    },
    reset() {
      clear()
      window = -1n
    },
  }
}
