/** A Quantis on an emulated USB cable, with random bytes of the system. */
import { z } from 'zod'
import { type Clock, sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import type { Random } from '../../src/base/random.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type { DeviceEmulator, EmulatorFactory } from '../../src/device/emulator-contract.js'
import { faultNumber } from '../../src/device/faulty-line.js'
import { FaultyUsb, noSuchFault, USB_FAULTS } from '../../src/device/faulty-usb.js'
import type { MemoryUsb, UsbPlug } from '../../src/io/usb-memory.js'
import { EmulatedBytes, SOURCE_FAULTS } from './emulated-bytes.js'
import { DATA_ENDPOINT, PRODUCT_ID, REQUESTS, VENDOR_ID } from './quantis.js'

const PACKET_BYTES = 512
/** What the unit holds for a host that does not read. */
const FIFO_BYTES = 8_192
const TICK_MS = 20

export class QuantisEmulator implements DeviceEmulator {
  readonly faults = [
    ...USB_FAULTS,
    ...SOURCE_FAULTS,
    { name: 'status', usage: '<n>', meaning: 'working modules that it reports; 0: none' },
  ]
  readonly plug: UsbPlug
  readonly #bytes: EmulatedBytes
  readonly #faulty: FaultyUsb
  #status = 1

  constructor(
    usb: MemoryUsb,
    private readonly clock: Clock,
    random: Random,
    private readonly bytesASecond = 500_000,
  ) {
    this.#bytes = new EmulatedBytes(random)
    this.#faulty = new FaultyUsb({ clock, random, plug: () => this.plug })
    this.plug = usb.attach(
      {
        vendorId: VENDOR_ID,
        productId: PRODUCT_ID,
        serialNumber: 'Q1',
        endpoints: { [DATA_ENDPOINT]: PACKET_BYTES },
        onControlIn: async ({ request }, length) =>
          (await this.#faulty.answers()) ? this.#answer(request, length) : undefined,
      },
      FIFO_BYTES,
    )
  }

  facts(): Record<string, number | boolean> {
    return { status: this.#status, ...this.#faulty.facts() }
  }

  async fault(name: string, args: readonly string[] = []): Promise<string> {
    if (name === 'status') {
      this.#status = faultNumber(name, args[0], 0) & 255
      return `reports ${this.#status}`
    }
    const done = this.#bytes.fault(name, args) ?? this.#faulty.fault(name, args)
    if (done !== undefined) return done
    throw noSuchFault('Quantis', name, this.faults)
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      for (let due = (this.bytesASecond * TICK_MS) / 1_000; due > 0; due -= PACKET_BYTES) {
        this.#faulty.send(DATA_ENDPOINT, this.#bytes.take(PACKET_BYTES))
      }
      await sleep(this.clock, TICK_MS, signal).catch(() => {})
    }
    this.#faulty.stop()
  }

  #answer(request: number, length: number): Uint8Array {
    const answer = new Uint8Array(length)
    const value = request === REQUESTS.status ? this.#status : request === REQUESTS.rate ? 4_000 : 0x0201
    answer[0] = value & 255
    if (length > 1) answer[1] = value >> 8
    return answer
  }
}

const optionsSchema = z.strictObject({ rate: wholeNumber(1, 10_000_000).prefault('500000') })

export const quantisEmulator: EmulatorFactory = {
  baudRate: 9_600,
  cables: 'usb',
  options: { rate: 'bytes a second; default 500000' },
  create({ usb, clock, random, options }) {
    if (usb === undefined) throw new GatewayError('E_INTERNAL', 'the Quantis emulator needs a USB cable')
    const { rate } = parseOptions('emulator quantis', optionsSchema, options, 'E_USAGE')
    return new QuantisEmulator(usb, clock, random, rate)
  },
}
