import { StateCell } from '../../src/base/cell.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import type { DeviceState, Driver, DriverContext } from '../../src/device/contract.js'
import { createEventHub, type EventHub } from '../../src/device/event-hub.js'
import {
  type KeyOrdering,
  type PairControl,
  type PairDevice,
  PairCallError,
  type PairServices,
  type PairSession,
} from '../../src/device/pair-contract.js'
import { createAlice } from './alice.js'
import { createBob } from './bob.js'
import { createDelivery, type Delivery } from './delivery.js'
import { descriptor } from './descriptor.js'
import { type DummyOptions, dummyOptions } from './options.js'
import type { Role } from './role.js'

const PATH = 'dummy:'

class DummyDevice implements PairDevice {
  readonly state: StateCell<DeviceState>
  readonly pair: PairControl
  readonly #events: EventHub
  readonly #options: DummyOptions
  readonly #delivery: Delivery
  #running = false
  #role: Role | undefined
  /** The end of the last session, which may still wait for one answer. */
  #ending: Promise<void> = Promise.resolve()
  #sessions = 0
  #framesInDoubt = 0

  constructor(private readonly context: DriverContext) {
    const { clock, log, side } = context
    this.#options = dummyOptions(context.options)
    this.#events = createEventHub(log)
    this.#delivery = createDelivery(this.#options.keyBytes, (event) => this.#events.emit(event))
    this.state = new StateCell<DeviceState>({ state: 'opening' }, clock, (error) =>
      log.error({ reason: messageOf(error) }, 'a listener of the device state failed'),
    )
    const role = (): PairServices => {
      if (this.#role === undefined) throw new PairCallError('failedPrecondition', 'no session is running')
      return this.#role.services
    }
    const bob: PairServices = {
      startDetecting: async (at, signal) => role().startDetecting?.(at, signal),
      stopDetecting: async (at, signal) => role().stopDetecting?.(at, signal),
      onPhoton: async (photons, signal) => role().onPhoton?.(photons, signal),
    }
    const alice: PairServices = {
      verifyBases: async (frames, signal) => (await role().verifyBases?.(frames, signal)) ?? [],
    }
    this.pair = {
      services: side === 'alice' ? alice : bob,
      prepare: (session) => this.#prepare(session),
      start: (ordering) => this.#start(ordering),
      quiesce: async () => this.#role?.quiesce(),
      end: async () => this.#end(),
    }
  }

  facts(): Record<string, string | number | boolean> {
    const { keyBytes, qubits, frameMs } = this.#options
    return {
      keyBytes,
      qubitsPerFrame: qubits,
      frameMs,
      sessions: this.#sessions,
      keys: this.#delivery.keys.toString(),
      inSession: this.#role !== undefined,
      ...(this.#framesInDoubt === 0 ? {} : { framesInDoubt: this.#framesInDoubt }),
    }
  }

  subscribe(listener: Parameters<EventHub['subscribe']>[0]): () => void {
    return this.#events.subscribe(listener)
  }

  run(signal: AbortSignal): Promise<void> {
    this.#running = true
    this.#identified()
    return new Promise((resolve) => {
      const stop = (): void => {
        this.#running = false
        void this.#end()
        this.state.set({ state: 'stopped' })
        resolve()
      }
      if (signal.aborted) return stop()
      signal.addEventListener('abort', stop, { once: true })
    })
  }

  get #identity(): string {
    return `Dummy ${this.context.side}`
  }

  #identified(): void {
    this.state.set({ state: 'identified', path: PATH, identity: this.#identity })
  }

  async #prepare(session: PairSession): Promise<void> {
    if (!this.#running) throw new GatewayError('E_DEVICE_ABSENT', 'the dummy device is not running')
    await this.#end()
    const { clock, random, log, side } = this.context
    const roleContext = {
      clock,
      random,
      log,
      options: this.#options,
      delivery: this.#delivery,
      emit: (event: Parameters<EventHub['emit']>[0]) => this.#events.emit(event),
      produced: () => {
        const { state } = this.state.value
        if (state !== 'identified' && state !== 'silent') return
        this.state.set({ state: 'producing', path: PATH, identity: this.#identity })
      },
      silent: (reason: string) => {
        if (this.#running) this.state.set({ state: 'silent', path: PATH, reason })
      },
      inDoubt: (frameId: bigint) => {
        this.#framesInDoubt += 1
        log.error({ frame: String(frameId) }, 'the peer may have given out keys of a frame that this side lacks')
      },
    }
    this.#role = side === 'alice' ? createAlice(roleContext, session) : createBob(roleContext, session)
    this.#sessions += 1
  }

  #start(ordering: KeyOrdering): void {
    if (this.#role === undefined) return
    this.#delivery.begin(ordering)
    this.#role.start(ordering)
  }

  #end(): Promise<void> {
    const role = this.#role
    this.#role = undefined
    if (role === undefined) return this.#ending
    if (this.#running) this.#identified()
    this.#ending = role.end()
    return this.#ending
  }
}

export const driver: Driver = {
  descriptor,
  create: (context) => new DummyDevice(context),
}
