/** The tagger: control bytes on a serial line, records on a USB endpoint. */
import { type Clock, sleep, type Timer } from '../../src/base/clock.js'
import { z } from 'zod'
import { GatewayError } from '../../src/base/errors.js'
import type { Random } from '../../src/base/random.js'
import { CONTROL_LINE_FAULTS, ControlLine } from '../../src/device/control-line.js'
import { decimalNumber, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type { DeviceEmulator, EmulatorFactory, FaultDescription } from '../../src/device/emulator-contract.js'
import { noxConfiguration, noxDetection } from '../../src/device/event-formats/nox.js'
import { faultNumber } from '../../src/device/faulty-line.js'
import { noSuchFault } from '../../src/device/faulty-usb.js'
import type { DeviceLine } from '../../src/io/contract.js'
import type { MemoryUsb, UsbPlug } from '../../src/io/usb-memory.js'
import { BAUD, DATA_ENDPOINT, INITIALISATION, PRODUCT_ID, START, STOP, VENDOR_ID } from './protocol.js'

export const NOX_FAULTS: readonly FaultDescription[] = [
  { name: 'drop', usage: '[records=1]', meaning: 'the next records are not sent' },
  { name: 'delay', usage: '[ms=1000]', meaning: 'nothing is sent for so long, then all of it at once' },
  { name: 'corrupt', usage: '[records=1]', meaning: 'the first byte of each of the next records is changed' },
  { name: 'split', usage: '[bytes=3]', meaning: 'so many bytes are lost in the middle of the stream' },
  { name: 'repeat', usage: '[records=1]', meaning: 'the next records come twice' },
  { name: 'reorder', usage: '', meaning: 'the next two records change places' },
  { name: 'overflow', usage: '[records=20000]', meaning: 'a burst at once: what exceeds 8192 records is lost' },
  { name: 'unplug', usage: '[ms=2000]', meaning: 'the USB cable is pulled in the middle of a record and put back' },
  { name: 'plug', usage: '', meaning: 'the USB cable is put back' },
  { name: 'hang', usage: '[ms=5000]', meaning: 'no records; 0: until resume' },
  { name: 'resume', usage: '', meaning: 'ends hang' },
  ...CONTROL_LINE_FAULTS,
]

const COUNTS_PER_MS = 130_000 * 4_096
const TICK_MS = 10
/** How much a real one holds is not known. */
const BUFFER_RECORDS = 8_192
const COUNTS = {
  ...{ starts: 0, records: 0, overflowRecords: 0 },
  ...{ withheld: 0, corrupted: 0, dropped: 0, delayed: 0, split: 0, repeated: 0, unplugs: 0 },
}

export interface NoxEmulatorOptions {
  line: DeviceLine
  usb: MemoryUsb
  clock: Clock
  random: Random
  /** Detections a second. */
  rate: number
  usbSerial?: string
  /** Counter at the start, in 1/4096 periods: near 2^48 it wraps soon. */
  firstCount?: number
}

export class NoxEmulator implements DeviceEmulator {
  readonly faults = NOX_FAULTS
  readonly plug: UsbPlug
  readonly #control: ControlLine
  #ready = 0
  #running = false
  #hung = false
  #count: number
  #owed = 0
  #timers = new Set<Timer>()
  readonly #left = { drop: 0, corrupt: 0, repeat: 0 }
  #splitBytes = 0
  #held: Uint8Array | 'asked' | undefined
  #delayed: Uint8Array[] | undefined
  readonly #counts = { ...COUNTS }

  constructor(private readonly options: NoxEmulatorOptions) {
    this.#count = options.firstCount ?? 0
    this.#control = new ControlLine(options.line, options.clock, BAUD)
    this.plug = options.usb.attach({
      vendorId: VENDOR_ID,
      productId: PRODUCT_ID,
      endpoints: { [DATA_ENDPOINT]: 512 },
      ...(options.usbSerial === undefined ? {} : { serialNumber: options.usbSerial }),
    })
  }

  facts(): Record<string, number | boolean> {
    const { plugged, lost } = this.plug
    return { ...this.#counts, lostBytes: lost, running: this.#running, plugged, ...this.#control.facts() }
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.options
    const unhear = this.#control.onHeard((chunk) => this.#hear(chunk))
    let lastMs = clock.monotonicMs()
    try {
      while (!signal.aborted) {
        await sleep(clock, TICK_MS, signal)
        const nowMs = clock.monotonicMs()
        this.#advance(nowMs - lastMs)
        lastMs = nowMs
      }
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      unhear()
      this.#control.stop()
      for (const timer of this.#timers) timer.cancel()
    }
  }

  #hear(chunk: Uint8Array): void {
    for (const byte of chunk) {
      if (byte === STOP[0]) this.#running = false
      if (byte === START[0] && this.#ready >= INITIALISATION.length) {
        this.#running = true
        this.#counts.starts += 1
        this.plug.send(DATA_ENDPOINT, noxConfiguration())
      } else if (byte === INITIALISATION[this.#ready]?.[0]) {
        this.#ready += 1
      } else {
        // After a stop everything has to be said again.
        this.#ready = byte === INITIALISATION[0]?.[0] ? 1 : 0
      }
    }
  }

  #advance(elapsedMs: number): void {
    if (this.#running && this.#hung) this.#counts.withheld += 1
    if (!this.#running || this.#hung) return
    this.#owed += (this.options.rate * elapsedMs) / 1_000
    const due = Math.floor(this.#owed)
    this.#owed -= due
    const step = due === 0 ? 0 : (elapsedMs * COUNTS_PER_MS) / due
    const records: Uint8Array[] = []
    for (let i = 0; i < due; i += 1) {
      this.#count = (this.#count + Math.max(1, Math.floor(step))) % 2 ** 48
      const [channel = 0] = this.options.random.bytes(1)
      records.push(...this.#through(noxDetection(this.#count, channel & 3)))
    }
    if (due === 0) this.#count = (this.#count + Math.floor(elapsedMs * COUNTS_PER_MS)) % 2 ** 48
    if (records.length > 0) this.#send(Buffer.concat(records))
  }

  /** One record through the faults that are due. */
  #through(record: Uint8Array): Uint8Array[] {
    this.#counts.records += 1
    if (this.#left.drop > 0) {
      this.#left.drop -= 1
      this.#counts.dropped += 1
      return []
    }
    if (this.#left.corrupt > 0) {
      this.#left.corrupt -= 1
      this.#counts.corrupted += 1
      record[0] = 0x77
    }
    if (this.#held === 'asked') {
      this.#held = record
      return []
    }
    const out = [record]
    if (this.#held !== undefined) {
      out.push(this.#held)
      this.#held = undefined
    }
    if (this.#left.repeat > 0) {
      this.#left.repeat -= 1
      this.#counts.repeated += 1
      out.push(record)
    }
    return out
  }

  #send(bytes: Uint8Array): void {
    const kept = bytes.subarray(Math.min(this.#splitBytes, bytes.length))
    if (kept.length < bytes.length) this.#counts.split += 1
    this.#splitBytes = 0
    if (this.#delayed !== undefined) {
      this.#counts.delayed += 1
      this.#delayed.push(Uint8Array.from(kept))
    } else this.plug.send(DATA_ENDPOINT, kept)
  }

  #after(delayMs: number, fn: () => void): void {
    const timer = this.options.clock.after(delayMs, () => {
      this.#timers.delete(timer)
      fn()
    })
    this.#timers.add(timer)
  }

  async fault(name: string, args: readonly string[]): Promise<string> {
    const number = (fallback: number): number => faultNumber(name, args[0], fallback)
    switch (name) {
      case 'drop':
      case 'corrupt':
      case 'repeat':
        this.#left[name] += number(1)
        return `${name}: the next ${this.#left[name]} records`
      case 'reorder':
        this.#held = 'asked'
        return 'the next two records change places'
      case 'split':
        this.#splitBytes = number(3)
        return `${this.#splitBytes} bytes are lost`
      case 'delay': {
        const delayed: Uint8Array[] = []
        this.#delayed = delayed
        this.#after(number(1_000), () => {
          this.#delayed = undefined
          this.plug.send(DATA_ENDPOINT, Buffer.concat(delayed))
        })
        return `nothing for ${number(1_000)} ms`
      }
      case 'overflow':
        for (let i = 0; i < number(20_000); i += 1) {
          this.#count += 1
          if (i < BUFFER_RECORDS) this.plug.send(DATA_ENDPOINT, noxDetection(this.#count, 0))
          else this.#counts.overflowRecords += 1
        }
        return `${this.#counts.overflowRecords} records are lost`
      case 'unplug':
        this.plug.send(DATA_ENDPOINT, noxDetection(this.#count, 0).subarray(0, 5))
        this.plug.unplug()
        this.#counts.unplugs += 1
        this.#running = false
        this.#ready = 0
        if (number(2_000) > 0) this.#after(number(2_000), () => this.plug.plug())
        return 'unplugged'
      case 'plug':
        this.plug.plug()
        return 'plugged in'
      case 'hang':
        this.#hung = true
        if (number(5_000) > 0) this.#after(number(5_000), () => (this.#hung = false))
        return 'silent'
      case 'resume':
        this.#hung = false
        return 'goes on'
      default: {
        const done = await this.#control.fault(name, args)
        if (done !== undefined) return done
        throw noSuchFault('NOX', name, NOX_FAULTS)
      }
    }
  }
}

const optionsSchema = z.strictObject({
  rate: decimalNumber(0, 1_000_000).prefault('20000'),
  'usb-serial': z.string().min(1).optional(),
  'first-count': wholeNumber(0, 2 ** 48 - 1).prefault('0'),
})

export const emulator: EmulatorFactory = {
  baudRate: BAUD,
  cables: 'serial and usb',
  side: 'bob',
  options: {
    rate: 'detections a second; default 20000',
    'usb-serial': 'serial number of its USB side; default none',
    'first-count': 'its counter at the start, in 1/4096 periods: near 2^48 it wraps soon; default 0',
  },
  create({ line, usb, clock, random, options }) {
    if (usb === undefined) throw new GatewayError('E_INTERNAL', 'the NOX emulator needs a USB cable')
    const {
      rate,
      'usb-serial': usbSerial,
      'first-count': firstCount,
    } = parseOptions('emulator nox', optionsSchema, options, 'E_USAGE')
    return new NoxEmulator({
      ...{ line, usb, clock, random, rate, firstCount },
      ...(usbSerial === undefined ? {} : { usbSerial }),
    })
  },
}
