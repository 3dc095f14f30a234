import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { StateCell } from '../../src/base/cell.js'
import { sleep } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import type { DeviceEvent, DeviceState, Driver, DriverContext } from '../../src/device/contract.js'
import { createEventHub, type EventHub } from '../../src/device/event-hub.js'
import {
  type KeyOrdering,
  type PairControl,
  type PairDevice,
  PairCallError,
  type PairServices,
  type PairSession,
} from '../../src/device/pair-contract.js'
import { startProgram, type StartProgram } from '../../src/io/child.js'
import { openDatagramPort, type OpenDatagramPort } from '../../src/io/udp.js'
import { createAlice } from './alice.js'
import { createBob } from './bob.js'
import { descriptor } from './descriptor.js'
import { clavis2Options, type Clavis2Options } from './options.js'
import type { Role } from './unit.js'

/** How often the program is looked for, ms. */
const LOOK_MS = 2_000

/** What of the system the driver uses beyond its context. */
export interface Clavis2System {
  startProgram: StartProgram
  openDatagramPort: OpenDatagramPort
}

class Clavis2Device implements PairDevice {
  readonly state: StateCell<DeviceState>
  readonly pair: PairControl
  readonly #events: EventHub
  readonly #options: Clavis2Options
  #installed = false
  #running = false
  #role: Role | undefined
  #sessions = 0
  #keys = 0

  constructor(
    private readonly context: DriverContext,
    private readonly system: Clavis2System,
  ) {
    const { clock, log, side } = context
    this.#options = clavis2Options(context.device, context.options)
    this.#events = createEventHub(log)
    this.state = new StateCell<DeviceState>({ state: 'absent', reason: 'not looked for yet' }, clock, (error) =>
      log.error({ reason: messageOf(error) }, 'a listener of the device state failed'),
    )
    const bob: PairServices = {
      useKeyIds: async (batches, signal) => {
        if (this.#role === undefined) throw new PairCallError('failedPrecondition', 'no session is running')
        await this.#role.services.useKeyIds?.(batches, signal)
      },
    }
    this.pair = {
      services: side === 'bob' ? bob : {},
      prepare: (session) => this.#prepare(session),
      start: (ordering: KeyOrdering) => this.#role?.start(ordering),
      quiesce: async () => this.#role?.quiesce(),
      end: () => this.#end(),
    }
  }

  facts(): Record<string, string | number | boolean> {
    return {
      program: this.#options.program,
      keyBytes: this.#options.keyBytes,
      sessions: this.#sessions,
      keys: this.#keys,
      inSession: this.#role !== undefined,
      ...this.#role?.facts(),
    }
  }

  subscribe(listener: (event: DeviceEvent) => void): () => void {
    return this.#events.subscribe(listener)
  }

  /** Looks for the host program; everything else happens in sessions. */
  async run(signal: AbortSignal): Promise<void> {
    this.#running = true
    try {
      while (!signal.aborted) {
        await this.#look()
        await sleep(this.context.clock, LOOK_MS, signal).catch(() => {})
      }
    } finally {
      this.#running = false
      await this.#end()
      this.state.set({ state: 'stopped' })
    }
  }

  async #look(): Promise<void> {
    const { program } = this.#options
    const reason = await access(program, constants.X_OK).then(
      () => undefined,
      (error: unknown) => `${program} cannot be run: ${messageOf(error)}`,
    )
    this.#installed = reason === undefined
    const now = this.state.value
    if (reason !== undefined) {
      if (now.state !== 'absent' || now.reason !== reason) this.state.set({ state: 'absent', reason })
    } else if (now.state === 'absent') {
      this.#identified()
    }
  }

  get #identity(): string {
    return `Clavis2 ${this.context.side} (by its host program)`
  }

  #identified(): void {
    this.state.set({ state: 'identified', path: this.#options.program, identity: this.#identity })
  }

  async #prepare(session: PairSession): Promise<void> {
    const now = this.state.value
    if (!this.#running || !this.#installed) {
      throw new GatewayError('E_DEVICE_ABSENT', now.state === 'absent' ? now.reason : 'the device is not running', {
        remedy: "install the maker's host program, or name it with --driver-option program=PATH",
      })
    }
    await this.#end()
    const { clock, random, log, side } = this.context
    const unitContext = {
      clock,
      random,
      log,
      options: this.#options,
      ...this.system,
      emit: (event: DeviceEvent) => this.#events.emit(event),
      produced: () => {
        this.#keys += 1
        if (this.state.value.state !== 'identified') return
        this.state.set({ state: 'producing', path: this.#options.program, identity: this.#identity })
      },
    }
    this.#role = side === 'alice' ? createAlice(unitContext, session) : createBob(unitContext, session)
    this.#sessions += 1
  }

  async #end(): Promise<void> {
    const role = this.#role
    this.#role = undefined
    await role?.end()
    if (this.#running && this.state.value.state === 'producing') this.#identified()
  }
}

/** The driver on another system than this machine's, for tests. */
export function createClavis2Driver(system: Clavis2System): Driver {
  return { descriptor, create: (context) => new Clavis2Device(context, system) }
}

export const driver: Driver = createClavis2Driver({ startProgram, openDatagramPort })
