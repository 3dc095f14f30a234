import type { Device, Endpoint, Interface } from 'usb'
import type { Unsubscribe } from '../base/cell.js'
import { type Clock, withDeadline } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import type { CloseReason } from './contract.js'
import {
  ERROR_NO_DEVICE,
  errnoOf,
  TRANSFER_CANCELLED,
  TRANSFER_NO_DEVICE,
  TRANSFER_TIMED_OUT,
  type UsbBinding,
} from './usb-binding.js'
import type { UsbControl, UsbTransport } from './usb-contract.js'

const CLOSE_MS = 1_000

function isGone(error: unknown): boolean {
  const errno = errnoOf(error)
  return errno === TRANSFER_NO_DEVICE || errno === ERROR_NO_DEVICE
}

/** A device of the `usb` package that is open with one interface claimed. */
export class NodeUsbTransport implements UsbTransport {
  readonly #closeListeners = new Set<(reason: CloseReason) => void>()
  readonly #over = new AbortController()
  readonly #streams = new Map<number, () => Promise<void>>()
  readonly #unwatch: Unsubscribe
  #ended: CloseReason | undefined
  #closing: Promise<void> | undefined

  constructor(
    readonly name: string,
    private readonly device: Device,
    private readonly claimed: Interface,
    private readonly clock: Clock,
    binding: UsbBinding,
  ) {
    this.#unwatch = binding.onChange(() => {
      if (!binding.getDeviceList().includes(device)) this.#gone('it was unplugged')
    })
  }

  onClose(listener: (reason: CloseReason) => void): Unsubscribe {
    if (this.#ended !== undefined) {
      listener(this.#ended)
      return () => {}
    }
    this.#closeListeners.add(listener)
    return () => this.#closeListeners.delete(listener)
  }

  packetBytes(endpoint: number): number {
    return this.#endpoint(endpoint).descriptor.wMaxPacketSize
  }

  async read(endpoint: number, length: number, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array> {
    const buffer = Buffer.alloc(length)
    return this.#transfer(endpoint, buffer, timeoutMs, `reading ${length} bytes`, signal)
  }

  async write(endpoint: number, bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const buffer = Buffer.from(bytes)
    try {
      const sent = await this.#transfer(endpoint, buffer, timeoutMs, `writing ${bytes.length} bytes`, signal)
      if (sent.length < bytes.length) {
        throw new GatewayError('E_DEADLINE', `${this.name}: took ${sent.length} of ${bytes.length} bytes`)
      }
    } finally {
      buffer.fill(0)
    }
  }

  stream(
    endpoint: number,
    length: number,
    transfers: number,
    onData: (chunk: Uint8Array) => void,
  ): () => Promise<void> {
    const from = this.#endpoint(endpoint)
    if (!('startPoll' in from) || typeof from.startPoll !== 'function') throw this.#noEndpoint(endpoint)
    const start = from as Endpoint & {
      startPoll(transfers: number, size: number): unknown
      stopPoll(callback: () => void): void
      pollActive: boolean
    }
    const listen = (chunk: Uint8Array): void => {
      if (chunk.length > 0) onData(chunk)
    }
    const fail = (error: Error): void => this.#failed(error)
    start.on('data', listen)
    start.on('error', fail)
    start.startPoll(transfers, length)
    const stop = async (): Promise<void> => {
      this.#streams.delete(endpoint)
      start.off('data', listen)
      await withDeadline(this.clock, CLOSE_MS, 'ending a stream', () => {
        return new Promise<void>((resolve) => {
          if (!start.pollActive) return resolve()
          start.stopPoll(resolve)
        })
      }).catch(() => {})
      // `error` stays heard: an event without a listener would end the process.
    }
    this.#streams.set(endpoint, stop)
    return stop
  }

  async controlIn(control: UsbControl, length: number, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array> {
    const answer = await this.#control(control, length, timeoutMs, signal)
    return typeof answer === 'number' ? new Uint8Array(0) : answer
  }

  async controlOut(control: UsbControl, bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    await this.#control(control, Buffer.from(bytes), timeoutMs, signal)
  }

  close(): Promise<void> {
    this.#end({ cause: 'closed' })
    this.#closing ??= this.#release()
    return this.#closing
  }

  #endpoint(address: number): Endpoint {
    const found = this.claimed.endpoints.find((endpoint) => endpoint.address === address)
    if (found === undefined) throw this.#noEndpoint(address)
    return found
  }

  #noEndpoint(address: number): GatewayError {
    return new GatewayError('E_DEVICE_PROTOCOL', `${this.name} has no endpoint ${address.toString(16)} of that kind`)
  }

  /** One transfer either way; resolves with what was moved, which may be less where the time was over. */
  #transfer(
    address: number,
    buffer: Buffer,
    timeoutMs: number,
    what: string,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const endpoint = this.#endpoint(address)
    const over = signal === undefined ? this.#over.signal : AbortSignal.any([signal, this.#over.signal])
    return new Promise((resolve, reject) => {
      if (over.aborted) return reject(new GatewayError('E_CANCELLED', `${this.name}: ${what}: stopped`))
      const transfer = endpoint.makeTransfer(timeoutMs, (error, _buffer, moved) => {
        over.removeEventListener('abort', cancel)
        const errno = errnoOf(error)
        if (error === undefined || errno === TRANSFER_TIMED_OUT)
          return resolve(Uint8Array.from(buffer.subarray(0, moved)))
        if (errno === TRANSFER_CANCELLED)
          return reject(new GatewayError('E_CANCELLED', `${this.name}: ${what}: stopped`))
        this.#failed(error)
        reject(new GatewayError('E_DEVICE_IO', `${this.name}: ${what}: ${messageOf(error)}`, { cause: error }))
      })
      const cancel = (): void => void transfer.cancel()
      over.addEventListener('abort', cancel, { once: true })
      try {
        transfer.submit(buffer)
      } catch (error) {
        over.removeEventListener('abort', cancel)
        reject(new GatewayError('E_DEVICE_IO', `${this.name}: ${what}: ${messageOf(error)}`, { cause: error }))
      }
    })
  }

  async #control(
    control: UsbControl,
    data: number | Buffer,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<Buffer | number> {
    const { requestType, request, value, index } = control
    const what = `${this.name}: request ${request}`
    const over = signal === undefined ? this.#over.signal : AbortSignal.any([signal, this.#over.signal])
    this.device.timeout = timeoutMs
    const answering = withDeadline(
      this.clock,
      timeoutMs + CLOSE_MS,
      what,
      () =>
        new Promise<Buffer | number>((resolve, reject) => {
          this.device.controlTransfer(requestType, request, value, index, data, (error, answer) => {
            if (error === undefined) return resolve(answer ?? 0)
            reject(new GatewayError('E_DEVICE_IO', `${what}: ${messageOf(error)}`, { cause: error }))
          })
        }),
      over,
    )
    try {
      return await answering
    } catch (error) {
      // A request that the device does not know stalls, and no more than that.
      if (error instanceof GatewayError && isGone(error.cause)) this.#gone(messageOf(error.cause))
      throw error
    }
  }

  /** Whether a failed transfer means that the device is gone. */
  #failed(error: unknown): void {
    if (isGone(error)) this.#gone(messageOf(error))
    else this.#end({ cause: 'error', message: `${this.name}: ${messageOf(error)}` })
  }

  #gone(message: string): void {
    this.#end({ cause: 'unplugged', message: `${this.name}: ${message}` })
  }

  #end(reason: CloseReason): void {
    if (this.#ended !== undefined) return
    this.#ended = reason
    this.#unwatch()
    this.#over.abort()
    for (const listener of [...this.#closeListeners]) listener(reason)
    this.#closeListeners.clear()
  }

  async #release(): Promise<void> {
    await Promise.all([...this.#streams.values()].map((stop) => stop()))
    await withDeadline(
      this.clock,
      CLOSE_MS,
      'releasing the interface',
      () => new Promise<void>((resolve) => this.claimed.release(true, () => resolve())),
    ).catch(() => {})
    try {
      this.device.close()
    } catch {
      // A transfer is still on its way, or the device is gone: nothing is left to be closed.
    }
  }
}
