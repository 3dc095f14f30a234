/** The emitter for tests: settings on a serial line, states on an emulated USB endpoint of the same process. */
import { GatewayError } from '../../src/base/errors.js'
import type { FaultDescription } from '../../src/device/emulator-contract.js'
import type { DeviceLine } from '../../src/io/contract.js'
import type { MemoryUsb, UsbPlug } from '../../src/io/usb-memory.js'
import { BAUD, DATA_ENDPOINT, PRODUCT_ID, SETTINGS, VENDOR_ID } from './protocol.js'

export const EMITTER_FAULTS: readonly FaultDescription[] = [
  { name: 'unplug', usage: '', meaning: 'the USB cable is pulled' },
  { name: 'plug', usage: '', meaning: 'it is put back' },
]

export class LedEmulator {
  readonly plug: UsbPlug
  /** What has been heard on the serial line. */
  readonly control: number[] = []
  /** Line rates that the host had set while it spoke. */
  readonly rates: (number | undefined)[] = []
  #bytes = 0
  #early = 0
  readonly #waiting = new Set<() => void>()
  readonly #unhear: () => void

  constructor(
    private readonly line: DeviceLine,
    usb: MemoryUsb,
    serialNumber?: string,
  ) {
    this.plug = usb.attach({
      vendorId: VENDOR_ID,
      productId: PRODUCT_ID,
      endpoints: { [DATA_ENDPOINT]: 64 },
      ...(serialNumber === undefined ? {} : { serialNumber }),
      onBulkOut: (_endpoint, bytes) => {
        if (this.isSet) this.#bytes += bytes.length
        else this.#early += bytes.length
        for (const look of [...this.#waiting]) look()
      },
    })
    this.#unhear = line.onData((chunk) => {
      this.control.push(...chunk)
      void line.lineRate().then((rate) => this.rates.push(rate))
    })
  }

  /** The settings have arrived whole, at the right rate as far as it can be told. */
  get isSet(): boolean {
    return SETTINGS.every((byte, i) => this.control[this.control.length - SETTINGS.length + i] === byte)
  }

  facts(): Record<string, number | boolean> {
    return { bytes: this.#bytes, bytesBeforeSettings: this.#early, set: this.isSet, baud: BAUD }
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

  async fault(name: string): Promise<string> {
    if (name === 'unplug') this.plug.unplug()
    else if (name === 'plug') this.plug.plug()
    else throw new GatewayError('E_USAGE', `the emitter's emulator has no fault named ${name}`)
    return name
  }

  stop(): void {
    this.#unhear()
    void this.line.close()
  }
}
