/** Every key that the device gave is in exactly one of these counts. */
import type { LinkCounts } from './contract.js'

/** Why a key was never delivered. */
export const DROP_REASONS = {
  repeated: 'its id is held already',
  late: 'its id came after a later one was released or dropped',
  wrongLength: 'it has another length than the keys of this link',
  missing: 'the other site does not have it',
  overflow: 'more keys waited than may be held',
  expired: 'it waited for longer than keys may',
  peerLimit: 'the other site dropped it for its own bounds',
  mismatch: 'the two sites hold different keys under the same ids',
  uncertain: 'nobody can tell whether a SiteAgent has it',
  renumbered: 'the device began to number anew',
  renewed: 'it was owed when both SiteAgents lost their keys in a restart',
  diverged: 'it was unsettled when the stores had parted',
  stopped: 'it was held when the gateway stopped',
} as const

export type DropReason = keyof typeof DROP_REASONS

export class Ledger {
  #received = 0n
  #delivered = 0n
  #sacrificed = 0n
  readonly #dropped = new Map<DropReason, bigint>()

  receive(keys = 1): void {
    this.#received += BigInt(keys)
  }

  deliver(keys: number): void {
    this.#delivered += BigInt(keys)
  }

  sacrifice(keys: number): void {
    this.#sacrificed += BigInt(keys)
  }

  drop(reason: DropReason, keys: number): void {
    if (keys > 0) this.#dropped.set(reason, (this.#dropped.get(reason) ?? 0n) + BigInt(keys))
  }

  /** `held`: keys in memory, in the pool and in batches. */
  counts(held: number): LinkCounts {
    return {
      received: this.#received,
      delivered: this.#delivered,
      held: BigInt(held),
      sacrificed: this.#sacrificed,
      dropped: Object.fromEntries(this.#dropped),
    }
  }
}

/** True if received = delivered + held + sacrificed + everything dropped. */
export function addsUp(counts: LinkCounts): boolean {
  const dropped = Object.values(counts.dropped).reduce((sum, keys) => sum + keys, 0n)
  return counts.received === counts.delivered + counts.held + counts.sacrificed + dropped
}
