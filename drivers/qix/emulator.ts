import { z } from 'zod'
import { sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { wipe } from '../../src/base/wipe.js'
import { decimalNumber, onOff, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type {
  DeviceEmulator,
  EmulatorContext,
  EmulatorFactory,
  FaultDescription,
} from '../../src/device/emulator-contract.js'
import { faultNumber, FaultyLine, LINE_FAULTS } from '../../src/device/faulty-line.js'
import { type FrameSource, pairSource, randomSource, timeBasedSource } from './frame-source.js'
import { DEFAULT_BAUD, encodeFrame, STATUS_COMPROMISED, STATUS_OK } from './protocol.js'

const OPTION_MEANINGS = {
  pair: 'seed: two units with the same seed and rate send the same keys under the same ids at the same time',
  'time-based': 'yes: id = Unix ms, key = SHA-256 of it, every interval-ms',
  rate: 'frames a second; default 20 (9600 baud carry 20.4)',
  'interval-ms': 'time-based only: ms between frames, 100 or more; default 1000',
  'first-id': 'random keys only: first id; default 0',
  baud: 'the unit’s own line rate; default 9600',
}

const optionsSchema = z
  .strictObject({
    pair: z.string().min(1).optional(),
    'time-based': onOff.prefault('off'),
    rate: decimalNumber(0.01, 10_000).prefault('20'),
    'interval-ms': wholeNumber(100, 3_600_000).prefault('1000'),
    'first-id': z
      .string()
      .regex(/^\d{1,19}$/, 'must be a whole number')
      .transform(BigInt)
      .optional(),
    baud: wholeNumber(50, 4_000_000).prefault(String(DEFAULT_BAUD)),
  })
  .refine((options) => options.pair === undefined || !options['time-based'], {
    message: 'pair and time-based exclude each other',
    path: ['pair'],
  })

const OWN_FAULTS: readonly FaultDescription[] = [
  { name: 'compromised', usage: '[frames=1]', meaning: 'the next frames carry status FF' },
  { name: 'restart', usage: '[id=0]', meaning: 'numbering begins anew at id' },
]

/** What a unit that was stopped (SIGSTOP, sleep) does not make up for. */
const LONGEST_CATCH_UP_MS = 1_000

class QixEmulator implements DeviceEmulator {
  readonly faults = [...LINE_FAULTS, ...OWN_FAULTS]
  readonly #line: FaultyLine
  #compromised = 0
  #frames = 0
  #lastId = -1n

  constructor(
    private readonly context: EmulatorContext,
    private readonly source: FrameSource,
    baudRate: number,
  ) {
    const { line, clock, random } = context
    this.#line = new FaultyLine({ line, clock, random, baudRate })
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.context
    const { periodMs, time } = this.source
    const nowMs = (): number => (time === 'wall' ? clock.nowMs() : clock.monotonicMs())
    let tick = Math.floor(nowMs() / periodMs) + 1
    try {
      while (!signal.aborted) {
        const waitMs = tick * periodMs - nowMs()
        if (waitMs > 2 * periodMs + LONGEST_CATCH_UP_MS || waitMs < -LONGEST_CATCH_UP_MS) {
          tick = Math.floor(nowMs() / periodMs) + 1 // The clock was set, or we stood still.
          continue
        }
        if (waitMs > 0) {
          await sleep(clock, waitMs, signal)
          continue // A timer may fire a little early.
        }
        await this.#sendTick(tick, signal)
        tick += 1
      }
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      this.#line.stop()
    }
  }

  async #sendTick(tick: number, signal: AbortSignal): Promise<void> {
    const { id, key } = this.source.at(tick)
    const status = this.#compromised > 0 ? STATUS_COMPROMISED : STATUS_OK
    if (this.#compromised > 0) this.#compromised -= 1
    const frame = encodeFrame({ id, key, status })
    wipe(key)
    this.#frames += 1
    this.#lastId = id
    await this.#line.send(frame, signal)
    wipe(frame)
  }

  async fault(name: string, args: readonly string[]): Promise<string> {
    switch (name) {
      case 'compromised':
        this.#compromised += faultNumber(name, args[0], 1)
        return `the next ${this.#compromised} frames are marked compromised`
      case 'restart': {
        const id = faultNumber(name, args[0], 0)
        this.source.restart(BigInt(id))
        return `numbering begins anew at ${id}`
      }
      default: {
        const done = await this.#line.fault(name, args)
        if (done !== undefined) return done
        throw new GatewayError('E_USAGE', `the QIX emulator has no fault named ${name}`, {
          remedy: `faults are: ${this.faults.map((fault) => fault.name).join(', ')}`,
        })
      }
    }
  }

  facts(): Record<string, string | number | boolean> {
    return { frames: this.#frames, lastId: String(this.#lastId), ...this.#line.facts() }
  }
}

export const emulator: EmulatorFactory = {
  baudRate: DEFAULT_BAUD,
  options: OPTION_MEANINGS,
  create(context) {
    const options = parseOptions('emulator qix', optionsSchema, context.options, 'E_USAGE')
    const periodMs = 1_000 / options.rate
    const source =
      options.pair !== undefined
        ? pairSource(periodMs, options.pair)
        : options['time-based']
          ? timeBasedSource(options['interval-ms'])
          : randomSource(periodMs, context.random, options['first-id'])
    return new QixEmulator(context, source, options.baud)
  },
}
