import type { Unsubscribe } from '../base/cell.js'
import { GatewayError } from '../base/errors.js'
import type { ByteTransport, CloseReason, DeviceLine, OpenSerial } from './contract.js'

/** Paths that begin so are lines of this process, not nodes of the file system. */
export const MEMORY_PREFIX = 'memory:'

class HostEnd implements ByteTransport {
  readonly #data = new Set<(chunk: Uint8Array) => void>()
  readonly #close = new Set<(reason: CloseReason) => void>()
  #ended: CloseReason | undefined

  constructor(
    readonly path: string,
    public baudRate: number,
    private readonly toDevice: (chunk: Uint8Array) => void,
    private readonly onEnd: () => void,
  ) {}

  get hears(): boolean {
    return this.#ended === undefined && this.#data.size > 0
  }

  onData(listener: (chunk: Uint8Array) => void): Unsubscribe {
    this.#data.add(listener)
    return () => this.#data.delete(listener)
  }

  onClose(listener: (reason: CloseReason) => void): Unsubscribe {
    if (this.#ended !== undefined) {
      listener(this.#ended)
      return () => {}
    }
    this.#close.add(listener)
    return () => this.#close.delete(listener)
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#ended !== undefined) throw new GatewayError('E_DEVICE_IO', `${this.path} is not open any more`)
    this.toDevice(Uint8Array.from(bytes))
  }

  async setBaudRate(baudRate: number): Promise<void> {
    this.baudRate = baudRate
  }

  async close(): Promise<void> {
    this.end({ cause: 'closed' })
  }

  receive(chunk: Uint8Array): void {
    for (const listener of [...this.#data]) listener(Uint8Array.from(chunk))
  }

  end(reason: CloseReason): void {
    if (this.#ended !== undefined) return
    this.#ended = reason
    this.onEnd()
    for (const listener of [...this.#close]) listener(reason)
    this.#close.clear()
    this.#data.clear()
  }
}

class MemoryLine implements DeviceLine {
  readonly transport = 'memory'
  readonly #listeners = new Set<(chunk: Uint8Array) => void>()
  #plugged = true
  #host: HostEnd | undefined
  #rate: number | undefined

  constructor(
    readonly path: string,
    private readonly changed: (path: string, present: boolean) => void,
    private readonly forget: () => void,
  ) {}

  get plugged(): boolean {
    return this.#plugged
  }

  open(baudRate: number): ByteTransport {
    if (!this.#plugged) throw new GatewayError('E_DEVICE_ABSENT', `${this.path} is unplugged`)
    if (this.#host !== undefined) {
      throw new GatewayError('E_DEVICE_BUSY', `${this.path} is held by this very process (pid ${process.pid})`)
    }
    const toDevice = (chunk: Uint8Array): void => {
      for (const listener of [...this.#listeners]) listener(chunk)
    }
    const host = new HostEnd(this.path, baudRate, toDevice, () => {
      this.#rate = host.baudRate
      this.#host = undefined
    })
    this.#host = host
    return host
  }

  async send(bytes: Uint8Array): Promise<number> {
    if (!this.#plugged || this.#host?.hears !== true) return 0
    this.#host.receive(bytes)
    return bytes.length
  }

  onData(listener: (chunk: Uint8Array) => void): Unsubscribe {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async unplug(): Promise<void> {
    if (!this.#plugged) return
    this.#plugged = false
    this.#host?.end({ cause: 'unplugged', message: `${this.path} has vanished` })
    this.changed(this.path, false)
  }

  async plug(): Promise<void> {
    if (this.#plugged) return
    this.#plugged = true
    this.changed(this.path, true)
  }

  async lineRate(): Promise<number | undefined> {
    return this.#host?.baudRate ?? this.#rate
  }

  async close(): Promise<void> {
    await this.unplug()
    this.forget()
  }
}

/** Serial cables inside one process, for systems without PTYs and for tests that need no tty. */
export interface MemoryLines {
  /** Lays a cable; its path is `memory:<name>`. Throws E_CONFIG where the name is taken. */
  create(name: string): DeviceLine
  readonly openSerial: OpenSerial
  isPresent(path: string): boolean
  watch(path: string, listener: (present: boolean) => void): Unsubscribe
}

export function createMemoryLines(): MemoryLines {
  const lines = new Map<string, MemoryLine>()
  const watchers = new Set<{ path: string; listener: (present: boolean) => void }>()
  const changed = (path: string, present: boolean): void => {
    for (const watcher of [...watchers]) if (watcher.path === path) watcher.listener(present)
  }
  return {
    create(name) {
      const path = `${MEMORY_PREFIX}${name}`
      if (lines.has(path)) throw new GatewayError('E_CONFIG', `there is a line named ${name} already`)
      const line = new MemoryLine(path, changed, () => lines.delete(path))
      lines.set(path, line)
      changed(path, true)
      return line
    },
    async openSerial(path, settings) {
      const line = lines.get(path)
      if (line === undefined) {
        throw new GatewayError(
          'E_DEVICE_ABSENT',
          `${path} is not there: in-memory lines exist only inside their own process`,
        )
      }
      return line.open(settings.baudRate)
    },
    isPresent: (path) => lines.get(path)?.plugged === true,
    watch(path, listener) {
      const watcher = { path, listener }
      watchers.add(watcher)
      return () => watchers.delete(watcher)
    },
  }
}
