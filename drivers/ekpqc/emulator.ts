/** The kit's boards on a serial line: how they hear commands, and which board does them. */
import { z } from 'zod'
import type { Timer } from '../../src/base/clock.js'
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
import type { BoardContext, EmulatedBoard } from './emulated-board.js'
import { EmulatedClassicalBoard } from './emulated-classical.js'
import { EmulatedEveBoard } from './emulated-eve.js'
import { EmulatedQuantumBoard } from './emulated-quantum.js'
import { BAUD } from './protocol.js'

const LONGEST_COMMAND = 15
const SILENCE_MS = 100

const optionsSchema = z.strictObject({
  board: z.enum(['quantum', 'classical', 'eve']).default('quantum'),
  fibre: z.string().min(1).default('fibre'),
  onward: z.string().min(1).default('onward'),
  air: z.string().min(1).default('air'),
  speed: wholeNumber(1, 1_000).prefault('1'),
})

const RESET: FaultDescription = {
  name: 'reset',
  usage: '',
  meaning: 'what the board does ends, as when its port is opened',
}

class EkpqcEmulator implements DeviceEmulator {
  readonly faults: readonly FaultDescription[]
  readonly #line: FaultyLine
  readonly #board: EmulatedBoard
  readonly #opened: Promise<void>
  #text = ''
  #charactersLeft = 0
  #silence: Timer | undefined
  #work: Promise<void>
  #busy = new AbortController()
  readonly #counts = { commands: 0, resets: 0 }

  constructor(
    private readonly context: EmulatorContext,
    createBoard: (context: BoardContext) => EmulatedBoard,
    speed: number,
    readonly attachable: boolean,
  ) {
    const { line, clock, random } = context
    this.#line = new FaultyLine({ line, clock, random, baudRate: BAUD })
    this.#board = createBoard({
      clock,
      random,
      speed,
      answer: (text, end = '\r\n') => this.#line.send(ascii(text + end), this.#busy.signal),
    })
    this.faults = [...LINE_FAULTS, ...this.#board.faults, RESET]
    this.#opened = this.#board.open()
    this.#work = this.#opened.catch(() => {})
  }

  async run(signal: AbortSignal): Promise<void> {
    const unhear = this.context.line.onData((chunk) => {
      for (const byte of this.#line.heard(chunk)) this.#hear(String.fromCharCode(byte))
    })
    try {
      await this.#opened
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
      await this.#board.close()
    }
  }

  facts(): Record<string, string | number | boolean> {
    return { ...this.#counts, ...this.#board.facts(), ...this.#line.facts() }
  }

  async fault(name: string, args: readonly string[]): Promise<string> {
    if (name === 'reset') {
      this.#reset()
      return 'reset'
    }
    await this.#opened
    const done = (await this.#board.fault(name)) ?? (await this.#line.fault(name, args))
    if (done !== undefined) return done
    throw new GatewayError('E_USAGE', `the EKPQC emulator has no fault named ${name}`, {
      remedy: `faults are: ${this.faults.map((fault) => fault.name).join(', ')}`,
    })
  }

  #reset(): void {
    this.#counts.resets += 1
    this.#busy.abort()
    this.#busy = new AbortController()
    this.#text = ''
    this.#charactersLeft = 0
  }

  #hear(character: string): void {
    if (this.#board.interrupt?.(character) === true) return
    // A pseudo-terminal has no DTR: that somebody opened the port anew shows only by what he says.
    if (this.#board.waiting) this.#reset()
    this.#silence?.cancel()
    this.#silence = this.context.clock.after(SILENCE_MS, () => this.#end())
    if (this.#charactersLeft > 0) {
      this.#text += character
      this.#charactersLeft -= 1
      if (this.#charactersLeft === 0) this.#end()
      return
    }
    if (character !== ' ') {
      if (this.#text.length < LONGEST_COMMAND) this.#text += character
      return
    }
    const argument = this.#board.arguments.get(this.#text.toUpperCase())
    if (argument === undefined) return this.#end()
    this.#text += ' '
    if (typeof argument === 'number') this.#charactersLeft = argument
  }

  /** A blank or 100 ms of silence: what was typed is a command. Silence after nothing is nothing. */
  #end(): void {
    this.#silence?.cancel()
    const text = this.#text
    this.#text = ''
    this.#charactersLeft = 0
    this.#counts.commands += 1
    const at = text.indexOf(' ')
    const [name, argument] = at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)]
    const busy = this.#busy
    this.#work = this.#work.then(() => this.#board.do(name.toUpperCase(), argument, busy.signal)).catch(() => {})
  }
}

export const emulator: EmulatorFactory = {
  baudRate: BAUD,
  options: {
    board: 'quantum (default), classical, or eve',
    fibre: 'name of the fibre; boards of this user on this machine with the same name see each other; default fibre',
    onward: "eve: name of the fibre that leads on to Bob's board; default onward",
    air: 'classical: name of the room in which infrared light is seen; default air',
    speed: 'how many times faster than the real board; the driver needs the same; default 1',
  },
  create(context) {
    const { board, fibre, onward, air, speed } = parseOptions(
      'emulator ekpqc',
      optionsSchema,
      context.options,
      'E_USAGE',
    )
    if (board === 'eve' && fibre === onward)
      throw new GatewayError('E_USAGE', `emulator ekpqc: fibre and onward are both ${fibre}`, {
        remedy: "Eve stands between two fibres: Alice's board on the one, Bob's on the other",
      })
    const create = (boardContext: BoardContext): EmulatedBoard => {
      if (board === 'eve') return new EmulatedEveBoard(boardContext, fibre, onward)
      if (board === 'classical') return new EmulatedClassicalBoard(boardContext, air)
      return new EmulatedQuantumBoard(boardContext, fibre)
    }
    return new EkpqcEmulator(context, create, speed, board === 'quantum')
  },
}
