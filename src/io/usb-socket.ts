import { connect, type Socket } from 'node:net'
import type { Unsubscribe } from '../base/cell.js'
import { type Clock, withDeadline } from '../base/clock.js'
import type { ErrorCode } from '../base/error-codes.js'
import { GatewayError, messageOf } from '../base/errors.js'
import type { CloseReason } from './contract.js'
import { describeSelector, type UsbControl, type UsbIo, type UsbSelector, type UsbTransport } from './usb-contract.js'
import { base64, deviceMessageSchema, type DeviceSaid, hearMessages, type HostMessage, say } from './usb-socket-wire.js'

/** The emulator's own time-outs come first; this one is for an emulator that has stopped. */
const GRACE_MS = 1_000
const ASK_MS = 2_000
const RECONNECT_MS = 250
/** What an emulator may say went wrong; anything else is E_DEVICE_IO. */
const CODES: readonly ErrorCode[] = [
  ...(['E_DEVICE_ABSENT', 'E_DEVICE_BUSY', 'E_DEVICE_PROTOCOL', 'E_DEADLINE', 'E_CANCELLED'] as const),
]

type Answer = Extract<DeviceSaid, { ok: unknown }>['ok']
type Unnumbered = HostMessage extends infer Each ? (Each extends { n: number } ? Omit<Each, 'n'> : never) : never

/** One connection to an emulator. */
class EmulatorConnection {
  readonly #waiting = new Map<number, { give: (answer: Answer) => void; fail: (error: Error) => void }>()
  #count = 0
  onStream: (endpoint: number, bytes: Uint8Array) => void = () => {}
  onClosed: (reason: CloseReason) => void = () => {}
  onChanged: () => void = () => {}

  private constructor(
    private readonly socket: Socket,
    private readonly path: string,
    private readonly clock: Clock,
  ) {
    hearMessages(socket, deviceMessageSchema, (message) => this.#hear(message))
    socket.on('close', () => {
      const message = `the emulator at ${path} is gone`
      for (const { fail } of [...this.#waiting.values()]) fail(new GatewayError('E_DEVICE_IO', message))
      this.onClosed({ cause: 'unplugged', message })
    })
  }

  /** Rejects with E_DEVICE_ABSENT where nobody listens there. */
  static open(path: string, clock: Clock): Promise<EmulatorConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect(path)
      socket.once('error', (error) =>
        reject(
          new GatewayError('E_DEVICE_ABSENT', `no USB emulator listens at ${path}: ${messageOf(error)}`, {
            remedy: 'start it: qkd-gw emulate <driver>',
          }),
        ),
      )
      socket.once('connect', () => resolve(new EmulatorConnection(socket, path, clock)))
    })
  }

  end(): void {
    this.socket.destroy()
  }

  async ask(message: Unnumbered, timeoutMs: number, signal?: AbortSignal): Promise<Answer> {
    this.#count += 1
    const n = this.#count
    const answered = (): Promise<Answer> =>
      new Promise((give, fail) => {
        if (this.socket.destroyed) return fail(new GatewayError('E_DEVICE_IO', `${this.path} is not open any more`))
        this.#waiting.set(n, { give, fail })
        say(this.socket, { ...message, n })
      })
    try {
      return await withDeadline(this.clock, timeoutMs + GRACE_MS, `${this.path}: ${message.do}`, answered, signal)
    } catch (error) {
      if (this.#waiting.has(n)) say(this.socket, { do: 'stop', which: n, n: (this.#count += 1) })
      throw error
    } finally {
      this.#waiting.delete(n)
    }
  }

  #hear(message: DeviceSaid): void {
    if ('n' in message) {
      const waiting = this.#waiting.get(message.n)
      if ('ok' in message) waiting?.give(message.ok)
      else {
        const { code, message: text } = message.error
        waiting?.fail(new GatewayError(CODES.find((known) => known === code) ?? 'E_DEVICE_IO', text))
      }
    } else if ('stream' in message) {
      this.onStream(message.stream, message.bytes)
    } else if ('closed' in message) {
      const { cause, message: text } = message.closed
      this.onClosed(cause === 'closed' ? { cause } : { cause, message: text })
    } else {
      this.onChanged()
    }
  }
}

class SocketUsbTransport implements UsbTransport {
  readonly #streams = new Map<number, (chunk: Uint8Array) => void>()
  readonly #listeners = new Set<(reason: CloseReason) => void>()
  #ended: CloseReason | undefined

  constructor(
    readonly name: string,
    private readonly connection: EmulatorConnection,
    private readonly packets: Readonly<Record<string, number>>,
  ) {
    connection.onStream = (endpoint, bytes) => this.#streams.get(endpoint)?.(bytes)
    connection.onClosed = (reason) => this.#end(reason)
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
    const bytes = this.packets[String(endpoint)]
    if (bytes !== undefined) return bytes
    throw new GatewayError('E_DEVICE_PROTOCOL', `${this.name} has no endpoint ${endpoint.toString(16)} of that kind`)
  }

  async read(endpoint: number, length: number, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array> {
    const { bytes } = await this.#ask({ do: 'read', endpoint, length, timeoutMs }, timeoutMs, signal)
    return bytes ?? new Uint8Array(0)
  }

  stream(
    endpoint: number,
    length: number,
    _transfers: number,
    onData: (chunk: Uint8Array) => void,
  ): () => Promise<void> {
    this.packetBytes(endpoint)
    this.#streams.set(endpoint, onData)
    this.#ask({ do: 'stream', endpoint, length }, ASK_MS).catch((error: unknown) =>
      this.#end({ cause: 'error', message: messageOf(error) }),
    )
    return async () => {
      this.#streams.delete(endpoint)
      if (this.#ended === undefined) await this.#ask({ do: 'unstream', endpoint }, ASK_MS).catch(() => {})
    }
  }

  async write(endpoint: number, bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    this.packetBytes(endpoint)
    await this.#ask({ do: 'write', endpoint, bytes: base64(bytes), timeoutMs }, timeoutMs, signal)
  }

  async controlIn(control: UsbControl, length: number, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array> {
    const { bytes } = await this.#ask({ do: 'controlIn', control, length, timeoutMs }, timeoutMs, signal)
    return bytes ?? new Uint8Array(0)
  }

  async controlOut(control: UsbControl, bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    await this.#ask({ do: 'controlOut', control, bytes: base64(bytes), timeoutMs }, timeoutMs, signal)
  }

  async close(): Promise<void> {
    this.#end({ cause: 'closed' })
  }

  async #ask(message: Unnumbered, timeoutMs: number, signal?: AbortSignal): Promise<Answer> {
    if (this.#ended !== undefined) throw new GatewayError('E_DEVICE_IO', `${this.name} is not open any more`)
    return this.connection.ask(message, timeoutMs, signal)
  }

  #end(reason: CloseReason): void {
    if (this.#ended !== undefined) return
    this.#ended = reason
    this.connection.end()
    this.#streams.clear()
    for (const listener of [...this.#listeners]) listener(reason)
    this.#listeners.clear()
  }
}

/** USB whose only device is an emulator in another process, at a local socket; see `serveUsb`. */
export function createSocketUsb(path: string, clock: Clock): UsbIo {
  return {
    async list() {
      const connection = await EmulatorConnection.open(path, clock).catch(() => undefined)
      if (connection === undefined) return []
      try {
        const { devices = [] } = await connection.ask({ do: 'list' }, ASK_MS)
        return devices.map(({ serialNumber, ...rest }) => ({ ...rest, serialNumber }))
      } finally {
        connection.end()
      }
    },
    async open(selector: UsbSelector, _options, signal) {
      const connection = await EmulatorConnection.open(path, clock)
      try {
        const { packets = {} } = await connection.ask({ do: 'open', selector: { ...selector } }, ASK_MS, signal)
        return new SocketUsbTransport(`usb ${describeSelector(selector)} (emulated, ${path})`, connection, packets)
      } catch (error) {
        connection.end()
        throw error
      }
    },
    watch(listener) {
      let stopped = false
      let connection: EmulatorConnection | undefined
      let timer = clock.after(0, look)
      function again(): void {
        if (!stopped) timer = clock.after(RECONNECT_MS, look)
      }
      function look(): void {
        EmulatorConnection.open(path, clock).then((opened) => {
          if (stopped) return opened.end()
          connection = opened
          opened.onChanged = listener
          opened.onClosed = () => {
            listener()
            again()
          }
          listener()
        }, again)
      }
      return () => {
        stopped = true
        timer.cancel()
        connection?.end()
      }
    },
  }
}
