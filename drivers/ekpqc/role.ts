import type { Clock } from '../../src/base/clock.js'
import type { Random } from '../../src/base/random.js'
import type { DeviceEvent } from '../../src/device/contract.js'
import type { PairServices } from '../../src/device/pair-contract.js'
import type { Logger } from '../../src/observe/log.js'
import type { QuantumBoard } from './board.js'
import type { LessonRun } from './lesson.js'
import type { EkpqcOptions } from './options.js'
import type { WindowKeys } from './window-keys.js'

/** Longest wait for a peer's answer that asks nothing of its board, ms. */
export const CALL_MS = 2_000
/** Longest wait for a peer whose board sets a sequence first, ms. */
export const PREPARE_MS = 6_000
export const QUIESCE_MS = 2_500

/** The board as long as it is there. */
export interface BoardPort {
  board: QuantumBoard
  threshold: number
  /** What the board is doing cannot be called off: reset it. */
  reset(reason: string): void
}

export interface RoleContext {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly options: EkpqcOptions
  readonly keys: WindowKeys
  readonly emit: (event: DeviceEvent) => void
  /** Undefined while the board is away or not up. */
  readonly port: () => BoardPort | undefined
  /** Something of a run was done: it is told at once. Nothing of the key stands in it. */
  readonly step: (runId: bigint, step: number, text: string) => void
  /** A run was sifted. */
  readonly finished: (run: LessonRun) => void
}

/** One end of one session. */
export interface Role {
  readonly services: PairServices
  start(): void
  quiesce(): Promise<void>
  end(): void
}
