import { existsSync, fstatSync, read as readFd } from 'node:fs'
import { dirname } from 'node:path'
import type { Unsubscribe } from '../base/cell.js'
import { type Clock, type Timer, withDeadline } from '../base/clock.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { wipe } from '../base/wipe.js'
import type { ByteTransport, CloseReason } from './contract.js'
import { isPollable, type SerialBindingPort } from './serial-binding.js'
import { watchFolder } from './watch.js'

export interface SerialTransportOptions {
  clock: Clock
  /** Watch the node in the file system; false for bindings whose ports are not in it. */
  watchNode: boolean
  /** How often the node is looked at where no notification comes. */
  nodePollMs: number
}

const READ_BYTES = 16_384
/** Closing a tty may wait for unsent bytes (30 s on Linux); we do not. */
const CLOSE_TIMEOUT_MS = 1_000

/** What the system says when the hardware behind a descriptor is gone. */
function meansUnplugged(error: unknown): boolean {
  if (typeof error === 'object' && error !== null && 'disconnect' in error && error.disconnect === true) return true
  const code = codeOf(error)
  if (code === 'EBADF' || code === 'ENXIO' || code === 'EIO' || code === 'ENODEV') return true
  return /bad file descriptor|no such device/i.test(messageOf(error))
}

/**
 * A byte transport on one open port of a binding. It uses the binding directly: the stream above it reads for ever
 * without an event when a tty hangs up while data flow, and its writes to a closed port never call back.
 */
export class SerialTransport implements ByteTransport {
  readonly #dataListeners = new Set<(chunk: Uint8Array) => void>()
  readonly #closeListeners = new Set<(reason: CloseReason) => void>()
  readonly #buffer = Buffer.alloc(READ_BYTES)
  #ended: CloseReason | undefined
  #closing: Promise<void> | undefined
  #reading = false
  /** The read in progress, if any: the descriptor must not be closed (and its number given away) under it. */
  #pendingRead: Promise<unknown> = Promise.resolve()
  #writes: Promise<void> = Promise.resolve()
  #timer: Timer | undefined
  readonly #stopWatching: Unsubscribe

  constructor(
    readonly path: string,
    private readonly port: SerialBindingPort,
    private readonly options: SerialTransportOptions,
  ) {
    if (options.watchNode) {
      const stopFolder = watchFolder(dirname(path), () => this.#checkNode())
      const poll = (): void => {
        this.#checkNode()
        if (this.#ended === undefined) this.#timer = options.clock.after(options.nodePollMs, poll)
      }
      this.#timer = options.clock.after(options.nodePollMs, poll)
      this.#stopWatching = () => {
        stopFolder()
        this.#timer?.cancel()
      }
    } else {
      this.#stopWatching = () => {}
    }
  }

  onData(listener: (chunk: Uint8Array) => void): Unsubscribe {
    this.#dataListeners.add(listener)
    if (!this.#reading) {
      this.#reading = true
      void this.#readLoop()
    }
    return () => this.#dataListeners.delete(listener)
  }

  onClose(listener: (reason: CloseReason) => void): Unsubscribe {
    if (this.#ended !== undefined) {
      listener(this.#ended)
      return () => {}
    }
    this.#closeListeners.add(listener)
    return () => this.#closeListeners.delete(listener)
  }

  async write(bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (this.#ended !== undefined) throw this.#closedError()
    const copy = Buffer.from(bytes)
    const what = `writing ${bytes.length} bytes to ${this.path}`
    const turn = this.#writes.then(async () => {
      if (this.#ended !== undefined) throw this.#closedError()
      await this.port.write(copy)
    })
    this.#writes = turn.catch(() => {}).finally(() => wipe(copy))
    let forget: Unsubscribe = () => {}
    const gone = new Promise<never>((_, reject) => {
      forget = this.onClose(() => reject(this.#closedError()))
    })
    gone.catch(() => {})
    try {
      await withDeadline(this.options.clock, timeoutMs, what, () => Promise.race([turn, gone]), signal)
    } catch (error) {
      if (error instanceof GatewayError) throw error
      throw new GatewayError('E_DEVICE_IO', `${what} failed: ${messageOf(error)}`, { cause: error })
    } finally {
      forget()
    }
  }

  async setBaudRate(baudRate: number): Promise<void> {
    if (this.#ended !== undefined) throw this.#closedError()
    try {
      await this.port.update({ baudRate })
    } catch (error) {
      throw new GatewayError('E_DEVICE_IO', `${this.path}: cannot set ${baudRate} baud: ${messageOf(error)}`)
    }
  }

  close(): Promise<void> {
    return this.#end({ cause: 'closed' })
  }

  #closedError(): GatewayError {
    const why = this.#ended === undefined || this.#ended.cause === 'closed' ? 'it was closed' : this.#ended.message
    return new GatewayError('E_DEVICE_IO', `${this.path} is not open any more: ${why}`)
  }

  /** A vanished node is the unplug, whatever the descriptor still pretends. */
  #checkNode(): void {
    if (this.#ended !== undefined) return
    if (this.#nodeIsGone()) void this.#end({ cause: 'unplugged', message: `${this.path} has vanished` })
  }

  #nodeIsGone(): boolean {
    if (!existsSync(this.path)) return true
    if (!isPollable(this.port)) return false
    try {
      // A node removed and made anew under the same name leaves our descriptor on one without a name.
      return fstatSync(this.port.fd).nlink === 0
    } catch {
      return true
    }
  }

  async #readLoop(): Promise<void> {
    while (this.#ended === undefined) {
      try {
        const bytesRead = await this.#readOnce()
        if (bytesRead === undefined || this.#ended !== undefined) continue
        if (bytesRead === 0) {
          void this.#end({ cause: 'unplugged', message: `${this.path} hung up` })
          return
        }
        const part = this.#buffer.subarray(0, bytesRead)
        for (const listener of [...this.#dataListeners]) listener(Uint8Array.from(part))
        wipe(part)
      } catch (error) {
        if (this.#ended !== undefined) return
        const message = `${this.path}: ${messageOf(error)}`
        void this.#end({ cause: meansUnplugged(error) ? 'unplugged' : 'error', message })
        return
      }
    }
  }

  /** Bytes read, 0 for a tty that hung up, undefined for "look again". */
  async #readOnce(): Promise<number | undefined> {
    const port = this.port
    if (!isPollable(port)) {
      const { bytesRead } = await port.read(this.#buffer, 0, READ_BYTES)
      return bytesRead
    }
    const outcome = new Promise<number | undefined>((resolve, reject) => {
      readFd(port.fd, this.#buffer, 0, READ_BYTES, null, (error, bytesRead) => {
        if (error === null) return resolve(bytesRead)
        if (error.code === 'EAGAIN' || error.code === 'EWOULDBLOCK') return resolve(undefined)
        if (error.code === 'EINTR') return resolve(-1)
        reject(error)
      })
    })
    this.#pendingRead = outcome.catch(() => {})
    const bytesRead = await outcome
    if (bytesRead === -1) return undefined
    if (bytesRead === undefined && this.#ended === undefined) {
      await new Promise<void>((resolve, reject) => {
        port.poller.once('readable', (error) => (error === null ? resolve() : reject(error)))
      })
    }
    return bytesRead
  }

  #end(reason: CloseReason): Promise<void> {
    if (this.#closing !== undefined) return this.#closing
    this.#ended = reason
    this.#stopWatching()
    this.#closing = this.#release()
    const listeners = [...this.#closeListeners]
    this.#closeListeners.clear()
    for (const listener of listeners) listener(reason)
    this.#dataListeners.clear()
    return this.#closing
  }

  async #release(): Promise<void> {
    const released = (async () => {
      await this.#pendingRead
      if (this.port.isOpen) await this.port.close()
      wipe(this.#buffer)
    })()
    await withDeadline(this.options.clock, CLOSE_TIMEOUT_MS, `closing ${this.path}`, () => released).catch(() => {})
  }
}
