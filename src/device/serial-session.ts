import { StateCell, type Unsubscribe } from '../base/cell.js'
import { createBackoff, type Backoff } from '../base/backoff.js'
import { type Clock, sleep, type Timer } from '../base/clock.js'
import { codeOf, explanationOf, messageOf } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { ByteTransport, CloseReason, DeviceIo, SerialSettings } from '../io/contract.js'
import type { Logger } from '../observe/log.js'
import type { DeviceState } from './contract.js'

/** What a conversation may use and say while one opening lasts. */
export interface SessionHandle {
  readonly transport: ByteTransport
  /** The device said who it is, or said what only such a device says. */
  identified(identity: string): void
  /** A sign of useful life: what the device is there for has just come. */
  alive(): void
  /** What came is not what such a device says; shown once the device counts as silent. Undefined takes it back. */
  doubt(reason: string | undefined): void
  /** So long did the last answer take, from the question on; shown in the facts. */
  roundTrip(durationMs: number): void
}

/** A driver's part of one opening of the port. Made anew for each. */
export interface Conversation {
  onData(chunk: Uint8Array): void
  /** The opening is over: drop and wipe what was half read. */
  end(): void
  /** For devices that are spoken to: identify, set up, start. When it rejects the port is closed and opened again. */
  run?(signal: AbortSignal): Promise<void>
  /** First remedy for silence: ask again. */
  askAgain?(signal: AbortSignal): Promise<void>
  /** Last remedy: reset the device. */
  reset?(signal: AbortSignal): Promise<void>
}

export interface SerialSessionOptions {
  /** As the user gave it: a node, or a stable name. */
  path: string
  settings: SerialSettings
  io: DeviceIo
  clock: Clock
  random: Random
  log: Logger
  begin(handle: SessionHandle): Conversation
  /** What was read before and after belongs to two openings. */
  onReopened?(reason: string): void
  /** Calls back when what the device needs besides the port (its USB side) may have come: then no pause is waited out. */
  wakeOn?(listener: () => void): Unsubscribe
  /** Where stable names live; default /dev/serial/by-id. */
  stableFolder?: string
  /** Silence longer than this is a state of its own; choose it by what the device should send. */
  silentAfterMs: number
  /** Pause between remedies for silence, doubled each time; undefined: none is tried. Default 60 s. */
  remedyPauseMs?: number | undefined
}

const DEFAULT_STABLE_FOLDER = '/dev/serial/by-id'
const DEFAULT_REMEDY_PAUSE_MS = 60_000
const LONGEST_REMEDY_PAUSE_MS = 15 * 60_000
/** A converter that waits longer before it passes on short answers slows question and answer down. */
const LONGEST_LATENCY_MS = 2
const LATENCY_REMEDY = 'udev rule: ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"'
const ABSENT_LOOK_MS = 5_000
/** A program that grabs new ports (brltty) makes the node vanish about half a second after it appeared. */
const GRABBED_WITHIN_MS = 1_000

type EndOfOpening = { why: 'closed'; reason: CloseReason } | { why: 'stopped' } | { why: 'again'; reason: string }

/**
 * Keeps one serial device open for as long as the signal lasts: finds it by its stable name, opens it, hands what it
 * says to the driver's conversation, notices silence and applies the remedies in stages, and opens it again after every
 * loss, for ever, with growing pauses. Its state changes here and nowhere else.
 */
export class SerialSession {
  readonly state: StateCell<DeviceState>
  #target: string
  #openings = 0
  #roundTripMs: number | undefined
  #latencyTimerMs: number | undefined
  #isSpokenTo = false
  #losses = 0
  #bytesRead = 0
  #appearedAtMs: number | undefined
  #grabbed = false
  /** Something changed since the last look at the node: the pause that comes next is not waited out. */
  #changedSinceLook = false
  #onChange: () => void = () => {}
  #unwatch: Unsubscribe = () => {}
  /** Survives reopening: the next remedy continues where the last one ended. */
  #remedyStage = 0
  readonly #remedyPause: Backoff | undefined
  readonly #retryPause: Backoff

  constructor(private readonly options: SerialSessionOptions) {
    const { clock, random, log, remedyPauseMs = DEFAULT_REMEDY_PAUSE_MS } = options
    this.#target = options.path
    this.state = new StateCell<DeviceState>({ state: 'absent', reason: 'not looked for yet' }, clock, (error) =>
      log.error({ reason: messageOf(error) }, 'a listener of the device state failed'),
    )
    this.#retryPause = createBackoff({ firstMs: 200, maxMs: 5_000 }, random)
    const remediesOff = 'remedyPauseMs' in options && options.remedyPauseMs === undefined
    this.#remedyPause = remediesOff
      ? undefined
      : createBackoff({ firstMs: remedyPauseMs, maxMs: LONGEST_REMEDY_PAUSE_MS }, random)
  }

  /** The stable name if one is known, otherwise the path as given. */
  get name(): string {
    return this.#target
  }

  facts(): Record<string, string | number | boolean> {
    const latencyMs = this.#latencyTimerMs
    return {
      ...{ path: this.#target, openings: this.#openings, losses: this.#losses, bytesRead: this.#bytesRead },
      ...(this.#roundTripMs === undefined ? {} : { roundTripMs: this.#roundTripMs }),
      ...(latencyMs === undefined ? {} : { latencyTimerMs: latencyMs }),
      // To devices that only send it is a delay of each frame, no more.
      ...(latencyMs === undefined || latencyMs <= LONGEST_LATENCY_MS || !this.#isSpokenTo
        ? {}
        : { latencyRemedy: LATENCY_REMEDY }),
    }
  }

  /** Resolves when `signal` aborts and the port is closed; rejects with what neither time nor a cable can mend. */
  async run(signal: AbortSignal): Promise<void> {
    this.#unwatch = this.#watch()
    const unwake = this.options.wakeOn?.(() => this.#noteChange())
    try {
      while (!signal.aborted) await this.#once(signal)
    } finally {
      unwake?.()
      this.#unwatch()
      this.#set({ state: 'stopped' })
    }
  }

  #set(next: DeviceState): void {
    const now = this.state.value
    if (now.state === next.state && ('reason' in now ? now.reason : '') === ('reason' in next ? next.reason : ''))
      return
    const unhappy =
      next.state === 'absent' || next.state === 'busy' || next.state === 'refused' || next.state === 'silent'
    this.options.log[unhappy ? 'warn' : 'info']({ device: this.#target, ...next }, `device ${next.state}`)
    this.state.set(next)
  }

  #watch(): () => void {
    return this.options.io.watchPath(this.#target, (present) => {
      const nowMs = this.options.clock.monotonicMs()
      if (present) {
        this.#appearedAtMs = nowMs
      } else {
        this.#grabbed = this.#appearedAtMs !== undefined && nowMs - this.#appearedAtMs < GRABBED_WITHIN_MS
        this.#appearedAtMs = undefined
      }
      this.#noteChange()
    })
  }

  /** Kept until the next look: it may come while nobody waits, as when a port is being closed. */
  #noteChange(): void {
    this.#changedSinceLook = true
    this.#onChange()
  }

  #absentReason(): string {
    if (!this.#grabbed) return `${this.#target} is not there; waiting for it`
    return (
      `${this.#target} appeared and vanished within a second: taken by another program (brltty?); ` +
      'remove that program or install the udev rules that keep it away'
    )
  }

  /** One look, one opening if it can be, and the pause after it. */
  async #once(signal: AbortSignal): Promise<void> {
    const { io, settings } = this.options
    this.#changedSinceLook = false
    const node = io.resolvePath(this.#target)
    if (node === undefined) {
      this.#set({ state: 'absent', reason: this.#absentReason() })
      return this.#pause(ABSENT_LOOK_MS, signal)
    }
    let transport: ByteTransport
    try {
      // A port that stays refused is tried again quietly.
      const { state } = this.state.value
      if (state !== 'busy' && state !== 'refused') this.#set({ state: 'opening' })
      transport = await io.openSerial(this.#target, settings, signal)
    } catch (error) {
      return this.#couldNotOpen(error, signal)
    }
    if (io.resolvePath(this.#target) !== node) {
      // Pulled while it was opened: by now its number may be somebody else's.
      await transport.close()
      return this.#pause(this.#retryPause.nextMs(), signal)
    }
    this.#learnStableName()
    const reopened = this.#openings > 0
    this.#openings += 1
    this.#latencyTimerMs = io.latencyTimerMs?.(node)
    const end = await this.#converse(transport, node, reopened, signal)
    await transport.close()
    if (end.why === 'stopped') return
    this.#losses += 1
    if (end.why === 'again') {
      this.#set({ state: 'silent', path: transport.path, reason: `${end.reason}; opening the port again` })
      return this.#pause(this.#retryPause.nextMs(), signal)
    }
    const message = end.reason.cause === 'closed' ? 'the port was closed' : end.reason.message
    const gone = end.reason.cause === 'unplugged'
    this.#set({
      state: 'absent',
      reason: this.#grabbed ? this.#absentReason() : `${gone ? 'unplugged' : 'lost'}: ${message}`,
    })
    if (!gone || io.resolvePath(this.#target) !== undefined) await this.#pause(this.#retryPause.nextMs(), signal)
  }

  /** The name by which the device is found again under another number. */
  #learnStableName(): void {
    const { io, stableFolder = DEFAULT_STABLE_FOLDER } = this.options
    const stable = io.stableNameOf(this.#target, stableFolder)
    if (stable === undefined || stable === this.#target) return
    this.options.log.info(
      { asked: this.#target, stable },
      'the device has a stable name and is found by it from now on',
    )
    this.#unwatch()
    this.#target = stable
    this.#unwatch = this.#watch()
  }

  async #couldNotOpen(error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return
    const reason = explanationOf(error)
    switch (codeOf(error)) {
      case 'E_DEVICE_NOT_A_DEVICE':
        // Once it was one: then this is a moment of a cable being moved.
        if (this.#openings === 0) throw error
        this.#set({ state: 'refused', reason })
        break
      case 'E_DEVICE_ABSENT':
        this.#set({ state: 'absent', reason })
        break
      case 'E_DEVICE_BUSY':
        this.#set({ state: 'busy', reason })
        break
      default:
        this.#set({ state: 'refused', reason })
    }
    await this.#pause(this.#retryPause.nextMs(), signal)
  }

  /** Waits, but not once the node has appeared, vanished or changed its rights since it was last looked at. */
  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    if (this.#changedSinceLook) return
    const wake = new AbortController()
    this.#onChange = () => wake.abort()
    await sleep(this.options.clock, delayMs, AbortSignal.any([signal, wake.signal])).catch(() => {})
    this.#onChange = () => {}
  }

  #converse(transport: ByteTransport, node: string, reopened: boolean, signal: AbortSignal): Promise<EndOfOpening> {
    const { clock, log, silentAfterMs, settings } = this.options
    const { path } = transport
    const bytesBefore = this.#bytesRead
    /** A device at another line rate may find no question in what it hears, and then it answers nothing. */
    const perhaps = (): string =>
      this.#bytesRead > bytesBefore ? '' : ` (not switched on, another port, or not at ${settings.baudRate} baud?)`
    return new Promise((resolve) => {
      const over = new AbortController()
      let identity: string | undefined
      let doubt: string | undefined
      let timer: Timer | undefined
      let everAlive = false
      let lastLifeMs = clock.monotonicMs()
      /** The silence timer runs; it does not while a remedy is awaited. */
      let watched = true

      const finish = (end: EndOfOpening): void => {
        if (over.signal.aborted) return
        over.abort()
        timer?.cancel()
        signal.removeEventListener('abort', onAbort)
        this.#onChange = () => {}
        conversation.end()
        resolve(end)
      }
      const onAbort = (): void => finish({ why: 'stopped' })
      const expectLife = (withinMs: number, then: () => void): void => {
        timer?.cancel()
        timer = clock.after(withinMs, then)
      }
      // One timer for all signs of life, not one each: they may come a thousand times a second.
      const checkSilence = (): void => {
        const restMs = lastLifeMs + silentAfterMs - clock.monotonicMs()
        if (restMs > 0) expectLife(restMs, checkSilence)
        else onSilence()
      }
      const silentReason = (tried: string): string => {
        const what =
          doubt ?? (everAlive ? `nothing came for ${silentAfterMs} ms` : `open, but nothing has come yet${perhaps()}`)
        return `${what}${tried}`
      }
      const onSilence = (): void => {
        watched = false
        this.#set({ state: 'silent', path, reason: silentReason('') })
        if (this.#remedyPause !== undefined) expectLife(this.#remedyPause.nextMs(), remedy)
      }
      const remedy = (): void => {
        const stages = ['ask again', 'reopen', 'reset'] as const
        const stage = stages[this.#remedyStage % stages.length]
        this.#remedyStage += 1
        const acting =
          stage === 'ask again'
            ? conversation.askAgain?.(over.signal)
            : stage === 'reset'
              ? conversation.reset?.(over.signal)
              : undefined
        if (stage !== 'reopen' && acting === undefined) return remedy()
        log.warn({ device: this.#target, remedy: stage }, 'the device is silent; trying a remedy')
        if (acting === undefined) return finish({ why: 'again', reason: silentReason('') })
        acting.catch((error: unknown) => {
          log.warn({ device: this.#target, remedy: stage, reason: messageOf(error) }, 'the remedy failed')
        })
        this.#set({ state: 'silent', path, reason: silentReason(`; tried: ${stage}`) })
        expectLife(this.#remedyPause?.nextMs() ?? silentAfterMs, remedy)
      }

      this.#set({ state: 'open', path })
      if (reopened) this.options.onReopened?.('the port was opened again')
      const conversation = this.options.begin({
        transport,
        identified: (text) => {
          identity = text
          if (!over.signal.aborted && this.state.value.state !== 'producing') {
            this.#set({ state: 'identified', path, identity })
          }
        },
        alive: () => {
          if (over.signal.aborted) return
          everAlive = true
          this.#remedyStage = 0
          this.#remedyPause?.reset()
          this.#retryPause.reset()
          this.#grabbed = false
          this.#set({ state: 'producing', path, identity: identity ?? this.#target })
          lastLifeMs = clock.monotonicMs()
          if (!watched) expectLife(silentAfterMs, checkSilence)
          watched = true
        },
        roundTrip: (durationMs) => {
          this.#roundTripMs = Math.round(durationMs * 10) / 10
        },
        doubt: (reason) => {
          if (doubt === reason) return
          doubt = reason
          const { state } = this.state.value
          // Nonsense from the start need not wait for silence to be called so.
          if (reason !== undefined && (state === 'silent' || state === 'open')) {
            this.#set({ state: 'silent', path, reason: silentReason('') })
          }
        },
      })
      expectLife(silentAfterMs, checkSilence)
      signal.addEventListener('abort', onAbort, { once: true })
      if (signal.aborted) return onAbort()
      this.#onChange = () => {
        const now = this.options.io.resolvePath(this.#target)
        if (now === undefined || now === node) return
        const message = `${this.#target} stands for ${now} now, no longer for ${node}`
        finish({ why: 'closed', reason: { cause: 'unplugged', message } })
      }
      transport.onClose((reason) => finish({ why: 'closed', reason }))
      transport.onData((chunk) => {
        if (over.signal.aborted) return
        this.#bytesRead += chunk.length
        conversation.onData(chunk)
      })
      this.#isSpokenTo = conversation.run !== undefined
      conversation
        .run?.(over.signal)
        .catch((error: unknown) => finish({ why: 'again', reason: `${explanationOf(error)}${perhaps()}` }))
    })
  }
}
