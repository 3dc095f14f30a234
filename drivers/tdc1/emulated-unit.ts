/** What a TDC1 does with the commands it is sent, without a line or a clock of its own. */
import { Tdc1Encoder, tdc1Word } from '../../src/device/event-formats/tdc1-words.js'
import { COUNT_NAMES, MODES, type Mode } from './protocol.js'
import { TICKS_PER_SECOND, type ClickSource } from './click-sources.js'

/** Faults in the unit's own records. */
export type RecordFault = 'swap' | 'repeat-record' | 'zero' | 'no-dummy'

export interface UnitOutput {
  /** Goes out at once, behind what waits. */
  text(text: string): void
  /** Waits for a full packet or a flush. */
  words(words: readonly number[]): void
  flush(): void
  /** What waits is thrown away (reset). */
  clear(): void
}

/** The whole answers are not public: these only look like them. */
const IDENTITY_LINE = 'S-Fifteen Instruments TDC1 emulator'
const HELP_LINES = [
  'Emulated TDC1. Commands:',
  '*IDN? *RST HELP ABORT INPKT',
  'TIME SINGLES PAIRS TIMESTAMP MODE? COUNTS? STATUS?',
]

interface Run {
  /** Tick of the common clock at which counting began. */
  zeroTick: number
  encoder: Tdc1Encoder
  source: ClickSource
  /** Ticks after which the gate ends; Infinity without end. */
  lengthTicks: number
}

export class EmulatedUnit {
  #mode: Mode = 'singles'
  #gateMs = 1_000
  #level = -0.5
  #clock = 0
  #flags = 0
  #run: Run | undefined
  #counting: { dueTick: number; counts: number[] } | undefined
  #text = ''
  #recordFault: RecordFault | undefined
  #dropRecords = 0
  /** Records made, for the facts. */
  records = 0
  overflowRecords = 0

  constructor(
    private readonly out: UnitOutput,
    /** Makes the light of a run that begins at a tick of the common clock. */
    private readonly light: (zeroTick: number) => ClickSource,
  ) {}

  get tagging(): boolean {
    return this.#run !== undefined
  }

  /** What the host sent, at `tick` of the common clock. */
  hear(bytes: Uint8Array, tick: number): void {
    for (const byte of bytes) {
      const char = String.fromCharCode(byte)
      if (char !== ';' && char !== '\r' && char !== '\n') {
        // A unit's own buffer is short too.
        if (this.#text.length < 255) this.#text += char
        continue
      }
      const command = this.#text.trim().toUpperCase()
      this.#text = ''
      if (command !== '') this.#obey(command, tick)
    }
  }

  /** Time has come to `tick`: makes the records and counts due until then. */
  advance(tick: number): void {
    const run = this.#run
    if (run !== undefined) {
      const until = Math.min(tick - run.zeroTick, run.lengthTicks)
      const words: number[] = []
      run.source.until(until, (at, pattern) => run.encoder.click(at, pattern, words))
      run.encoder.advance(until - 1, words)
      this.#send(words)
      if (until >= run.lengthTicks) this.#run = undefined
    }
    const counting = this.#counting
    if (counting !== undefined && tick >= counting.dueTick) {
      this.#counting = undefined
      this.out.text(`${counting.counts.join(' ')}\r\n`)
    }
  }

  /** The next record suffers so. */
  recordFault(fault: RecordFault): void {
    this.#recordFault = fault
  }

  /** The FIFO runs over: so many records are lost, and the status says so. */
  overflow(records: number): void {
    this.#flags |= 0x10
    this.#dropRecords += records
  }

  #send(words: number[]): void {
    this.records += words.length
    const dropped = Math.min(this.#dropRecords, words.length)
    this.#dropRecords -= dropped
    this.overflowRecords += dropped
    words.splice(0, dropped)
    const fault = this.#recordFault
    if (fault !== undefined && this.#applied(fault, words)) this.#recordFault = undefined
    if (words.length > 0) this.out.words(words)
  }

  /** True where the fault found its record. */
  #applied(fault: RecordFault, words: number[]): boolean {
    const isEvent = (word: number | undefined): word is number => word !== undefined && (word & 16) === 0
    if (fault === 'no-dummy') {
      const at = words.findIndex((word) => !isEvent(word))
      if (at >= 0) words.splice(at, 1)
      return at >= 0
    }
    const at = words.findIndex((word, i) => isEvent(word) && (fault !== 'swap' || isEvent(words[i + 1])))
    const word = words[at]
    const next = words[at + 1]
    if (word === undefined) return false
    if (fault === 'zero') words[at] = tdc1Word(0, word & 15)
    else if (fault === 'repeat-record') words.splice(at, 0, word)
    else if (next !== undefined) words.splice(at, 2, next, word)
    return true
  }

  #obey(command: string, tick: number): void {
    const [name = '', argument = ''] = command.split(/\s+/)
    this.advance(tick)
    switch (name) {
      case '*IDN?':
        return this.out.text(`${IDENTITY_LINE}\r\n`)
      case 'HELP':
        return this.out.text(HELP_LINES.map((line) => `${line}\r\n`).join(''))
      case '*RST':
        this.#mode = 'singles'
        this.#gateMs = 1_000
        this.#flags = 0
        this.#run = undefined
        this.#counting = undefined
        return this.out.clear()
      case 'ABORT':
        this.#run = undefined
        this.#counting = undefined
        return this.out.flush()
      case 'INPKT':
        return this.out.flush()
      case 'TIME':
        this.#gateMs = Math.min(65_535, Math.max(0, Math.trunc(Number(argument)) || 0))
        return
      case 'TIME?':
        // Printed as a signed 16-bit number.
        return this.out.text(`${this.#gateMs > 32_767 ? this.#gateMs - 65_536 : this.#gateMs}\r\n`)
      case 'SINGLES':
      case 'PAIRS':
      case 'TIMESTAMP':
        this.#mode = name === 'SINGLES' ? 'singles' : name === 'PAIRS' ? 'pairs' : 'timestamp'
        return
      case 'MODE?':
        return this.out.text(`${MODES[this.#mode]}\r\n`)
      case 'NIM':
        this.#level = -0.5
        return
      case 'TTL':
        this.#level = 1
        return
      case 'NEG':
      case 'POS':
        this.#level = Number(argument) || 0
        return
      case 'LEVEL?':
        return this.out.text(`${this.#level.toFixed(3)} V\r\n`)
      case 'REFCLK':
        this.#clock = Number(argument) || 0
        return
      case 'REFCLK?':
        return this.out.text(`${this.#clock}\r\n`)
      case 'ECLOCK?':
        return this.out.text('0\r\n')
      case 'STATUS?':
        return this.out.text(`${this.#flags.toString(16).padStart(4, '0')} \r\n`)
      case 'COUNTS?':
        return this.#start(tick)
      default:
        return this.out.text('Unknown command\r\n')
    }
  }

  #start(tick: number): void {
    const lengthTicks = this.#gateMs === 0 ? Infinity : (this.#gateMs * TICKS_PER_SECOND) / 1_000
    if (this.#mode === 'timestamp') {
      this.#run = { zeroTick: tick, encoder: new Tdc1Encoder(), source: this.light(tick), lengthTicks }
      return
    }
    const counts = new Array<number>(COUNT_NAMES[this.#mode].length).fill(0)
    if (Number.isFinite(lengthTicks))
      this.light(tick).until(lengthTicks, (_at, pattern) => {
        for (let input = 0; input < 4; input++) if ((pattern >> input) & 1) counts[input] = (counts[input] ?? 0) + 1
      })
    this.#counting = { dueTick: tick + lengthTicks, counts }
  }
}
