import { StateCell } from '../../src/base/cell.js'
import { sleep } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import type { DeviceEvent, DeviceState, Driver, DriverContext } from '../../src/device/contract.js'
import { createEventHub, type EventHub } from '../../src/device/event-hub.js'
import {
  type PairControl,
  type PairDevice,
  PairCallError,
  type PairServices,
  type PairSession,
} from '../../src/device/pair-contract.js'
import { type Conversation, SerialSession, type SessionHandle } from '../../src/device/serial-session.js'
import { quieter } from '../../src/observe/log.js'
import { createAlice } from './alice.js'
import { QuantumBoard } from './board.js'
import { createBob } from './bob.js'
import { descriptor } from './descriptor.js'
import { countOf, type ErrorCount, type LessonRun, lessonTable, verdict } from './lesson.js'
import { type EkpqcOptions, ekpqcOptions } from './options.js'
import { BAUD } from './protocol.js'
import type { BoardPort, Role } from './role.js'
import { createWindowKeys, MOST_ERRORS, type WindowKeys } from './window-keys.js'

/** Longer than any answer of the board, the wait for light included. */
const SILENT_AFTER_MS = 90_000
const PING_MS = 15_000

/** One opening of the board's port. */
class BoardConversation implements Conversation {
  #board: QuantumBoard | undefined
  #reset: (error: Error) => void = () => {}

  constructor(
    private readonly handle: SessionHandle,
    private readonly context: DriverContext,
    private readonly options: EkpqcOptions,
    private readonly there: (port: BoardPort | undefined) => void,
    private readonly idle: () => boolean,
  ) {}

  onData(chunk: Uint8Array): void {
    this.#board?.onData(chunk)
  }

  end(): void {
    this.there(undefined)
    this.#board?.end()
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.context
    const { speed } = this.options
    const board = new QuantumBoard(this.handle, clock, signal, speed)
    this.#board = board
    const { threshold } = await board.begin()
    this.handle.identified('EKPQC quantum board (demonstrator, not secure)')
    this.handle.alive()
    const wasReset = new Promise<never>((_, reject) => (this.#reset = reject))
    wasReset.catch(() => {})
    this.there({
      board,
      threshold,
      // Opening the port anew pulls DTR, and that resets the board: the only way to call a run off.
      reset: (reason) => {
        const text = `${reason}; resetting the board`
        this.context.log.warn(text)
        this.#reset(new GatewayError('E_DEVICE_IO', text))
      },
    })
    while (!signal.aborted) {
      await Promise.race([sleep(clock, PING_MS / speed, signal).catch(() => {}), wasReset])
      if (signal.aborted) return
      if (this.idle()) await board.ping()
      this.handle.alive()
    }
  }
}

class EkpqcDevice implements PairDevice {
  readonly state: StateCell<DeviceState>
  readonly pair: PairControl
  readonly #events: EventHub
  readonly #options: EkpqcOptions
  readonly #session: SerialSession
  readonly #keys: WindowKeys
  #port: BoardPort | undefined
  #role: Role | undefined
  #runs = 0
  #kept = 0
  /** Of the session under way. */
  #errors: ErrorCount = { compared: 0, errors: 0 }
  #producing = false

  constructor(private readonly context: DriverContext) {
    const { device, side, io, clock, random, log } = context
    this.#options = ekpqcOptions(context.options)
    this.#events = createEventHub(log)
    this.#keys = createWindowKeys(
      this.#options.runsPerKey,
      this.#options.keyBytes,
      (event) => this.#events.emit(event),
      (text) => log.info(text),
    )
    const { stableFolder } = this.#options
    this.#session = new SerialSession({
      path: device,
      settings: { baudRate: BAUD, dtr: true },
      io,
      clock,
      random,
      // The gateway tells what becomes of the port.
      log: quieter(log),
      begin: (handle) =>
        new BoardConversation(
          handle,
          context,
          this.#options,
          (port) => (this.#port = port),
          () => this.#role === undefined,
        ),
      silentAfterMs: SILENT_AFTER_MS,
      ...(stableFolder === undefined ? {} : { stableFolder }),
    })
    this.state = new StateCell<DeviceState>(this.#session.state.value, clock, (error) =>
      log.error({ reason: messageOf(error) }, 'a listener of the device state failed'),
    )
    this.#session.state.subscribe(() => this.#show())
    const role = (): Role => {
      if (this.#role === undefined) throw new PairCallError('failedPrecondition', 'no session is running')
      return this.#role
    }
    const bob: PairServices = {
      startDetecting: async (at, signal) => role().services.startDetecting?.(at, signal),
      stopDetecting: async (at, signal) => role().services.stopDetecting?.(at, signal),
    }
    const alice: PairServices = {
      verifyBases: async (frames, signal) => (await role().services.verifyBases?.(frames, signal)) ?? [],
    }
    this.pair = {
      services: side === 'alice' ? alice : bob,
      prepare: async (session) => this.#prepare(session),
      start: () => this.#start(),
      quiesce: async () => this.#role?.quiesce(),
      end: async () => this.#end(),
    }
  }

  facts(): Record<string, string | number | boolean> {
    return {
      ...this.#session.facts(),
      runs: this.#runs,
      bitsKept: this.#kept,
      bitsCompared: this.#errors.compared,
      bitsDiffering: this.#errors.errors,
      bitsOfNextKey: this.#keys.bits,
      runsPerKey: this.#options.runsPerKey,
      keyBytes: this.#options.keyBytes,
      inSession: this.#role !== undefined,
    }
  }

  subscribe(listener: (event: DeviceEvent) => void): () => void {
    return this.#events.subscribe(listener)
  }

  async run(signal: AbortSignal): Promise<void> {
    try {
      await this.#session.run(signal)
    } finally {
      this.#end()
    }
  }

  /** The board answering is not yet key: only a sifted run is. */
  #show(): void {
    const now = this.#session.state.value
    const shown = now.state === 'producing' && !this.#producing ? { ...now, state: 'identified' as const } : now
    if (shown.state !== this.state.value.state || shown.state !== 'identified') this.state.set(shown)
  }

  #finished(run: LessonRun): void {
    this.#runs += 1
    const compared = countOf(run.compared)
    this.#kept += countOf(run.answers) - compared
    this.#errors = { compared: this.#errors.compared + compared, errors: this.#errors.errors + run.errors }
    const { log } = this.context
    for (const line of lessonTable(run, this.#options.showBits)) log.info(line)
    const { text, alarming } = verdict(this.#errors, MOST_ERRORS)
    log[alarming ? 'warn' : 'info'](`run ${run.runId}, step 5 of 5: ${text}`)
    if (this.#errors.compared > 0) {
      const percent = (100 * this.#errors.errors) / this.#errors.compared
      this.#events.emit({ type: 'figure', path: ['ErrorCorrection', 'QBER'], value: percent, unit: 'percent' })
    }
    if (this.#producing) return
    this.#producing = true
    this.#show()
  }

  #prepare(session: PairSession): void {
    if (this.#port === undefined) {
      const now = this.state.value
      throw new GatewayError('E_DEVICE_ABSENT', 'reason' in now ? now.reason : `the board is not up yet (${now.state})`)
    }
    this.#end()
    const { clock, random, log, side } = this.context
    const roleContext = {
      clock,
      random,
      log,
      options: this.#options,
      keys: this.#keys,
      emit: (event: DeviceEvent) => this.#events.emit(event),
      port: () => this.#port,
      step: (runId: bigint, step: number, text: string) => log.info(`run ${runId}, step ${step} of 5: ${text}`),
      finished: (run: LessonRun) => {
        const text = `${countOf(run.compared)} bits are compared in public, ${countOf(run.answers) - countOf(run.compared)} kept for the key`
        log.info(`run ${run.runId}, step 4 of 5: ${text}`)
        this.#finished(run)
      },
    }
    this.#role = side === 'alice' ? createAlice(roleContext, session) : createBob(roleContext, session)
  }

  #start(): void {
    if (this.#role === undefined) return
    this.#keys.reset()
    this.#errors = { compared: 0, errors: 0 }
    this.#events.emit({ type: 'renumbered', reason: 'the runs of a session are counted from 0' })
    this.#role.start()
  }

  #end(): void {
    this.#role?.end()
    this.#role = undefined
    this.#producing = false
    this.#show()
  }
}

export const driver: Driver = {
  descriptor,
  create: (context) => new EkpqcDevice(context),
}
