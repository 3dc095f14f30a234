import type { Clock } from '../../src/base/clock.js'
import type { Random } from '../../src/base/random.js'
import type { FaultDescription } from '../../src/device/emulator-contract.js'

/** What an emulated board is given. */
export interface BoardContext {
  readonly clock: Clock
  readonly random: Random
  /** Times are divided by this. */
  readonly speed: number
  /** Sends an answer; CR LF ends it unless said. */
  answer(text: string, end?: string): Promise<void>
}

/** One of the kit's boards behind the common way of hearing commands. */
export interface EmulatedBoard {
  /**
   * Commands that take something after their blank: a word up to the next blank, or so many characters as they come.
   */
  readonly arguments: ReadonlyMap<string, 'word' | number>
  readonly faults: readonly FaultDescription[]
  /** Joins its medium. */
  open(): Promise<void>
  close(): Promise<void>
  /** Does one command (upper case) and answers it. Rejects when `signal` aborts: the board was reset. */
  do(name: string, argument: string, signal: AbortSignal): Promise<void>
  /** A character that comes while a command is under way. True: the board took it as part of that. */
  interrupt?(character: string): boolean
  /** True while it waits for light, which nothing but a reset ends. */
  readonly waiting: boolean
  /** A sentence, or undefined where it does not know the fault. */
  fault(name: string): Promise<string | undefined>
  facts(): Readonly<Record<string, number | boolean>>
}

/** Malus' law between two digits, 45° a step: 1 for the same polarisation, ½ for the other basis, 0 across. */
export function passedLight(sent: number, own: number): number {
  return Math.cos(((sent - own) * Math.PI) / 4) ** 2
}
