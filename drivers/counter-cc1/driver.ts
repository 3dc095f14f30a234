import { z } from 'zod'
import { sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { type Counts, createCounterDevice } from '../../src/device/coincidence-counter.js'
import type { Device, Driver, DriverContext } from '../../src/device/contract.js'
import { Dialogue, lineReader } from '../../src/device/dialogue.js'
import { decimalNumber, onOff, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type { Conversation, SessionHandle } from '../../src/device/serial-session.js'
import { descriptor } from './descriptor.js'
import {
  BAUD,
  type Counter,
  countQuery,
  dwellSeconds,
  gateCommand,
  line,
  NO_ACKNOWLEDGE,
  parseFirmware,
  parseNumber,
} from './protocol.js'

const ANSWER_MS = 1_000
const DRAIN_MS = 100
const LONGEST_DRAIN_MS = 2_000
const MOST_DWELL_SECONDS = 3_600

const optionsSchema = z
  .strictObject({
    'window-ns': wholeNumber(0, 7).optional(),
    'delay-ns': wholeNumber(0, 14)
      .refine((ns) => ns % 2 === 0, 'must be even')
      .optional(),
    'dwell-s': decimalNumber(0.1, MOST_DWELL_SECONDS).optional(),
    gate: onOff.optional(),
    'visibility-samples': wholeNumber(2, 10_000).prefault('60'),
    'stable-folder': z.string().min(1).optional(),
  })
  .transform((options) => ({
    windowNs: options['window-ns'],
    delayNs: options['delay-ns'],
    dwellS: options['dwell-s'],
    gate: options.gate,
    visibilitySamples: options['visibility-samples'],
    stableFolder: options['stable-folder'],
  }))

type Cc1Options = z.output<typeof optionsSchema>

class Cc1Conversation implements Conversation {
  readonly #dialogue: Dialogue

  constructor(
    private readonly handle: SessionHandle,
    private readonly context: DriverContext,
    private readonly options: Cc1Options,
    private readonly counts: Counts,
  ) {
    this.#dialogue = new Dialogue(handle.transport, context.clock, undefined, (ms) => handle.roundTrip(ms))
  }

  onData(chunk: Uint8Array): void {
    this.#dialogue.onData(chunk)
  }

  end(): void {
    this.#dialogue.end()
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.context
    // Old firmware answers "Unknown Command", new firmware may acknowledge it once more: neither matters.
    await this.#tell(NO_ACKNOWLEDGE, signal)
    const answer = await this.#ask('FIRM?', signal)
    const firmware = parseFirmware(answer)
    if (firmware === undefined) {
      throw new GatewayError('E_DEVICE_PROTOCOL', `"${answer.slice(0, 40)}" is no firmware of a CC1`)
    }
    await this.#configure(firmware, signal)
    const dwell = dwellSeconds(await this.#ask('DWEL?', signal), firmware)
    if (dwell === undefined || dwell > MOST_DWELL_SECONDS) throw new GatewayError('E_DEVICE_PROTOCOL', 'no dwell time')
    this.counts.setting('dwellMs', dwell * 1_000)
    this.handle.identified(`Qubitekk CC1, firmware ${firmware}`)
    while (!signal.aborted) {
      await sleep(clock, dwell * 1_000, signal)
      for (const counter of ['C1', 'C2'] as const) this.counts.single(counter, await this.#count(counter, signal))
      this.counts.coincidences('CO', await this.#count('CO', signal))
      this.handle.alive()
    }
  }

  async #configure(firmware: number, signal: AbortSignal): Promise<void> {
    const { windowNs, delayNs, dwellS, gate } = this.options
    if (windowNs !== undefined) await this.#tell(line(`:WIND ${windowNs}`), signal)
    if (delayNs !== undefined) await this.#tell(line(`:DELA ${delayNs}`), signal)
    if (dwellS !== undefined) await this.#tell(line(`:DWEL ${dwellS}`), signal)
    if (gate !== undefined) await this.#tell(gateCommand(gate, firmware), signal)
  }

  async #count(counter: Counter, signal: AbortSignal): Promise<number> {
    const answer = await this.#ask(countQuery(counter), signal)
    const count = parseNumber(answer)
    if (count === undefined || count < 0) {
      throw new GatewayError('E_DEVICE_PROTOCOL', `${countQuery(counter)}: "${answer.slice(0, 40)}" is no count`)
    }
    return count
  }

  async #tell(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#dialogue.tell(bytes, signal)
    await this.#dialogue.drain(DRAIN_MS, LONGEST_DRAIN_MS, signal)
  }

  #ask(text: string, signal: AbortSignal): Promise<string> {
    return this.#dialogue.ask({ what: text, bytes: line(text), read: lineReader(), timeoutMs: ANSWER_MS }, signal)
  }
}

function create(context: DriverContext): Device {
  const options = parseOptions('driver counter-cc1', optionsSchema, context.options)
  return createCounterDevice(context, {
    ...options,
    baudRate: BAUD,
    silentAfterMs: 5_000 + 3 * 1_000 * (options.dwellS ?? 10),
    begin: (handle, counts) => new Cc1Conversation(handle, context, options, counts),
  })
}

export const driver: Driver = { descriptor, create }
