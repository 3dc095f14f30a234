import { z } from 'zod'
import { sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { decimalNumber, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type {
  DeviceEmulator,
  EmulatorContext,
  EmulatorFactory,
  FaultDescription,
} from '../../src/device/emulator-contract.js'
import { tdc1Bytes } from '../../src/device/event-formats/tdc1-words.js'
import { faultNumber, FaultyLine, LINE_FAULTS } from '../../src/device/faulty-line.js'
import {
  PairLight,
  RandomLight,
  SeededNumbers,
  SquareWave,
  TICKS_PER_SECOND,
  type ClickSource,
} from './click-sources.js'
import { EmulatedUnit } from './emulated-unit.js'
import { BAUD_RATE } from './protocol.js'

const OPTION_MEANINGS = {
  rate: 'clicks a second over all inputs; default 10000',
  wave: 'instead of random light a square wave of so many Hz on input 1',
  pair: 'instead of random light one side of an entangled-pair source: both sides name the same seed',
  side: 'pair only: alice or bob',
  'pairs-per-second': 'pair only; default 20000',
  efficiency: 'pair only: share of the photons that this side detects; default 0.3',
  dark: 'pair only: dark counts a second on each input; default 200',
  error: 'pair only: share of wrong results in equal bases; default 0.02',
  'clock-ppm': 'how fast the clock of the unit runs, in parts in a million; default 0',
  packet: 'bytes of a USB packet that fills before it is sent; default 64',
  seed: 'seed of the random light; default: different each time',
}

const optionsSchema = z.strictObject({
  rate: decimalNumber(0, 20_000_000).prefault('10000'),
  wave: decimalNumber(0.01, 20_000_000).optional(),
  pair: z.string().min(1).optional(),
  side: z.enum(['alice', 'bob']).prefault('alice'),
  'pairs-per-second': decimalNumber(1, 2_000_000).prefault('20000'),
  efficiency: decimalNumber(0, 1).prefault('0.3'),
  dark: decimalNumber(0, 1_000_000).prefault('200'),
  error: decimalNumber(0, 1).prefault('0.02'),
  'clock-ppm': decimalNumber(-200, 200).prefault('0'),
  packet: wholeNumber(4, 4_096).prefault('64'),
  seed: z.string().min(1).optional(),
})
type Options = z.infer<typeof optionsSchema>

const OWN_FAULTS: readonly FaultDescription[] = [
  { name: 'slip', usage: '[bytes=2]', meaning: 'so many bytes of the stream are lost' },
  { name: 'overflow', usage: '[records=512]', meaning: 'the FIFO runs over: records are lost, the status says so' },
  { name: 'swap', usage: '', meaning: 'the next two records change places' },
  { name: 'repeat-record', usage: '', meaning: 'the next record comes twice' },
  { name: 'zero', usage: '', meaning: 'the next record has time zero' },
  { name: 'no-dummy', usage: '', meaning: 'the next dummy is not sent' },
]

/** How often the unit makes what is due. */
const STEP_MS = 5
/** After standing still (SIGSTOP, a busy machine) it does not make up for more than this. */
const LONGEST_CATCH_UP_MS = 1_000
const LONGEST_UNIT_BYTES = 4_096

class Tdc1Emulator implements DeviceEmulator {
  readonly faults = [...LINE_FAULTS, ...OWN_FAULTS]
  readonly #line: FaultyLine
  readonly #unit: EmulatedUnit
  readonly #startMs: number
  /** Ticks that were slept through. */
  #skippedMs = 0
  #waiting: Uint8Array = new Uint8Array(0)
  #due: Uint8Array[] = []
  #slipBytes = 0

  constructor(
    private readonly context: EmulatorContext,
    private readonly options: Options,
  ) {
    const { line, clock, random } = context
    this.#line = new FaultyLine({ line, clock, random, baudRate: BAUD_RATE })
    this.#startMs = clock.monotonicMs()
    this.#unit = new EmulatedUnit(
      {
        text: (text) => {
          this.#flush()
          this.#due.push(new TextEncoder().encode(text))
        },
        words: (words) => this.#take(tdc1Bytes(words)),
        flush: () => this.#flush(),
        clear: () => (this.#waiting = new Uint8Array(0)),
      },
      () => this.#light(),
    )
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, line } = this.context
    // A real port answers whatever its rate is: no wrong rate can be heard here.
    const unhear = line.onData((chunk) => this.#unit.hear(chunk, this.#tick()))
    let lastMs = clock.monotonicMs()
    try {
      while (!signal.aborted) {
        const nowMs = clock.monotonicMs()
        if (nowMs - lastMs > LONGEST_CATCH_UP_MS) this.#skippedMs += nowMs - lastMs
        lastMs = nowMs
        this.#unit.advance(this.#tick())
        for (const bytes of this.#due.splice(0)) {
          if (signal.aborted) break
          await this.#line.send(bytes, signal)
        }
        await sleep(clock, STEP_MS, signal)
      }
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      unhear()
      this.#line.stop()
    }
  }

  async fault(name: string, args: readonly string[]): Promise<string> {
    switch (name) {
      case 'slip':
        this.#slipBytes += faultNumber(name, args[0], 2)
        return `the next ${this.#slipBytes} bytes of the stream are lost`
      case 'overflow': {
        const records = faultNumber(name, args[0], 512)
        this.#unit.overflow(records)
        return `the FIFO ran over: the next ${records} records are lost`
      }
      case 'swap':
      case 'repeat-record':
      case 'zero':
      case 'no-dummy':
        this.#unit.recordFault(name)
        return `fault ${name} waits for its record`
      default: {
        const done = await this.#line.fault(name, args)
        if (done !== undefined) return done
        throw new GatewayError('E_USAGE', `the TDC1 emulator has no fault named ${name}`, {
          remedy: `faults are: ${this.faults.map((fault) => fault.name).join(', ')}`,
        })
      }
    }
  }

  facts(): Record<string, string | number | boolean> {
    const { records, overflowRecords, tagging } = this.#unit
    return { records, overflowRecords, tagging, ...this.#line.facts() }
  }

  /** Ticks of 2 ns since the emulator began, by its own clock. */
  #tick(): number {
    const elapsedMs = this.context.clock.monotonicMs() - this.#startMs - this.#skippedMs
    return Math.floor(((elapsedMs * TICKS_PER_SECOND) / 1_000) * (1 + this.options['clock-ppm'] * 1e-6))
  }

  #light(): ClickSource {
    const { options } = this
    const { clock, random } = this.context
    if (options.wave !== undefined) return new SquareWave(options.wave)
    if (options.pair !== undefined)
      return new PairLight({
        seed: options.pair,
        side: options.side,
        pairsPerSecond: options['pairs-per-second'],
        efficiency: options.efficiency,
        darkPerSecond: options.dark,
        errorShare: options.error,
        zeroUnixMs: clock.nowMs(),
        clockPpm: options['clock-ppm'],
      })
    const seed = options.seed ?? Buffer.from(random.bytes(8)).toString('hex')
    return new RandomLight(options.rate, new SeededNumbers(seed))
  }

  /** Records wait until a packet is full. */
  #take(bytes: Uint8Array): void {
    const lost = Math.min(this.#slipBytes, bytes.length)
    this.#slipBytes -= lost
    const joined = new Uint8Array(this.#waiting.length + bytes.length - lost)
    joined.set(this.#waiting)
    joined.set(bytes.subarray(lost), this.#waiting.length)
    const full = joined.length - (joined.length % this.options.packet)
    for (let at = 0; at < full; at += LONGEST_UNIT_BYTES)
      this.#due.push(joined.slice(at, Math.min(full, at + LONGEST_UNIT_BYTES)))
    this.#waiting = joined.slice(full)
  }

  #flush(): void {
    if (this.#waiting.length > 0) this.#due.push(this.#waiting)
    this.#waiting = new Uint8Array(0)
  }
}

export const emulator: EmulatorFactory = {
  baudRate: BAUD_RATE,
  options: OPTION_MEANINGS,
  create: (context) =>
    new Tdc1Emulator(context, parseOptions('emulator tdc1', optionsSchema, context.options, 'E_USAGE')),
}
