/**
 * Eve's board between two fibres. Its commands are the kit's; what the kit leaves to Eve's pupils, catching the light and
 * sending it on, it does by itself: intercept and resend, each pulse measured and sent on in a basis of its own.
 */
import { sleep } from '../../src/base/clock.js'
import type { FaultDescription } from '../../src/device/emulator-contract.js'
import { type BoardContext, type EmulatedBoard, passedLight } from './emulated-board.js'
import { type Medium, openMedium } from './medium.js'

const MOVE_MS = 600
const BRIGHT_VOLTS = 1.6

export class EmulatedEveBoard implements EmulatedBoard {
  readonly arguments = new Map<string, 'word' | number>(
    ['SETANG1', 'SETANG2', 'SETPOL1', 'SETPOL2'].map((name) => [name, 'word']),
  )
  readonly faults: readonly FaultDescription[] = [
    { name: 'intercept', usage: '', meaning: 'Eve measures each pulse in a random basis and sends on what she found' },
    { name: 'pass', usage: '', meaning: 'Eve lets all light pass as it is' },
  ]
  readonly waiting = false
  #from: Medium | undefined
  #onward: Medium | undefined
  #intercepts = true
  readonly #angles = [0, 0]
  #volts: readonly [number, number] = [0, 0]
  readonly #ending = new AbortController()
  #watching: Promise<void> = Promise.resolve()
  readonly #counts = { runsIntercepted: 0, runsPassed: 0 }

  constructor(
    private readonly context: BoardContext,
    private readonly fibre: string,
    private readonly onward: string,
  ) {}

  async open(): Promise<void> {
    this.#from = await openMedium(this.fibre)
    this.#onward = await openMedium(this.onward)
    this.#watching = this.#watch(this.#from, this.#onward).catch(() => {})
  }

  async close(): Promise<void> {
    this.#ending.abort()
    await this.#watching
    await this.#from?.close()
    await this.#onward?.close()
  }

  facts(): Record<string, number | boolean> {
    return { ...this.#counts, intercepts: this.#intercepts }
  }

  async fault(name: string): Promise<string | undefined> {
    if (name !== 'intercept' && name !== 'pass') return undefined
    this.#intercepts = name === 'intercept'
    return this.#intercepts ? 'Eve measures and sends on' : 'Eve only looks on'
  }

  async do(name: string, argument: string, signal: AbortSignal): Promise<void> {
    const { clock, speed } = this.context
    const motor = /^SET(ANG|POL)([12])$/.exec(name)
    if (motor !== null) {
      this.#angles[Number(motor[2]) - 1] = Number(argument) * (motor[1] === 'POL' ? 45 : 1)
      await sleep(clock, MOVE_MS / speed, signal)
      return this.context.answer('OK')
    }
    if (name === '*IDN?') return this.context.answer('QuantumEve')
    if (name === 'VOLTS?') return this.context.answer(this.#volts.map((volts) => volts.toFixed(3)).join('\r\n'))
    return this.context.answer('Unknown command')
  }

  async #watch(from: Medium, onward: Medium): Promise<void> {
    while (!this.#ending.signal.aborted) {
      const light = await from.wait(this.#ending.signal)
      const last = light.at(-1)
      const seenBy = (motor: number): number =>
        last === undefined ? 0 : BRIGHT_VOLTS * passedLight(last, (this.#angles[motor] ?? 0) / 45)
      this.#volts = [seenBy(0), seenBy(1)]
      this.#counts[this.#intercepts ? 'runsIntercepted' : 'runsPassed'] += 1
      await onward.shine(this.#intercepts ? light.map((digit) => this.#measured(digit)) : light)
    }
  }

  /** The digit that she finds, and therefore sends on. */
  #measured(digit: number): number {
    const { random } = this.context
    const own = (random.bytes(1)[0] ?? 0) & 1
    // In the right basis what was sent; in the wrong one either of its two, by chance.
    return random.fraction() < passedLight(digit, own) ? own : own + 2
  }
}
