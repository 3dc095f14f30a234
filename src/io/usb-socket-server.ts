import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import type { Unsubscribe } from '../base/cell.js'
import { codeOf, messageOf } from '../base/errors.js'
import type { UsbIo, UsbTransport } from './usb-contract.js'
import {
  base64,
  type DeviceMessage,
  hearMessages,
  hostMessageSchema,
  type HostSaid as Heard,
  say,
} from './usb-socket-wire.js'

type Answer = Extract<DeviceMessage, { ok: unknown }>['ok']

/** One host: what it opened, and what it still waits for. */
class HostConnection {
  #transport: UsbTransport | undefined
  readonly #waiting = new Map<number, AbortController>()
  readonly #streams = new Map<number, () => Promise<void>>()
  readonly #unwatch: Unsubscribe

  constructor(
    private readonly socket: Socket,
    private readonly usb: UsbIo,
  ) {
    this.#unwatch = usb.watch(() => say(socket, { changed: true }))
    hearMessages(socket, hostMessageSchema, (message) => void this.#hear(message))
    socket.on('close', () => this.#end())
  }

  #end(): void {
    this.#unwatch()
    for (const waiting of this.#waiting.values()) waiting.abort()
    void this.#transport?.close()
  }

  async #hear(message: Heard): Promise<void> {
    const { n } = message
    const waiting = new AbortController()
    this.#waiting.set(n, waiting)
    try {
      say(this.socket, { n, ok: await this.#do(message, waiting.signal) })
    } catch (error) {
      say(this.socket, { n, error: { code: codeOf(error) ?? 'E_DEVICE_IO', message: messageOf(error) } })
    } finally {
      this.#waiting.delete(n)
    }
  }

  async #do(message: Heard, signal: AbortSignal): Promise<Answer> {
    switch (message.do) {
      case 'list':
        return { devices: await this.usb.list() }
      case 'open':
        return this.#open(message.selector, signal)
      case 'stop':
        this.#waiting.get(message.which)?.abort()
        return {}
      case 'unstream':
        await this.#streams.get(message.endpoint)?.()
        this.#streams.delete(message.endpoint)
        return {}
      case 'stream': {
        const { endpoint, length } = message
        const usb = this.#opened()
        this.#streams.set(
          endpoint,
          usb.stream(endpoint, length, 1, (chunk) => say(this.socket, { stream: endpoint, bytes: base64(chunk) })),
        )
        return {}
      }
      case 'read': {
        const { endpoint, length, timeoutMs } = message
        return { bytes: base64(await this.#opened().read(endpoint, length, timeoutMs, signal)) }
      }
      case 'write':
        await this.#opened().write(message.endpoint, message.bytes, message.timeoutMs, signal)
        return {}
      case 'controlIn': {
        const { control, length, timeoutMs } = message
        return { bytes: base64(await this.#opened().controlIn(control, length, timeoutMs, signal)) }
      }
      case 'controlOut':
        await this.#opened().controlOut(message.control, message.bytes, message.timeoutMs, signal)
        return {}
    }
  }

  async #open(selector: Extract<Heard, { do: 'open' }>['selector'], signal: AbortSignal): Promise<Answer> {
    const { vendorId, productId, serialNumber } = selector
    const transport = await this.usb.open(
      { vendorId, productId, ...(serialNumber === undefined ? {} : { serialNumber }) },
      {},
      signal,
    )
    this.#transport = transport
    transport.onClose((reason) => {
      const message = reason.cause === 'closed' ? 'closed' : reason.message
      say(this.socket, { closed: { cause: reason.cause, message } })
    })
    return { packets: packetsOf(transport) }
  }

  #opened(): UsbTransport {
    if (this.#transport === undefined) throw new Error('no device was opened')
    return this.#transport
  }
}

/** Packet sizes by endpoint address, of those endpoints that there are. */
function packetsOf(transport: UsbTransport): Record<string, number> {
  const packets: Record<string, number> = {}
  for (let address = 1; address < 0x90; address = address === 0x0f ? 0x81 : address + 1) {
    try {
      packets[String(address)] = transport.packetBytes(address)
    } catch {
      // No such endpoint.
    }
  }
  return packets
}

/**
 * Lets other processes of this user use an emulated USB device: `usb` over a local socket at `path`. Resolves once it
 * listens, with the function that ends it; rejects where the socket cannot be made.
 */
export function serveUsb(path: string, usb: UsbIo): Promise<() => Promise<void>> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    new HostConnection(socket, usb)
  })
  rmSync(path, { force: true })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      chmodSync(path, 0o600)
      resolve(
        () =>
          new Promise<void>((closed) => {
            for (const socket of sockets) socket.destroy()
            server.close(() => closed())
          }),
      )
    })
  })
}
