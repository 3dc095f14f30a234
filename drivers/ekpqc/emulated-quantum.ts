/** The kit's quantum board: same commands, same answers, same waits. */
import { sleep } from '../../src/base/clock.js'
import type { FaultDescription } from '../../src/device/emulator-contract.js'
import { type BoardContext, type EmulatedBoard, passedLight } from './emulated-board.js'
import { type Medium, openMedium } from './medium.js'
import { RUN_QUBITS } from './protocol.js'

const MOVE_MS = 600
const REST_OF_RUN_MS = 15_600
const BRIGHT = 700
const NOISE = 20
const HELP_LINES = 22
const DEFAULT_THRESHOLD = 200

export class EmulatedQuantumBoard implements EmulatedBoard {
  readonly arguments = new Map<string, 'word' | number>([
    ['POLSEQ', RUN_QUBITS],
    ['SETANG', 'word'],
    ['SETPOL', 'word'],
    ['SETHOF', 'word'],
    ['SETTH', 'word'],
  ])
  readonly faults: readonly FaultDescription[] = [
    { name: 'dark', usage: '', meaning: 'the light of the next run does not leave the board' },
    { name: 'flash', usage: '', meaning: 'somebody opens the curtain: light that is no sequence' },
  ]
  waiting = false
  #medium: Medium | undefined
  #sequence: Uint8Array = new Uint8Array(RUN_QUBITS)
  #angle = 0
  #hofAngle = 0
  #threshold = DEFAULT_THRESHOLD
  #dark = false
  readonly #startedMs: number
  readonly #counts = { runsSent: 0, runsSeen: 0 }

  constructor(
    private readonly context: BoardContext,
    private readonly fibre: string,
  ) {
    this.#startedMs = context.clock.monotonicMs()
  }

  async open(): Promise<void> {
    this.#medium = await openMedium(this.fibre)
  }

  async close(): Promise<void> {
    await this.#medium?.close()
  }

  facts(): Record<string, number> {
    return { ...this.#counts }
  }

  async fault(name: string): Promise<string | undefined> {
    if (name === 'dark') {
      this.#dark = true
      return 'the next run stays dark'
    }
    if (name !== 'flash') return undefined
    await this.#medium?.shine(new Uint8Array())
    return 'a flash'
  }

  async do(name: string, argument: string, signal: AbortSignal): Promise<void> {
    const { clock, random, speed } = this.context
    const answer = (text: string, end?: string): Promise<void> => this.context.answer(text, end)
    switch (name) {
      case '*IDN?':
        return answer('Quantum')
      case 'TH?':
        return answer(String(this.#threshold))
      case 'ANG?':
      case 'POL?':
        return answer((name === 'ANG?' ? this.#angle : this.#angle / 45).toFixed(2))
      case 'HOF?':
        return answer(this.#hofAngle.toFixed(2))
      case 'VOLT?':
        return answer(String(this.#reading(undefined, 0)))
      case 'SEQ?':
        return answer(this.#sequence.join(''), '\n')
      case 'HELP':
        return answer(Array.from({ length: HELP_LINES }, (_, i) => `help ${i + 1}`).join('\n'), '\n')
      case 'LASON':
        return answer('LASER ON!')
      case 'LASOFF':
        return answer('LASER OFF!')
      case 'SETANG':
      case 'SETPOL':
        this.#angle = Number(argument) * (name === 'SETPOL' ? 45 : 1)
        await sleep(clock, MOVE_MS / speed, signal)
        return answer('OK')
      case 'SETHOF':
        this.#hofAngle = Number(argument)
        return answer('OK')
      case 'SETTH':
        this.#threshold = Number(argument)
        return answer('OK')
      case 'POLSEQ':
        return this.#setSequence(argument)
      case 'RNDSEQ':
        this.#sequence = Uint8Array.from(random.bytes(RUN_QUBITS), (byte) => byte & 3)
        return answer('OK')
      case 'RNDBAS':
        this.#sequence = Uint8Array.from(random.bytes(RUN_QUBITS), (byte) => byte & 1)
        return answer('OK')
      case 'RUNSEQ':
        await sleep(clock, (RUN_QUBITS * 900) / speed, signal)
        return answer('OK')
      case 'TXSEQ':
        return this.#transmit(signal)
      case 'RXSEQ':
        return this.#receive(signal)
      case 'CATCH': {
        await this.#light(signal)
        return answer(`${Math.round(clock.monotonicMs() - this.#startedMs)} ms is when the light triggers.`)
      }
      default:
        return answer('Unknown command')
    }
  }

  async #setSequence(digits: string): Promise<void> {
    const sequence = new Uint8Array(RUN_QUBITS)
    for (let i = 0; i < RUN_QUBITS; i += 1) {
      const digit = digits[i] ?? '0'
      if (/[0-3]/.test(digit)) sequence[i] = Number(digit)
      else await this.context.answer('Input error detected.')
    }
    this.#sequence = sequence
    await this.context.answer('OK')
  }

  async #light(signal: AbortSignal): Promise<Uint8Array> {
    if (this.#medium === undefined) throw new Error('no fibre')
    this.waiting = true
    try {
      return await this.#medium.wait(signal)
    } finally {
      this.waiting = false
    }
  }

  async #transmit(signal: AbortSignal): Promise<void> {
    const { clock, speed } = this.context
    this.#counts.runsSent += 1
    await sleep(clock, MOVE_MS / speed, signal)
    if (!this.#dark) await this.#medium?.shine(Uint8Array.from(this.#sequence))
    this.#dark = false
    await sleep(clock, REST_OF_RUN_MS / speed, signal)
    await this.context.answer('OK')
  }

  async #receive(signal: AbortSignal): Promise<void> {
    const { clock, speed } = this.context
    // The light may come while the motor still moves.
    const light = this.#light(signal)
    light.catch(() => {})
    await sleep(clock, MOVE_MS / speed, signal)
    const digits = await light
    const readings = Array.from(this.#sequence, (own, i) => this.#reading(digits[i], own))
    await sleep(clock, REST_OF_RUN_MS / speed, signal)
    this.#counts.runsSeen += 1
    await this.context.answer(`${readings.join(' ')} `, '\n')
  }

  /** Undefined: no light. */
  #reading(sent: number | undefined, own: number): number {
    const light = sent === undefined ? 0 : BRIGHT * passedLight(sent, own)
    return Math.round(light + NOISE * this.context.random.fraction())
  }
}
