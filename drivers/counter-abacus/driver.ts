import { z } from 'zod'
import { sleep } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import { type Counts, createCounterDevice } from '../../src/device/coincidence-counter.js'
import type { Device, Driver, DriverContext } from '../../src/device/contract.js'
import { Dialogue, type Question } from '../../src/device/dialogue.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type { Conversation, SessionHandle } from '../../src/device/serial-session.js'
import { descriptor } from './descriptor.js'
import {
  AFTER_IDENTIFY_MS,
  answerReader,
  BAUD,
  IDENTIFY,
  identityReader,
  parseIdentity,
  readFrame,
  REGISTERS,
  writeFrame,
} from './protocol.js'

const ANSWER_MS = 1_000
const DRAIN_MS = 50
const LONGEST_DRAIN_MS = 2_000
const TRIES = 3
const INPUTS = ['A', 'B', 'C', 'D'] as const

const optionsSchema = z
  .strictObject({
    'window-ns': wholeNumber(1, 1_000_000).optional(),
    'sampling-ms': wholeNumber(1, 1_000_000).optional(),
    'poll-ms': wholeNumber(10, 60_000).prefault('200'),
    'visibility-samples': wholeNumber(2, 10_000).prefault('60'),
    'silent-after-ms': wholeNumber(1_000, 3_600_000).prefault('30000'),
    'stable-folder': z.string().min(1).optional(),
  })
  .transform((options) => ({
    windowNs: options['window-ns'],
    samplingMs: options['sampling-ms'],
    pollMs: options['poll-ms'],
    visibilitySamples: options['visibility-samples'],
    silentAfterMs: options['silent-after-ms'],
    stableFolder: options['stable-folder'],
  }))

type AbacusOptions = z.output<typeof optionsSchema>

class AbacusConversation implements Conversation {
  readonly #dialogue: Dialogue
  #dataId: number | undefined

  constructor(
    private readonly handle: SessionHandle,
    private readonly context: DriverContext,
    private readonly options: AbacusOptions,
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
    const { windowNs, samplingMs, pollMs } = this.options
    await this.#dialogue.drain(DRAIN_MS, LONGEST_DRAIN_MS, signal)
    const name = await this.#dialogue.ask(
      { what: '*IDN?', bytes: IDENTIFY, read: identityReader, timeoutMs: ANSWER_MS },
      signal,
    )
    const identity = parseIdentity(name)
    if (identity === undefined) throw new GatewayError('E_DEVICE_PROTOCOL', `"${name}" is no Tausand Abacus`)
    if (identity.channels < 4) {
      throw new GatewayError('E_DEVICE_PROTOCOL', `${identity.model}: the registers of two-channel units are not known`)
    }
    await sleep(clock, AFTER_IDENTIFY_MS, signal)
    if (windowNs !== undefined) await this.#write(REGISTERS.window, windowNs, signal)
    if (samplingMs !== undefined) await this.#write(REGISTERS.sampling, samplingMs, signal)
    this.handle.identified(`Tausand Abacus ${identity.model}`)
    while (!signal.aborted) {
      const dataId = await this.#read(REGISTERS.dataId, signal)
      if (dataId !== this.#dataId) {
        await this.#count(signal)
        this.#dataId = dataId
        this.handle.alive()
      }
      await sleep(clock, pollMs, signal)
    }
  }

  async #count(signal: AbortSignal): Promise<void> {
    for (const counter of INPUTS) this.counts.single(counter, await this.#read(REGISTERS[counter], signal))
    this.counts.coincidences('AB', await this.#read(REGISTERS.AB, signal))
  }

  async #read(address: number, signal: AbortSignal): Promise<number> {
    for (let tries = 1; ; tries += 1) {
      const question: Question<Map<number, number>> = {
        what: `register ${address}`,
        bytes: readFrame(address),
        read: answerReader,
        timeoutMs: ANSWER_MS,
      }
      try {
        const value = (await this.#dialogue.ask(question, signal)).get(address)
        if (value !== undefined) return value
        throw new GatewayError('E_DEVICE_PROTOCOL', `register ${address}: the answer is about another one`)
      } catch (error) {
        if (signal.aborted || tries >= TRIES) throw error
        this.context.log.debug({ address, reason: messageOf(error) }, 'asking the counter again')
        await this.#dialogue.drain(DRAIN_MS, LONGEST_DRAIN_MS, signal)
      }
    }
  }

  async #write(address: number, value: number, signal: AbortSignal): Promise<void> {
    await this.#dialogue.tell(writeFrame(address, value), signal)
    await this.#dialogue.drain(DRAIN_MS, LONGEST_DRAIN_MS, signal)
  }
}

function create(context: DriverContext): Device {
  const options = parseOptions('driver counter-abacus', optionsSchema, context.options)
  return createCounterDevice(context, {
    ...options,
    baudRate: BAUD,
    begin: (handle, counts) => new AbacusConversation(handle, context, options, counts),
  })
}

export const driver: Driver = { descriptor, create }
