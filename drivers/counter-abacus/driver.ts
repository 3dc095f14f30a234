import { z } from 'zod'
import { sleep } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import type { Device, DeviceEvent, Driver, DriverContext } from '../../src/device/contract.js'
import { Dialogue, type Question } from '../../src/device/dialogue.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { createEventHub } from '../../src/device/event-hub.js'
import { type Conversation, SerialSession, type SessionHandle } from '../../src/device/serial-session.js'
import { createVisibility } from '../../src/device/visibility.js'
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
const COUNTERS = ['A', 'B', 'C', 'D', 'AB'] as const

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
  readonly #visibility
  #dataId: number | undefined

  constructor(
    private readonly handle: SessionHandle,
    private readonly context: DriverContext,
    private readonly options: AbacusOptions,
    private readonly emit: (event: DeviceEvent) => void,
    private readonly latest: Map<string, number>,
  ) {
    this.#dialogue = new Dialogue(handle.transport, context.clock, undefined, (ms) => handle.roundTrip(ms))
    this.#visibility = createVisibility(options.visibilitySamples)
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
    for (const counter of COUNTERS) {
      const value = await this.#read(REGISTERS[counter], signal)
      this.latest.set(counter, value)
      this.emit({ type: 'figure', path: ['Counter', counter], value, unit: 'count' })
    }
    const percent = this.#visibility.push(this.latest.get('AB') ?? 0)
    if (percent === undefined) return
    this.latest.set('visibilityPercent', percent)
    this.emit({ type: 'figure', path: ['Alignment', 'Visibility'], value: percent, unit: 'percent' })
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
  const { device, io, clock, random, log } = context
  const options = parseOptions('driver counter-abacus', optionsSchema, context.options)
  const hub = createEventHub(log)
  const latest = new Map<string, number>()
  const session = new SerialSession({
    path: device,
    settings: { baudRate: BAUD },
    io,
    clock,
    random,
    log,
    begin: (handle) => new AbacusConversation(handle, context, options, (event) => hub.emit(event), latest),
    silentAfterMs: options.silentAfterMs,
    ...(options.stableFolder === undefined ? {} : { stableFolder: options.stableFolder }),
  })
  return {
    state: session.state,
    facts: () => ({ ...session.facts(), ...Object.fromEntries(latest) }),
    subscribe: (listener) => hub.subscribe(listener),
    run: (signal) => session.run(signal),
  }
}

export const driver: Driver = { descriptor, create }
