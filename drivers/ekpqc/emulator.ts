/** The kit's quantum board: same commands, same answers, same waits, with light from another emulated board. */
import { z } from 'zod'
import { type Clock, sleep, type Timer } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { ascii } from '../../src/device/dialogue.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type {
  DeviceEmulator,
  EmulatorContext,
  EmulatorFactory,
  FaultDescription,
} from '../../src/device/emulator-contract.js'
import { FaultyLine, LINE_FAULTS } from '../../src/device/faulty-line.js'
import { type Fibre, openFibre } from './fibre.js'
import { BAUD, RUN_QUBITS } from './protocol.js'

const LONGEST_COMMAND = 15
const SILENCE_MS = 100
const MOVE_MS = 600
const REST_OF_RUN_MS = 15_600
const BRIGHT = 700
const NOISE = 20

const optionsSchema = z.strictObject({
  fibre: z.string().min(1).default('fibre'),
  speed: wholeNumber(1, 1_000).prefault('1'),
})

const OWN_FAULTS: readonly FaultDescription[] = [
  { name: 'dark', usage: '', meaning: 'the light of the next run does not leave the board' },
  { name: 'flash', usage: '', meaning: 'somebody opens the curtain: light that is no sequence' },
  { name: 'reset', usage: '', meaning: 'what the board does ends, as when its port is opened' },
]

const HELP_LINES = 22

class EkpqcEmulator implements DeviceEmulator {
  readonly faults = [...LINE_FAULTS, ...OWN_FAULTS]
  readonly #line: FaultyLine
  readonly #fibre: Fibre
  #text = ''
  #digitsLeft = 0
  #silence: Timer | undefined
  #work = Promise.resolve()
  #busy = new AbortController()
  #sequence: Uint8Array = new Uint8Array(RUN_QUBITS)
  #angle = 0
  #hofAngle = 0
  #threshold = 200
  #dark = false
  readonly #startedMs: number
  readonly #counts = { commands: 0, unknown: 0, runsSent: 0, runsSeen: 0 }

  constructor(
    private readonly context: EmulatorContext,
    private readonly speed: number,
    fibre: string,
  ) {
    const { line, clock, random } = context
    this.#line = new FaultyLine({ line, clock, random, baudRate: BAUD })
    this.#fibre = openFibre(fibre)
    this.#startedMs = clock.monotonicMs()
  }

  get #clock(): Clock {
    return this.context.clock
  }

  async run(signal: AbortSignal): Promise<void> {
    const unhear = this.context.line.onData((chunk) => {
      for (const byte of chunk) this.#hear(String.fromCharCode(byte))
    })
    try {
      await new Promise<void>((resolve) => {
        if (signal.aborted) return resolve()
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    } finally {
      unhear()
      this.#silence?.cancel()
      this.#busy.abort()
      this.#line.stop()
      await this.#work
    }
  }

  facts(): Record<string, string | number | boolean> {
    return { ...this.#counts, ...this.#line.facts() }
  }

  async fault(name: string, args: readonly string[]): Promise<string> {
    switch (name) {
      case 'dark':
        this.#dark = true
        return 'the next run stays dark'
      case 'flash':
        this.#fibre.shine({ digits: undefined })
        return 'a flash'
      case 'reset':
        this.#busy.abort()
        this.#busy = new AbortController()
        this.#text = ''
        this.#digitsLeft = 0
        return 'reset'
      default: {
        const done = await this.#line.fault(name, args)
        if (done !== undefined) return done
        throw new GatewayError('E_USAGE', `the EKPQC emulator has no fault named ${name}`, {
          remedy: `faults are: ${this.faults.map((fault) => fault.name).join(', ')}`,
        })
      }
    }
  }

  #hear(character: string): void {
    this.#silence?.cancel()
    this.#silence = this.#clock.after(SILENCE_MS, () => this.#end())
    if (this.#digitsLeft > 0) {
      this.#text += character
      this.#digitsLeft -= 1
      if (this.#digitsLeft === 0) this.#end()
      return
    }
    if (character !== ' ') {
      if (this.#text.length < LONGEST_COMMAND) this.#text += character
      return
    }
    if (this.#text.toUpperCase() === 'POLSEQ') {
      this.#text = 'POLSEQ '
      this.#digitsLeft = RUN_QUBITS
      return
    }
    // These take a number that ends at the next blank.
    if (/^(SETANG|SETPOL|SETHOF|SETTH)$/i.test(this.#text)) {
      this.#text += ' '
      return
    }
    this.#end()
  }

  /** A blank or 100 ms of silence: what was typed is a command. Silence after nothing is nothing. */
  #end(): void {
    this.#silence?.cancel()
    const text = this.#text
    this.#text = ''
    this.#digitsLeft = 0
    this.#counts.commands += 1
    const busy = this.#busy
    this.#work = this.#work.then(() => this.#do(text, busy.signal)).catch(() => {})
  }

  #answer(text: string, end = '\r\n'): Promise<void> {
    return this.#line.send(ascii(text + end), this.#busy.signal)
  }

  async #do(text: string, signal: AbortSignal): Promise<void> {
    const [name = '', value = ''] = text.toUpperCase().split(' ')
    switch (name) {
      case '*IDN?':
        return this.#answer('Quantum')
      case 'TH?':
        return this.#answer(String(this.#threshold))
      case 'ANG?':
      case 'POL?':
        return this.#answer((name === 'ANG?' ? this.#angle : this.#angle / 45).toFixed(2))
      case 'HOF?':
        return this.#answer(this.#hofAngle.toFixed(2))
      case 'VOLT?':
        return this.#answer(String(this.#reading(undefined, 0)))
      case 'SEQ?':
        return this.#answer(this.#sequence.join(''), '\n')
      case 'HELP':
        return this.#answer(Array.from({ length: HELP_LINES }, (_, i) => `help ${i + 1}`).join('\n'), '\n')
      case 'LASON':
        return this.#answer('LASER ON!')
      case 'LASOFF':
        return this.#answer('LASER OFF!')
      case 'SETANG':
      case 'SETPOL':
        this.#angle = Number(value) * (name === 'SETPOL' ? 45 : 1)
        await sleep(this.#clock, MOVE_MS / this.speed, signal)
        return this.#answer('OK')
      case 'SETHOF':
        this.#hofAngle = Number(value)
        return this.#answer('OK')
      case 'SETTH':
        this.#threshold = Number(value)
        return this.#answer('OK')
      case 'POLSEQ':
        return this.#setSequence(value)
      case 'RNDSEQ':
        this.#sequence = Uint8Array.from(this.context.random.bytes(RUN_QUBITS), (byte) => byte & 3)
        return this.#answer('OK')
      case 'RNDBAS':
        this.#sequence = Uint8Array.from(this.context.random.bytes(RUN_QUBITS), (byte) => byte & 1)
        return this.#answer('OK')
      case 'RUNSEQ':
        await sleep(this.#clock, (RUN_QUBITS * 900) / this.speed, signal)
        return this.#answer('OK')
      case 'TXSEQ':
        return this.#transmit(signal)
      case 'RXSEQ':
        return this.#receive(signal)
      case 'CATCH': {
        await this.#fibre.wait(signal)
        const ms = Math.round(this.#clock.monotonicMs() - this.#startedMs)
        return this.#answer(`${ms} ms is when the light triggers.`)
      }
      default:
        this.#counts.unknown += 1
        return this.#answer('Unknown command')
    }
  }

  async #setSequence(digits: string): Promise<void> {
    const sequence = new Uint8Array(RUN_QUBITS)
    for (let i = 0; i < RUN_QUBITS; i += 1) {
      const digit = digits[i] ?? '0'
      if (/[0-3]/.test(digit)) sequence[i] = Number(digit)
      else await this.#answer('Input error detected.')
    }
    this.#sequence = sequence
    await this.#answer('OK')
  }

  async #transmit(signal: AbortSignal): Promise<void> {
    this.#counts.runsSent += 1
    await sleep(this.#clock, MOVE_MS / this.speed, signal)
    if (!this.#dark) this.#fibre.shine({ digits: Uint8Array.from(this.#sequence) })
    this.#dark = false
    await sleep(this.#clock, REST_OF_RUN_MS / this.speed, signal)
    await this.#answer('OK')
  }

  async #receive(signal: AbortSignal): Promise<void> {
    await sleep(this.#clock, MOVE_MS / this.speed, signal)
    const { digits } = await this.#fibre.wait(signal)
    const readings = Array.from(this.#sequence, (own, i) => this.#reading(digits?.[i], own))
    await sleep(this.#clock, REST_OF_RUN_MS / this.speed, signal)
    this.#counts.runsSeen += 1
    await this.#answer(`${readings.join(' ')} `, '\n')
  }

  /** Malus' law between the sender's digit and ours, 45° a step; undefined: no light. */
  #reading(sent: number | undefined, own: number): number {
    const light = sent === undefined ? 0 : BRIGHT * Math.cos(((sent - own) * Math.PI) / 4) ** 2
    return Math.round(light + NOISE * this.context.random.fraction())
  }
}

export const emulator: EmulatorFactory = {
  baudRate: BAUD,
  options: {
    fibre: 'name of the fibre; boards of one process with the same name see each other; default fibre',
    speed: 'how many times faster than the real board; the driver needs the same; default 1',
  },
  create(context) {
    const { fibre, speed } = parseOptions('emulator ekpqc', optionsSchema, context.options, 'E_USAGE')
    return new EkpqcEmulator(context, speed, fibre)
  },
}
