/** One link between two devices, as the gateway composes it. */
import type { DevicePort } from '../rpc/device-port.js'
import type { PartStatus } from '../observe/status.js'

/** How a stop of the gateway went. */
export type LinkStopResult =
  | { outcome: 'settled' }
  /** One site lacks a batch that the other took in; the stores part at `firstDifferingKey` (numbered from 1) unless it is paid. */
  | { outcome: 'owed'; keys: number; firstDifferingKey: bigint }

/** Every count of keys, defined in one place. received = delivered + held + sacrificed + the sum of dropped. */
export interface LinkCounts {
  received: bigint
  delivered: bigint
  held: bigint
  sacrificed: bigint
  dropped: Readonly<Record<string, bigint>>
}

export interface Link extends DevicePort {
  /** A key from the device; the link owns `key` from here and wipes it. */
  offerKey(id: bigint, key: Uint8Array): void
  /** The device numbers anew. */
  deviceRenumbered(reason: string): void
  counts(): LinkCounts
  sessionStatus(): PartStatus
  linkStatusReport(): PartStatus
  /** Settles what is in flight, ends the session at both sides, wipes what is held. */
  stop(timeoutMs: number): Promise<LinkStopResult>
}
