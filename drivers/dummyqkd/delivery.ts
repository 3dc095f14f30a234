import type { DeviceEvent } from '../../src/device/contract.js'
import type { KeyOrdering } from '../../src/device/pair-contract.js'
import { wipe } from '../../src/base/wipe.js'
import { createKeyCutter, type KeyCutter } from './protocol.js'

/** A frame of 2^20 keys would need 134 million qubits. */
const KEYS_PER_FRAME_BITS = 20n

/** Turns sifted bytes into numbered keys. */
export interface Delivery {
  /** Keys given out so far. */
  readonly keys: bigint
  begin(ordering: KeyOrdering): void
  /** `frameId` is that of the block's first frame. Takes `sifted` over and wipes it. Returns the number of keys. */
  deliver(frameId: bigint, sifted: Uint8Array): number
}

/**
 * By arrival, keys are numbered from 0 for the life of the device, and what a block leaves over begins the next key,
 * in the next session too: as upstream does. By id, the number holds frame and place in the frame and nothing is
 * carried over, so that a block which only one side has spoils nothing after it.
 */
export function createDelivery(keyBytes: number, emit: (event: DeviceEvent) => void): Delivery {
  const carried = createKeyCutter(keyBytes)
  let ordering: KeyOrdering = 'byArrival'
  let arrived = 0n
  let keys = 0n

  function give(cutter: KeyCutter, sifted: Uint8Array, firstId: bigint): number {
    const cut = cutter.cut(sifted)
    wipe(sifted)
    cut.forEach((key, i) => emit({ type: 'key', id: firstId + BigInt(i), key }))
    keys += BigInt(cut.length)
    return cut.length
  }

  return {
    get keys() {
      return keys
    },
    begin(next) {
      ordering = next
      if (ordering === 'byArrival') return
      carried.reset()
      emit({ type: 'renumbered', reason: 'the frames of a session are counted from 0' })
    },
    deliver(frameId, sifted) {
      if (ordering === 'byArrival') {
        const count = give(carried, sifted, arrived)
        arrived += BigInt(count)
        return count
      }
      const cutter = createKeyCutter(keyBytes)
      const count = give(cutter, sifted, frameId << KEYS_PER_FRAME_BITS)
      cutter.reset()
      return count
    },
  }
}
