import type { Clock } from '../../src/base/clock.js'
import type { Random } from '../../src/base/random.js'
import type { DeviceEvent } from '../../src/device/contract.js'
import type { KeyOrdering, PairServices } from '../../src/device/pair-contract.js'
import type { Logger } from '../../src/observe/log.js'
import type { Delivery } from './delivery.js'
import type { DummyOptions } from './options.js'

/** Longest wait for the peer's answer to one call, ms. */
export const CALL_MS = 2_000
/** A receiver without a frame for so long, and for twice as long as the longest so far, is silent, ms. */
export const SILENT_MS = 10_000
/** Longest wait of `quiesce` for what is under way, ms. */
export const QUIESCE_MS = 2_500

/** What either role works with. */
export interface RoleContext {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly options: DummyOptions
  readonly delivery: Delivery
  readonly emit: (event: DeviceEvent) => void
  /** Keys came: the device produces. */
  readonly produced: () => void
  /** Nothing came for longer than it should need; `reason` says what. */
  readonly silent: (reason: string) => void
  /** The peer may have given out the keys of this frame, and we could not: the two sites may have parted. */
  readonly inDoubt: (frameId: bigint) => void
}

/** One end of one session. */
export interface Role {
  readonly services: PairServices
  start(ordering: KeyOrdering): void
  quiesce(): Promise<void>
  /** Resolves once nothing is under way any more, within `CALL_MS`; all but a question already asked is given up at once. */
  end(): Promise<void>
}

/** Reports one block of key as upstream's devices do. */
export function reportBlock(context: RoleContext, deliverMs: number, bytes: number, publishMs: number): void {
  const { emit } = context
  emit({ type: 'figure', path: ['Privacy Amplification', 'TimeTaken'], value: deliverMs, unit: 'ms' })
  emit({ type: 'figure', path: ['Privacy Amplification', 'KeyEmitted'], value: 1, unit: 'count', whole: true })
  emit({ type: 'figure', path: ['Sifting', 'Publish Time'], value: publishMs, unit: 'count' })
  emit({ type: 'figure', path: ['Sifting', 'Bytes Produced'], value: bytes, unit: 'count', whole: true })
}

/** Keys that a frame of `qubits` would have given, at least 1: how a lost frame is counted. */
export function keysOf(qubits: number, keyBytes: number): number {
  return Math.max(1, Math.floor(qubits / 8 / keyBytes))
}
