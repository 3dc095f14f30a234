/**
 * A C++ SiteAgent (CQPToolkit 0.4) as peers meet it: a real gRPC server and client that behaves as the original does,
 * its mistakes included. What goes wrong beyond that is a named switch in `faults`.
 */
import * as grpc from '@grpc/grpc-js'
import type { Unsubscribe } from '../base/cell.js'
import { systemClock, type Clock } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { systemRandom, type Random } from '../base/random.js'
import { noFaults, type CppFaults, type CppSiteAgentOptions } from './cpp-options.js'
import { CppSiteServices } from './cpp-site-services.js'
import { EventLog } from './event-log.js'
import type { SiteAgentEvent } from './site-agent-events.js'
import type { KeptKeys, StandinKeyStore } from './key-store.js'
import { bind } from './wire.js'

/** A running stand-in of a SiteAgent. */
export interface StandinSiteAgent {
  readonly name: string
  /** host:port that it listens on. */
  readonly address: string
  /** What it calls itself in GetSiteDetails. */
  readonly url: string
  readonly events: EventLog<SiteAgentEvent>
  readonly faults: CppFaults
  on(listener: (event: SiteAgentEvent) => void): Unsubscribe
  /** Keys in order of arrival; of the store named, or of the only one. Empty while there is none. */
  receivedKeys(destination?: string): readonly Uint8Array[]
  /** Hex SHA-256 over the first `count` keys in order of arrival; undefined while fewer came. */
  digest(count?: number, destination?: string): string | undefined
  /** Devices as registered now, first entry first. */
  devices(): readonly { id: string; controlAddress: string }[]
  /** Ids of devices in use. */
  inUse(): readonly string[]
  /** Cuts every stream to devices as a failing tunnel does: the site notices, and does nothing. */
  killStreams(): void
  /** A changed switch takes effect on what waits: call after `readsNothing` was switched off. */
  readAgain(): void
  /** Dies and comes back at the same address after `downMs`; devices and, without a backing store, keys are forgotten. */
  restart(downMs?: number): Promise<void>
  /** Dies as a killed process: nobody is told. */
  close(): Promise<void>
}

class CppSiteAgent implements StandinSiteAgent {
  readonly name: string
  readonly events = new EventLog<SiteAgentEvent>()
  readonly faults: CppFaults
  readonly #clock: Clock
  readonly #random: Random
  #server: grpc.Server | undefined
  #services: CppSiteServices | undefined
  #port: number
  #address = ''
  #backing: ReadonlyMap<string, KeptKeys> = new Map()

  constructor(private readonly options: CppSiteAgentOptions) {
    this.name = options.name
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? systemRandom
    this.#port = options.port ?? 0
    this.faults = { ...noFaults(), ...options.faults }
  }

  get address(): string {
    return this.#address
  }

  get url(): string {
    return this.options.connectionAddress ?? this.#address
  }

  async start(): Promise<void> {
    const host = this.options.host ?? '127.0.0.1'
    const server = new grpc.Server({
      'grpc.max_receive_message_length': 4 * 1024 * 1024,
      'grpc.max_send_message_length': -1,
    })
    // Port 0 is bound first and the services are added before anybody can know the address.
    this.#port = await bind(server, `${host}:${this.#port}`, this.options.credentials?.server)
    this.#address = `${host}:${this.#port}`
    const services = new CppSiteServices({
      ...this.options,
      url: this.url,
      address: this.#address,
      clock: this.#clock,
      random: this.#random,
      faults: this.faults,
      emit: (event) => this.events.emit(event),
      kept: (store) => this.#backing.get(store),
    })
    services.register(server)
    this.#server = server
    this.#services = services
    this.events.emit({ event: 'listening', site: this.name, address: this.#address, atMs: this.#clock.nowMs() })
  }

  on(listener: (event: SiteAgentEvent) => void): Unsubscribe {
    return this.events.on(listener)
  }

  receivedKeys(destination?: string): readonly Uint8Array[] {
    return this.#store(destination)?.received ?? []
  }

  digest(count?: number, destination?: string): string | undefined {
    return this.#store(destination)?.digest(count)
  }

  devices(): readonly { id: string; controlAddress: string }[] {
    return this.#services?.shownDevices() ?? []
  }

  inUse(): readonly string[] {
    return this.#services?.inUse() ?? []
  }

  killStreams(): void {
    this.#services?.killStreams()
  }

  readAgain(): void {
    this.#services?.readAgain()
  }

  async restart(downMs = 0): Promise<void> {
    await this.close()
    if (downMs > 0) await new Promise<void>((resolve) => void this.#clock.after(downMs, resolve))
    await this.start()
    this.events.emit({ event: 'restarted', site: this.name, address: this.#address, atMs: this.#clock.nowMs() })
  }

  async close(): Promise<void> {
    const services = this.#services
    this.#services = undefined
    if (services !== undefined) {
      if (this.options.backingStore === true) {
        this.#backing = new Map([...services.stores()].map(([name, store]) => [name, store.kept()]))
      }
      services.close()
    }
    this.#server?.forceShutdown()
    this.#server = undefined
  }

  #store(destination?: string): StandinKeyStore | undefined {
    const stores = this.#services?.stores() ?? new Map<string, StandinKeyStore>()
    if (destination !== undefined) return stores.get(destination)
    if (stores.size > 1) {
      throw new GatewayError('E_USAGE', `${this.name} has ${stores.size} key stores: name one`, {
        remedy: [...stores.keys()].join(', '),
      })
    }
    return stores.values().next().value
  }
}

/** Starts a C++ SiteAgent; resolves when it listens. */
export async function startCppSiteAgent(options: CppSiteAgentOptions): Promise<StandinSiteAgent> {
  const agent = new CppSiteAgent(options)
  await agent.start()
  return agent
}
