import { z } from 'zod'
import { sleep, withDeadline } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import type { Device, DeviceEvent, Driver, DriverContext } from '../../src/device/contract.js'
import { onOff, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { toPsTags, type TagSink } from '../../src/device/event-formats/batch.js'
import { NoxReader } from '../../src/device/event-formats/nox.js'
import { createEventHub } from '../../src/device/event-hub.js'
import { type Conversation, SerialSession, type SessionHandle } from '../../src/device/serial-session.js'
import { USB_SOCKET_OPTION, usbOf } from '../../src/device/usb-choice.js'
import type { UsbIo, UsbTransport } from '../../src/io/usb-contract.js'
import { descriptor } from './descriptor.js'
import {
  BAUD,
  BB84_ORDER,
  type ChannelMap,
  DATA_ENDPOINT,
  INITIALISATION,
  parseChannelMap,
  PRODUCT_ID,
  READ_BYTES,
  START,
  STEP_MS,
  STOP,
  VENDOR_ID,
} from './protocol.js'

const WRITE_MS = 2_000
const EMPTY_MS = 100
/** What may lie in the tagger's buffer from before; beyond that it is still running. */
const MOST_STALE_BYTES = 4 * 1_048_576
/** Reads kept in flight, so that the tagger never waits for us. */
const TRANSFERS = 4
const LEAVE_MS = 1_500

const optionsSchema = z
  .strictObject({
    'usb-serial': z.string().min(1).optional(),
    [USB_SOCKET_OPTION]: z.string().min(1).optional(),
    channels: z
      .string()
      .default('0123')
      .transform((text, context): ChannelMap => {
        const map = parseChannelMap(text)
        if (map === undefined) context.addIssue('must be an order of 0123: the states of channels 0 to 3')
        return map ?? BB84_ORDER
      }),
    'silent-after-ms': wholeNumber(100, 86_400_000).prefault('10000'),
    remedies: onOff.prefault('on'),
    'step-ms': wholeNumber(0, 10_000).prefault(String(STEP_MS)),
    'stable-folder': z.string().min(1).optional(),
  })
  .transform((options) => ({
    usbSerial: options['usb-serial'],
    channels: options.channels,
    silentAfterMs: options['silent-after-ms'],
    remedies: options.remedies,
    stepMs: options['step-ms'],
    stableFolder: options['stable-folder'],
  }))

type NoxOptions = z.output<typeof optionsSchema>

interface Counters {
  records: number
  detections: number
  configurations: number
  outOfOrder: number
  wraps: number
  slips: number
  invalid: number
}

/** One opening of the tagger: its serial line and, inside it, its USB side. */
class NoxConversation implements Conversation, TagSink {
  readonly #reader = new NoxReader()
  #usb: UsbTransport | undefined
  #running = false

  constructor(
    private readonly handle: SessionHandle,
    private readonly context: DriverContext,
    private readonly usbIo: UsbIo,
    private readonly options: NoxOptions,
    private readonly counters: Counters,
    private readonly emit: (event: DeviceEvent) => void,
  ) {}

  /** The tagger's answers are not known; upstream's program never could read any. */
  onData(): void {}

  end(): void {
    this.#countReader()
    void this.#usb?.close()
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.context
    for (const byte of INITIALISATION) {
      await this.handle.transport.write(byte, WRITE_MS, signal)
      await sleep(clock, this.options.stepMs, signal)
    }
    const usb = await this.#openUsb(signal)
    this.#usb = usb
    const closed = new Promise<never>((_, reject) => {
      usb.onClose((reason) => {
        const message = reason.cause === 'closed' ? `${usb.name} was closed` : reason.message
        reject(new GatewayError('E_DEVICE_IO', message))
      })
    })
    closed.catch(() => {})
    await this.#empty(usb, signal)
    usb.stream(DATA_ENDPOINT, READ_BYTES, TRANSFERS, (chunk) => this.#onRecords(chunk))
    await this.handle.transport.write(START, WRITE_MS, signal)
    this.#running = true
    this.handle.identified(`NOX time tagger (${usb.name})`)
    await closed
  }

  /** Stops the tagger, so that it does not fill its buffer for nobody. A new start needs the whole initialisation. */
  async leave(): Promise<void> {
    if (this.#running) await this.handle.transport.write(STOP, LEAVE_MS)
    await this.#usb?.close()
  }

  tags(batch: Parameters<TagSink['tags']>[0]): void {
    const { channels } = this.options
    const { timesPs, patterns } = toPsTags(batch, this.#reader.unit, {
      patternOf: (channel) => 1 << (channels[channel] ?? 0),
    })
    this.handle.alive()
    this.emit({ type: 'tags', timesPs, patterns })
  }

  gap(reason: string): void {
    this.emit({ type: 'gap', reason })
  }

  async #openUsb(signal: AbortSignal): Promise<UsbTransport> {
    const { usbSerial } = this.options
    return this.usbIo.open(
      { vendorId: VENDOR_ID, productId: PRODUCT_ID, ...(usbSerial === undefined ? {} : { serialNumber: usbSerial }) },
      {},
      signal,
    )
  }

  /** Reads away what the tagger still holds from before. */
  async #empty(usb: UsbTransport, signal: AbortSignal): Promise<void> {
    for (let stale = 0; ;) {
      const bytes = await usb.read(DATA_ENDPOINT, READ_BYTES, EMPTY_MS, signal)
      if (bytes.length === 0) return
      stale += bytes.length
      if (stale > MOST_STALE_BYTES) {
        throw new GatewayError('E_DEVICE_PROTOCOL', `${usb.name} goes on sending although it was stopped`)
      }
    }
  }

  #onRecords(chunk: Uint8Array): void {
    this.#reader.push(chunk, this)
    this.#countReader()
    if (this.#reader.tally.records === 0) this.handle.doubt('bytes come that are no records of a NOX tagger')
    else this.handle.doubt(undefined)
  }

  /** Adds what the reader counted since the last time. */
  #counted = { records: 0, events: 0, dummies: 0, outOfOrder: 0, wraps: 0, slips: 0, invalid: 0 }

  #countReader(): void {
    const { records, events, dummies, outOfOrder, wraps, slips, invalid } = this.#reader.tally
    const before = this.#counted
    const { counters } = this
    counters.records += records - before.records
    counters.detections += events - before.events
    counters.configurations += dummies - before.dummies
    counters.outOfOrder += outOfOrder - before.outOfOrder
    counters.wraps += wraps - before.wraps
    counters.slips += slips - before.slips
    counters.invalid += invalid - before.invalid
    if (outOfOrder > before.outOfOrder) {
      this.emit({ type: 'discarded', reason: 'outOfOrder', count: outOfOrder - before.outOfOrder })
    }
    if (invalid > before.invalid) this.emit({ type: 'discarded', reason: 'invalid', count: invalid - before.invalid })
    this.#counted = { records, events, dummies, outOfOrder, wraps, slips, invalid }
  }
}

function createNoxDevice(context: DriverContext, usbIo: UsbIo): Device {
  const { device, io, clock, random, log } = context
  const options = parseOptions('driver nox', optionsSchema, context.options)
  const hub = createEventHub(log)
  const counters: Counters = {
    records: 0,
    detections: 0,
    configurations: 0,
    outOfOrder: 0,
    wraps: 0,
    slips: 0,
    invalid: 0,
  }
  let conversation: NoxConversation | undefined
  const session = new SerialSession({
    path: device,
    settings: { baudRate: BAUD },
    io,
    clock,
    random,
    log,
    begin(handle) {
      conversation = new NoxConversation(handle, context, usbIo, options, counters, (event) => hub.emit(event))
      return conversation
    },
    onReopened: (reason) => hub.emit({ type: 'gap', reason }),
    silentAfterMs: options.silentAfterMs + INITIALISATION.length * options.stepMs,
    wakeOn: (listener) => usbIo.watch(listener),
    ...(options.stableFolder === undefined ? {} : { stableFolder: options.stableFolder }),
    ...(options.remedies ? {} : { remedyPauseMs: undefined }),
  })
  return {
    state: session.state,
    facts: () => ({ ...session.facts(), ...counters }),
    subscribe: (listener) => hub.subscribe(listener),
    async run(signal) {
      const ending = new AbortController()
      const leave = (): void => {
        withDeadline(clock, LEAVE_MS, 'stopping the tagger', async () => conversation?.leave())
          .catch((error: unknown) => log.warn({ reason: messageOf(error) }, 'the tagger was left running'))
          .finally(() => ending.abort())
      }
      if (signal.aborted) ending.abort()
      else signal.addEventListener('abort', leave, { once: true })
      try {
        await session.run(ending.signal)
      } finally {
        signal.removeEventListener('abort', leave)
      }
    },
  }
}

/** The driver on another USB than this machine's. */
export function createNoxDriver(usbIoFor: (context: DriverContext) => UsbIo): Driver {
  return { descriptor, create: (context) => createNoxDevice(context, usbIoFor(context)) }
}

export const driver: Driver = createNoxDriver(usbOf)
