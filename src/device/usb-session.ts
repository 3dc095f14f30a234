import { StateCell } from '../base/cell.js'
import { createBackoff } from '../base/backoff.js'
import { type Clock, sleep } from '../base/clock.js'
import { codeOf, explanationOf, messageOf } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import {
  describeSelector,
  type UsbIo,
  type UsbOpenOptions,
  type UsbSelector,
  type UsbTransport,
} from '../io/usb-contract.js'
import type { DeviceState } from './contract.js'

/** What a conversation over USB may say while one opening lasts. */
export interface UsbSessionHandle {
  readonly transport: UsbTransport
  identified(identity: string): void
  /** What the device is there for has just come. */
  alive(): void
  /** It is open, and what comes is nothing that can be used. */
  doubt(reason: string | undefined): void
}

export interface UsbSessionOptions {
  usb: UsbIo
  selector: UsbSelector
  open: UsbOpenOptions
  clock: Clock
  random: Random
  log: Logger
  /** One opening: lasts until `signal` aborts (it then resolves) or it rejects, after which the device is opened again. */
  converse(handle: UsbSessionHandle, signal: AbortSignal): Promise<void>
}

/** Keeps a USB device that is no serial port open: opens it again after every loss, for ever, with growing pauses. */
export class UsbSession {
  readonly state: StateCell<DeviceState>
  #openings = 0
  #losses = 0

  constructor(private readonly options: UsbSessionOptions) {
    const { clock, log } = options
    this.state = new StateCell<DeviceState>({ state: 'absent', reason: 'not looked for yet' }, clock, (error) =>
      log.error({ reason: messageOf(error) }, 'a listener of the device state failed'),
    )
  }

  facts(): Record<string, string | number> {
    return { usb: describeSelector(this.options.selector), openings: this.#openings, losses: this.#losses }
  }

  /** Resolves when `signal` aborts and the device is closed. */
  async run(signal: AbortSignal): Promise<void> {
    const { usb, clock, random } = this.options
    const pause = createBackoff({ firstMs: 200, maxMs: 5_000 }, random)
    let wake = new AbortController()
    const unwatch = usb.watch(() => wake.abort())
    try {
      while (!signal.aborted) {
        wake = new AbortController()
        await this.#once(signal, () => pause.reset())
        if (signal.aborted) break
        await sleep(clock, pause.nextMs(), AbortSignal.any([signal, wake.signal])).catch(() => {})
      }
    } finally {
      unwatch()
      this.#set({ state: 'stopped' })
    }
  }

  async #once(signal: AbortSignal, wentWell: () => void): Promise<void> {
    const { usb, selector, open } = this.options
    let transport: UsbTransport
    try {
      if (this.state.value.state !== 'absent') this.#set({ state: 'opening' })
      transport = await usb.open(selector, open, signal)
    } catch (error) {
      if (!signal.aborted) this.#couldNotOpen(error)
      return
    }
    this.#openings += 1
    const over = new AbortController()
    const stop = (): void => over.abort()
    signal.addEventListener('abort', stop, { once: true })
    let lost = ''
    transport.onClose((reason) => {
      if (reason.cause !== 'closed') lost = reason.message
      over.abort()
    })
    try {
      await this.#converse(transport, over.signal, wentWell)
    } catch (error) {
      if (lost === '') lost = explanationOf(error)
    } finally {
      signal.removeEventListener('abort', stop)
      over.abort()
      await transport.close()
    }
    if (signal.aborted) return
    this.#losses += 1
    this.#set({ state: 'absent', reason: `lost: ${lost === '' ? 'the opening ended' : lost}` })
  }

  #converse(transport: UsbTransport, signal: AbortSignal, wentWell: () => void): Promise<void> {
    const path = transport.name
    let identity = path
    this.#set({ state: 'open', path })
    return this.options.converse(
      {
        transport,
        identified: (text) => {
          identity = text
          this.#set({ state: 'identified', path, identity })
        },
        alive: () => {
          wentWell()
          if (this.state.value.state !== 'producing' && !signal.aborted) {
            this.#set({ state: 'producing', path, identity })
          }
        },
        doubt: (reason) => {
          if (reason !== undefined && !signal.aborted) this.#set({ state: 'silent', path, reason })
        },
      },
      signal,
    )
  }

  #couldNotOpen(error: unknown): void {
    const reason = explanationOf(error)
    const code = codeOf(error)
    if (code === 'E_DEVICE_ABSENT') this.#set({ state: 'absent', reason })
    else if (code === 'E_DEVICE_BUSY') this.#set({ state: 'busy', reason })
    else this.#set({ state: 'refused', reason })
  }

  #set(next: DeviceState): void {
    const now = this.state.value
    if (now.state === next.state && ('reason' in now ? now.reason : '') === ('reason' in next ? next.reason : ''))
      return
    const unhappy = next.state === 'absent' || next.state === 'busy' || next.state === 'refused'
    this.options.log[unhappy ? 'warn' : 'info']({ usb: this.options.selector, ...next }, `device ${next.state}`)
    this.state.set(next)
  }
}
