/** The emitter: settings on a serial line, states on a USB endpoint. */
import { z } from 'zod'
import type { Clock } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import type { Random } from '../../src/base/random.js'
import { CONTROL_LINE_FAULTS, ControlLine } from '../../src/device/control-line.js'
import { parseOptions } from '../../src/device/driver-options.js'
import type { DeviceEmulator, EmulatorFactory, FaultDescription } from '../../src/device/emulator-contract.js'
import { FaultyUsb, noSuchFault, USB_FAULTS } from '../../src/device/faulty-usb.js'
import type { DeviceLine } from '../../src/io/contract.js'
import type { MemoryUsb, UsbPlug } from '../../src/io/usb-memory.js'
import { BAUD, DATA_ENDPOINT, PRODUCT_ID, SETTINGS, VENDOR_ID } from './protocol.js'

export const EMITTER_FAULTS: readonly FaultDescription[] = [...USB_FAULTS, ...CONTROL_LINE_FAULTS]

export interface LedEmulatorOptions {
  line: DeviceLine
  usb: MemoryUsb
  clock: Clock
  random: Random
  usbSerial?: string
}

export class LedEmulator implements DeviceEmulator {
  readonly faults = EMITTER_FAULTS
  readonly plug: UsbPlug
  /** What has been heard on the serial line. */
  readonly control: number[] = []
  readonly #faulty: FaultyUsb
  readonly #line: ControlLine
  #bytes = 0
  #early = 0
  #settings = 0
  readonly #waiting = new Set<() => void>()
  readonly #unhear: () => void

  constructor(options: LedEmulatorOptions) {
    const { line, usb, clock, random, usbSerial } = options
    this.#faulty = new FaultyUsb({ clock, random, plug: () => this.plug })
    this.#line = new ControlLine(line, clock, BAUD)
    this.plug = usb.attach({
      vendorId: VENDOR_ID,
      productId: PRODUCT_ID,
      endpoints: { [DATA_ENDPOINT]: 64 },
      ...(usbSerial === undefined ? {} : { serialNumber: usbSerial }),
      onBulkOut: async (_endpoint, bytes) => {
        const taken = await this.#faulty.take(bytes)
        await this.#line.settled()
        this.#take(taken ?? new Uint8Array(0))
      },
    })
    this.#unhear = this.#line.onHeard((chunk) => {
      this.control.push(...chunk)
      if (this.isSet) this.#settings += 1
    })
  }

  #take(bytes: Uint8Array): void {
    if (this.isSet) this.#bytes += bytes.length
    else this.#early += bytes.length
    for (const look of [...this.#waiting]) look()
  }

  /** The settings have arrived whole, at the right rate as far as it can be told. */
  get isSet(): boolean {
    return SETTINGS.every((byte, i) => this.control[this.control.length - SETTINGS.length + i] === byte)
  }

  facts(): Record<string, number | boolean> {
    return {
      bytes: this.#bytes,
      bytesBeforeSettings: this.#early,
      set: this.isSet,
      settings: this.#settings,
      ...this.#faulty.facts(),
      ...this.#line.facts(),
    }
  }

  async run(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      if (signal.aborted) return resolve()
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
    this.#unhear()
    this.#line.stop()
    this.#faulty.stop()
  }

  /** Resolves once so many bytes of states have come. */
  untilBytes(count: number): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.#bytes < count) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }

  async fault(name: string, args: readonly string[] = []): Promise<string> {
    const done = this.#faulty.fault(name, args) ?? (await this.#line.fault(name, args))
    if (done !== undefined) return done
    throw noSuchFault('LED emitter', name, EMITTER_FAULTS)
  }
}

const optionsSchema = z.strictObject({ 'usb-serial': z.string().min(1).optional() })

export const emulator: EmulatorFactory = {
  baudRate: BAUD,
  cables: 'serial and usb',
  options: { 'usb-serial': 'serial number of its USB side; default none' },
  create({ line, usb, clock, random, options }) {
    if (usb === undefined) throw new GatewayError('E_INTERNAL', 'the emitter emulator needs a USB cable')
    const { 'usb-serial': usbSerial } = parseOptions('emulator led-emitter', optionsSchema, options, 'E_USAGE')
    return new LedEmulator({ line, usb, clock, random, ...(usbSerial === undefined ? {} : { usbSerial }) })
  },
}
