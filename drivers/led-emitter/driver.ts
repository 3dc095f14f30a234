import { z } from 'zod'
import { sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { wipe } from '../../src/base/wipe.js'
import type { Device, DeviceEvent, Driver, DriverContext } from '../../src/device/contract.js'
import { createRandomDevice, namesRandomSource } from '../../src/device/catalogue-random.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { createEventHub } from '../../src/device/event-hub.js'
import type { RandomDevice } from '../../src/device/random-source.js'
import { type Conversation, SerialSession, type SessionHandle } from '../../src/device/serial-session.js'
import { USB_SOCKET_OPTION, usbOf } from '../../src/device/usb-choice.js'
import type { UsbIo, UsbTransport } from '../../src/io/usb-contract.js'
import { descriptor } from './descriptor.js'
import {
  BAUD,
  DATA_ENDPOINT,
  DEFAULT_BURST_QUBITS,
  PRODUCT_ID,
  QUBITS_A_BYTE,
  qubitsOf,
  type QubitOrder,
  SETTINGS,
  VENDOR_ID,
} from './protocol.js'

const WRITE_MS = 2_000
/** The emitter does not say when it is set; six bytes take 6 ms on the line. */
const SETTLE_MS = 100
const RANDOM_MS = 10_000
const SILENT_AFTER_MS = 30_000

const optionsSchema = z
  .strictObject({
    'usb-serial': z.string().min(1).optional(),
    [USB_SOCKET_OPTION]: z.string().min(1).optional(),
    random: z.string().default('os').refine(namesRandomSource, 'names no random source'),
    'burst-qubits': wholeNumber(4, 1_048_576)
      .refine((qubits) => qubits % QUBITS_A_BYTE === 0, 'must be a multiple of 4')
      .prefault(String(DEFAULT_BURST_QUBITS)),
    'burst-interval-ms': wholeNumber(1, 60_000).prefault('100'),
    'first-qubit': z.enum(['high', 'low']).default('high'),
    'stable-folder': z.string().min(1).optional(),
  })
  .transform((options) => ({
    usbSerial: options['usb-serial'],
    random: options.random,
    burstQubits: options['burst-qubits'],
    burstIntervalMs: options['burst-interval-ms'],
    firstQubit: options['first-qubit'],
    stableFolder: options['stable-folder'],
  }))

type EmitterOptions = z.output<typeof optionsSchema>

/** States that have left the emitter. The listener owns `qubits` (0 to 3 each) and wipes them. */
export interface Burst {
  readonly number: bigint
  readonly qubits: Uint8Array
}

export interface EmitterDevice extends Device {
  subscribeBursts(listener: (burst: Burst) => void): () => void
}

interface Shared {
  bursts: bigint
  source: RandomDevice | undefined
  emit: (event: DeviceEvent) => void
  sent: (bytes: Uint8Array) => void
}

/** One opening of the emitter: its serial line and, inside it, its USB side. */
class EmitterConversation implements Conversation {
  #usb: UsbTransport | undefined

  constructor(
    private readonly handle: SessionHandle,
    private readonly context: DriverContext,
    private readonly usbIo: UsbIo,
    private readonly options: EmitterOptions,
    private readonly shared: Shared,
  ) {}

  /** The emitter never answers. */
  onData(): void {}

  end(): void {
    void this.#usb?.close()
  }

  async run(signal: AbortSignal): Promise<void> {
    const { usbSerial, burstIntervalMs } = this.options
    const { clock } = this.context
    const usb = await this.usbIo.open(
      { vendorId: VENDOR_ID, productId: PRODUCT_ID, ...(usbSerial === undefined ? {} : { serialNumber: usbSerial }) },
      {},
      signal,
    )
    this.#usb = usb
    // Throws where this is the tagger, which has the same ids but no such endpoint.
    usb.packetBytes(DATA_ENDPOINT)
    await this.handle.transport.write(SETTINGS, WRITE_MS, signal)
    await sleep(clock, SETTLE_MS, signal)
    this.handle.identified(`LED emitter (${usb.name})`)
    let nextMs = clock.monotonicMs()
    while (!signal.aborted) {
      await this.#burst(usb, signal)
      nextMs = Math.max(nextMs + burstIntervalMs, clock.monotonicMs())
      await sleep(clock, nextMs - clock.monotonicMs(), signal)
    }
  }

  async #burst(usb: UsbTransport, signal: AbortSignal): Promise<void> {
    const { source, sent, emit } = this.shared
    const { burstQubits } = this.options
    if (source === undefined) throw new GatewayError('E_RANDOM_SOURCE', 'the random source is not running')
    const bytes = await source.source.read(burstQubits / QUBITS_A_BYTE, RANDOM_MS, signal)
    try {
      await usb.write(DATA_ENDPOINT, bytes, WRITE_MS, signal)
      this.shared.bursts += 1n
      this.handle.alive()
      sent(bytes)
      emit({ type: 'figure', path: ['TransmitterGroup', 'Qubits Transmitted'], value: burstQubits, unit: 'count' })
    } finally {
      wipe(bytes)
    }
  }
}

function createEmitter(context: DriverContext, usbIo: UsbIo): EmitterDevice {
  const { device, io, clock, random, log } = context
  const options = parseOptions('driver led-emitter', optionsSchema, context.options)
  const order: QubitOrder = options.firstQubit
  const hub = createEventHub(log)
  const listeners = new Set<(burst: Burst) => void>()
  const shared: Shared = {
    bursts: 0n,
    source: undefined,
    emit: (event) => hub.emit(event),
    sent(bytes) {
      for (const listener of [...listeners]) listener({ number: shared.bursts, qubits: qubitsOf(bytes, order) })
    },
  }
  const session = new SerialSession({
    path: device,
    // Software flow control stays off: it would eat a byte of the settings.
    settings: { baudRate: BAUD, softwareFlowControl: false },
    io,
    clock,
    random,
    log,
    begin: (handle) => new EmitterConversation(handle, context, usbIo, options, shared),
    silentAfterMs: SILENT_AFTER_MS,
    wakeOn: (listener) => usbIo.watch(listener),
    ...(options.stableFolder === undefined ? {} : { stableFolder: options.stableFolder }),
  })
  return {
    state: session.state,
    facts: () => ({
      ...session.facts(),
      bursts: shared.bursts.toString(),
      burstQubits: options.burstQubits,
      random: options.random,
      ...(shared.source === undefined ? {} : { randomState: shared.source.state.value.state }),
    }),
    subscribe: (listener) => hub.subscribe(listener),
    subscribeBursts(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    async run(signal) {
      const source = await createRandomDevice(options.random, context)
      shared.source = source
      await Promise.all([source.run(signal), session.run(signal)])
    },
  }
}

interface EmitterDriver extends Driver {
  create(context: DriverContext): EmitterDevice
}

/** The driver on another USB than this machine's. */
export function createEmitterDriver(usbIoFor: (context: DriverContext) => UsbIo): EmitterDriver {
  return { descriptor, create: (context) => createEmitter(context, usbIoFor(context)) }
}

export const driver = createEmitterDriver(usbOf)
