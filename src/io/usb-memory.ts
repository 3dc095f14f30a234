import type { Unsubscribe } from '../base/cell.js'
import { type Clock, type Timer, withDeadline } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import type { CloseReason } from './contract.js'
import {
  describeSelector,
  type UsbControl,
  type UsbDeviceInfo,
  type UsbIo,
  type UsbSelector,
  type UsbTransport,
} from './usb-contract.js'

/** What an emulated device does with what the host sends. */
export interface UsbFunction {
  readonly vendorId: number
  readonly productId: number
  readonly serialNumber?: string
  /** Packet sizes by endpoint address; those from 0x80 on lead towards the host. */
  readonly endpoints: Readonly<Record<number, number>>
  /** May wait: the device does not take the bytes yet. */
  onBulkOut?(endpoint: number, bytes: Uint8Array): void | Promise<void>
  /** Undefined: the device refuses the request. It may wait. */
  onControlIn?(control: UsbControl, length: number): Uint8Array | undefined | Promise<Uint8Array | undefined>
  onControlOut?(control: UsbControl, bytes: Uint8Array): void
  /** The host opened it (true) or let it go. */
  onOpen?(open: boolean): void
}

/** The device's end of an emulated USB cable. */
export interface UsbPlug {
  readonly plugged: boolean
  /** Bytes that found no room because the host did not read. */
  readonly lost: number
  /** Puts bytes into the endpoint's buffer. Resolves never later than now: what finds no room is lost. */
  send(endpoint: number, bytes: Uint8Array): void
  unplug(): void
  plug(): void
}

/** USB inside one process, for emulators. */
export interface MemoryUsb {
  readonly io: UsbIo
  attach(device: UsbFunction, fifoBytes?: number): UsbPlug
}

interface Waiting {
  length: number
  deliver: (bytes: Uint8Array) => void
}

class MemoryEndpoint {
  readonly #fifo: Uint8Array[] = []
  #held = 0
  lost = 0
  reader: Waiting | undefined
  stream: ((chunk: Uint8Array) => void) | undefined
  streamBytes = 0

  constructor(private readonly fifoBytes: number) {}

  send(bytes: Uint8Array): void {
    const room = this.stream !== undefined ? bytes.length : Math.max(0, this.fifoBytes - this.#held)
    const kept = bytes.subarray(0, room)
    this.lost += bytes.length - kept.length
    if (kept.length > 0) {
      this.#fifo.push(Uint8Array.from(kept))
      this.#held += kept.length
    }
    this.pump()
  }

  /** At most `length` bytes of what is there. */
  take(length: number): Uint8Array {
    const taken = new Uint8Array(Math.min(length, this.#held))
    let at = 0
    while (at < taken.length) {
      const head = this.#fifo[0]
      if (head === undefined) break
      const part = head.subarray(0, taken.length - at)
      taken.set(part, at)
      at += part.length
      if (part.length === head.length) this.#fifo.shift()
      else this.#fifo[0] = head.subarray(part.length)
    }
    this.#held -= taken.length
    return taken
  }

  pump(): void {
    const { reader, stream } = this
    if (reader !== undefined && this.#held > 0) {
      this.reader = undefined
      reader.deliver(this.take(reader.length))
    }
    while (stream !== undefined && this.#held > 0 && this.stream === stream) stream(this.take(this.streamBytes))
  }
}

class MemoryUsbDevice implements UsbPlug {
  readonly endpoints = new Map<number, MemoryEndpoint>()
  host: MemoryTransport | undefined
  plugged = true
  address = 1

  constructor(
    readonly device: UsbFunction,
    fifoBytes: number,
    private readonly changed: () => void,
  ) {
    for (const address of Object.keys(device.endpoints))
      this.endpoints.set(Number(address), new MemoryEndpoint(fifoBytes))
  }

  get lost(): number {
    let lost = 0
    for (const endpoint of this.endpoints.values()) lost += endpoint.lost
    return lost
  }

  get info(): UsbDeviceInfo {
    const { vendorId, productId, serialNumber } = this.device
    return { vendorId, productId, serialNumber, place: `000/${String(this.address).padStart(3, '0')}` }
  }

  send(endpoint: number, bytes: Uint8Array): void {
    if (this.plugged) this.endpoints.get(endpoint)?.send(bytes)
  }

  unplug(): void {
    if (!this.plugged) return
    this.plugged = false
    this.host?.end({ cause: 'unplugged', message: 'it was unplugged' })
    for (const endpoint of this.endpoints.values()) endpoint.take(Infinity)
    this.changed()
  }

  plug(): void {
    if (this.plugged) return
    this.plugged = true
    this.address += 1
    this.changed()
  }
}

class MemoryTransport implements UsbTransport {
  readonly #listeners = new Set<(reason: CloseReason) => void>()
  readonly #fail = new Set<(error: Error) => void>()
  #ended: CloseReason | undefined

  constructor(
    readonly name: string,
    private readonly owner: MemoryUsbDevice,
    private readonly clock: Clock,
  ) {
    owner.host = this
    owner.device.onOpen?.(true)
  }

  onClose(listener: (reason: CloseReason) => void): Unsubscribe {
    if (this.#ended !== undefined) {
      listener(this.#ended)
      return () => {}
    }
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  packetBytes(endpoint: number): number {
    const bytes = this.owner.device.endpoints[endpoint]
    if (bytes === undefined) throw this.#noEndpoint(endpoint)
    return bytes
  }

  read(endpoint: number, length: number, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#closed())
      if (signal?.aborted === true) return reject(this.#stopped())
      const from = this.#endpoint(endpoint)
      const settle = (finish: () => void): void => {
        timer.cancel()
        this.#fail.delete(fail)
        signal?.removeEventListener('abort', stop)
        if (from.reader === waiting) from.reader = undefined
        finish()
      }
      const stop = (): void => settle(() => reject(this.#stopped()))
      const fail = (error: Error): void => settle(() => reject(error))
      const waiting: Waiting = { length, deliver: (bytes) => settle(() => resolve(bytes)) }
      const timer: Timer = this.clock.after(timeoutMs, () => settle(() => resolve(new Uint8Array(0))))
      this.#fail.add(fail)
      signal?.addEventListener('abort', stop, { once: true })
      from.reader = waiting
      from.pump()
    })
  }

  stream(
    endpoint: number,
    length: number,
    _transfers: number,
    onData: (chunk: Uint8Array) => void,
  ): () => Promise<void> {
    const from = this.#endpoint(endpoint)
    from.stream = onData
    from.streamBytes = length
    from.pump()
    return async () => {
      if (from.stream === onData) from.stream = undefined
    }
  }

  async write(endpoint: number, bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    this.packetBytes(endpoint)
    const taken = async (): Promise<void> => this.owner.device.onBulkOut?.(endpoint, Uint8Array.from(bytes))
    await this.#whileOpen(`${this.name}: writing`, taken, timeoutMs, signal)
  }

  async controlIn(control: UsbControl, length: number, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array> {
    const answered = async (): Promise<Uint8Array | undefined> => this.owner.device.onControlIn?.(control, length)
    const answer = await this.#whileOpen(`${this.name}: request ${control.request}`, answered, timeoutMs, signal)
    if (answer === undefined) throw new GatewayError('E_DEVICE_IO', `${this.name}: request ${control.request}: stalled`)
    return answer.subarray(0, length)
  }

  async controlOut(control: UsbControl, bytes: Uint8Array): Promise<void> {
    if (this.#ended !== undefined) throw this.#closed()
    this.owner.device.onControlOut?.(control, Uint8Array.from(bytes))
  }

  async close(): Promise<void> {
    this.end({ cause: 'closed' })
  }

  end(reason: CloseReason): void {
    if (this.#ended !== undefined) return
    this.#ended = reason
    this.owner.host = undefined
    for (const endpoint of this.owner.endpoints.values()) endpoint.stream = undefined
    for (const fail of [...this.#fail]) fail(this.#closed())
    this.owner.device.onOpen?.(false)
    for (const listener of [...this.#listeners]) listener(reason)
    this.#listeners.clear()
  }

  /** Rejects as soon as the device is gone, whatever it still waits for. */
  async #whileOpen<T>(what: string, work: () => Promise<T>, timeoutMs: number, signal?: AbortSignal): Promise<T> {
    if (this.#ended !== undefined) throw this.#closed()
    let fail = (_error: Error): void => {}
    const gone = new Promise<never>((_resolve, reject) => (fail = reject))
    this.#fail.add(fail)
    try {
      return await withDeadline(this.clock, timeoutMs, what, () => Promise.race([work(), gone]), signal)
    } finally {
      this.#fail.delete(fail)
    }
  }

  #endpoint(address: number): MemoryEndpoint {
    const endpoint = address >= 0x80 ? this.owner.endpoints.get(address) : undefined
    if (endpoint === undefined) throw this.#noEndpoint(address)
    return endpoint
  }

  #noEndpoint(address: number): GatewayError {
    return new GatewayError('E_DEVICE_PROTOCOL', `${this.name} has no endpoint ${address.toString(16)} of that kind`)
  }

  #closed(): GatewayError {
    return new GatewayError('E_DEVICE_IO', `${this.name} is not open any more`)
  }

  #stopped(): GatewayError {
    return new GatewayError('E_CANCELLED', `${this.name}: stopped`)
  }
}

/** Devices hold up to `fifoBytes` (64 kB) an endpoint for a host that does not read. */
export function createMemoryUsb(clock: Clock): MemoryUsb {
  const devices = new Set<MemoryUsbDevice>()
  const watchers = new Set<() => void>()
  const changed = (): void => {
    for (const watcher of [...watchers]) watcher()
  }
  const fits = ({ info, plugged }: MemoryUsbDevice, selector: UsbSelector): boolean =>
    plugged &&
    info.vendorId === selector.vendorId &&
    info.productId === selector.productId &&
    (selector.serialNumber === undefined || info.serialNumber === selector.serialNumber)
  return {
    io: {
      list: async () => [...devices].filter(({ plugged }) => plugged).map(({ info }) => info),
      async open(selector) {
        const what = describeSelector(selector)
        const found = [...devices].filter((device) => fits(device, selector))
        const free = found.find(({ host }) => host === undefined)
        if (free !== undefined) return new MemoryTransport(`usb ${what}`, free, clock)
        if (found.length > 0) throw new GatewayError('E_DEVICE_BUSY', `USB ${what} is held by this very process`)
        throw new GatewayError('E_DEVICE_ABSENT', `USB ${what} is not there`, { remedy: 'plug it in' })
      },
      watch(listener) {
        watchers.add(listener)
        return () => watchers.delete(listener)
      },
    },
    attach(device, fifoBytes = 65_536) {
      const plug = new MemoryUsbDevice(device, fifoBytes, changed)
      devices.add(plug)
      changed()
      return plug
    },
  }
}
