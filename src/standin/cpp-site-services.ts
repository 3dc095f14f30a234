/** The services of a C++ SiteAgent: who is registered, which links run, and the calls that start and stop them. */
import { networkInterfaces } from 'node:os'
import { status } from '@grpc/grpc-js'
import type * as grpc from '@grpc/grpc-js'
import { clone, create, type MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'
import { ControlDetailsSchema, type ControlDetails } from '../rpc/gen/cqp/remote/device_pb.js'
import { addUnary } from '../rpc/bridge.js'
import { INetworkManager } from '../rpc/gen/cqp/remote/network_pb.js'
import { SessionDetailsSchema } from '../rpc/gen/cqp/remote/session_pb.js'
import {
  ISiteAgent,
  PhysicalPathSchema,
  SiteSchema,
  type HopPair,
  type PhysicalPath,
  type Site,
} from '../rpc/gen/cqp/remote/site_pb.js'
import { RpcError } from '../rpc/rpc-error.js'
import { type CppFaults, type CppSiteAgentOptions, type RightCall } from './cpp-options.js'
import { DeviceSession, shuffled } from './device-session.js'
import { KeyService } from './key-service.js'
import type { KeptKeys, StandinKeyStore } from './key-store.js'
import { KeyTransferClient } from './key-transfer.js'
import { ReportServer } from './report-server.js'
import type { SiteAgentEvent, StepName } from './site-agent-events.js'
import { registerNetworkManager, StaticLinks } from './static-links.js'
import { callUnary, dial, untilConnected } from './wire.js'

export interface CppSiteServicesOptions extends Omit<CppSiteAgentOptions, 'faults'> {
  readonly url: string
  readonly address: string
  readonly clock: Clock
  readonly random: Random
  readonly faults: CppFaults
  readonly emit: (event: SiteAgentEvent) => void
  readonly kept: (storeName: string) => KeptKeys | undefined
}

interface LinkInUse {
  readonly session: DeviceSession
  readonly store: StandinKeyStore
}

const forever = new Promise<never>(() => {})
const defaultLeftOrder = ['WaitForSession', 'GetStatistics'] as const
const defaultRightOrder = ['RunSession', 'GetStatistics', 'WaitForSession'] as const

export class CppSiteServices {
  readonly #devices: ControlDetails[] = []
  readonly #links = new Map<string, LinkInUse>()
  #invented: ControlDetails[] = []
  readonly #siteClients = new Map<string, grpc.Client>()
  readonly #reports: ReportServer
  readonly #keys: KeyService
  readonly #staticLinks: StaticLinks | undefined
  readonly #keyTransfer: KeyTransferClient | undefined

  constructor(private readonly options: CppSiteServicesOptions) {
    const { clock } = options
    this.#reports = new ReportServer(clock)
    this.#keys = new KeyService({
      name: options.name,
      connectionAddress: options.url,
      clock,
      waitMs: options.keyWaitMs ?? 30_000,
      reports: this.#reports,
      mayReport: () => !options.faults.reportsNothing,
      siteClient: (address) => this.#siteClient(address),
      kept: options.kept,
    })
    if (options.keyTransferAddress !== undefined) {
      this.#keyTransfer = new KeyTransferClient({ address: options.keyTransferAddress, clock })
    }
    if (options.staticHops !== undefined) {
      const ok = (call: Promise<unknown>): Promise<boolean> =>
        call.then(
          () => true,
          () => false,
        )
      const first = (path: PhysicalPath): grpc.Client => this.#siteClient(path.hops[0]?.first?.site ?? '')
      this.#staticLinks = new StaticLinks({
        paths: options.staticHops.map((hops) =>
          create(PhysicalPathSchema, { hops: hops.map((hop) => ({ first: hop.first, second: hop.second })) }),
        ),
        startNode: (path) => ok(callUnary(first(path), ISiteAgent.method.startNode, path)),
        endKeyExchange: (path) => ok(callUnary(first(path), ISiteAgent.method.endKeyExchange, path)),
      })
    }
  }

  stores(): ReadonlyMap<string, StandinKeyStore> {
    return this.#keys.stores
  }

  shownDevices(): { id: string; controlAddress: string }[] {
    return this.#devices.map((details) => ({
      id: details.config?.id ?? '',
      controlAddress: this.#controlAddress(details),
    }))
  }

  inUse(): string[] {
    return [...this.#links.keys()]
  }

  killStreams(): void {
    for (const { session } of this.#links.values()) session.cut()
  }

  readAgain(): void {
    for (const { session } of this.#links.values()) session.readsAgain()
  }

  close(): void {
    for (const { session } of this.#links.values()) session.close()
    for (const client of this.#siteClients.values()) client.close()
    this.#keyTransfer?.close()
    this.#keys.close()
  }

  register(server: grpc.Server): void {
    const agent = ISiteAgent.method
    addUnary(server, agent.registerDevice, (details) => this.#registerDevice(details))
    addUnary(server, agent.unregisterDevice, ({ id }) => this.#unregisterDevice(id))
    addUnary(server, agent.getSiteDetails, () =>
      this.options.faults.detailsNeverAnswer ? forever : this.#siteDetails(),
    )
    addUnary(server, agent.startNode, (path) => this.#startNode(path))
    addUnary(server, agent.endKeyExchange, (path) => this.#endKeyExchange(path))
    this.#keys.register(server)
    this.#reports.register(server)
    if (this.#staticLinks !== undefined) registerNetworkManager(server, this.#staticLinks)
  }

  async #registerDevice(details: ControlDetails): Promise<object> {
    const { faults, clock } = this.options
    if (faults.registerNeverAnswers) return forever
    if (faults.registerRefusedWith !== undefined) throw new RpcError(faults.registerRefusedWith, 'refused on command')
    // Appended, whatever is there: the first entry of an id goes on being used.
    this.#devices.push(clone(ControlDetailsSchema, details))
    const step = this.options.seat === 'right' ? 2 : 1
    this.#step(step, 'RegisterDevice', details.config?.id ?? '')
    await this.#tellNetworkManager()
    if (faults.registerDelayMs > 0) {
      await new Promise<void>((resolve) => void clock.after(faults.registerDelayMs, resolve))
    }
    return {}
  }

  async #unregisterDevice(id: string): Promise<object> {
    const index = this.#devices.findIndex((details) => details.config?.id === id)
    if (index < 0) throw new RpcError(status.NOT_FOUND, 'Device not registered')
    this.#devices.splice(index, 1)
    const left = this.#devices.filter((details) => details.config?.id === id).length
    this.options.emit({ event: 'unregistered', site: this.options.name, deviceId: id, left, atMs: this.#nowMs() })
    await this.#tellNetworkManager()
    return {}
  }

  /** At the manager's own site before the call is answered; at another just after. */
  async #tellNetworkManager(): Promise<void> {
    if (this.#staticLinks !== undefined) await this.#staticLinks.registerSite(this.#siteDetails())
    const manager = this.options.networkManager
    if (manager === undefined) return
    setImmediate(() => {
      callUnary(this.#siteClient(manager), INetworkManager.method.registerSite, this.#siteDetails()).catch(
        (error: unknown) => this.#note(`network manager: ${String(error)}`),
      )
    })
  }

  #siteDetails(): Site {
    const wanted = this.options.faults.inventedDevices
    if (wanted !== this.#invented.length) this.#invented = inventedDevices(wanted)
    return create(SiteSchema, { url: this.options.url, devices: [...this.#invented, ...this.#devices] })
  }

  async #startNode(path: PhysicalPath): Promise<object> {
    if (path.hops.length === 0) throw new RpcError(status.NOT_FOUND, 'No hops specified')
    for (const hop of path.hops) {
      if (this.#isThisSite(hop.first?.site)) await this.#startLeft(path, hop)
      else if (this.#isThisSite(hop.second?.site)) await this.#startRight(hop)
    }
    return {}
  }

  async #startLeft(path: PhysicalPath, hop: HopPair): Promise<void> {
    const deviceId = hop.first?.deviceId ?? ''
    const otherSite = hop.second?.site ?? ''
    this.#step(3, 'StartNode', deviceId)
    const details = this.#devices.find((device) => device.config?.id === deviceId)
    if (details === undefined) throw new RpcError(status.NOT_FOUND, `Unknown device: ${deviceId}`)
    const params = create(SessionDetailsSchema, hop.params ?? {})
    if (this.#links.has(deviceId)) this.#note(`${deviceId}: Hop already active`)
    else {
      const store = this.#keys.store(otherSite)
      const initial = store.unusedCount > 0 ? await store.takeNew() : undefined
      if (initial?.ok === true) params.initialKeyId = initial.value.id
      const initialKey = initial?.ok === true ? initial.value.key : (this.options.fallbackKey ?? new Uint8Array(0))
      const session = this.#openSession(deviceId, this.#controlAddress(details), store, initialKey, 4)
      await session.connect()
      await session.start(this.options.leftOrder ?? shuffled(defaultLeftOrder, this.options.random), {}, '')
    }
    const forwarded = clone(PhysicalPathSchema, path)
    for (const pair of forwarded.hops) {
      if (pair.first?.deviceId !== deviceId) continue
      // A value that is already there is overwritten.
      pair.first.deviceAddress = this.#controlAddress(details)
      pair.params = params
    }
    this.#step(5, 'StartNode', deviceId)
    try {
      const client = this.#siteClient(otherSite)
      await untilConnected(client, this.options.connectWaitMs ?? 10_000)
      await callUnary(client, ISiteAgent.method.startNode, forwarded)
    } catch (error) {
      await this.#stopDevice(deviceId)
      throw error
    }
  }

  async #startRight(hop: HopPair): Promise<void> {
    const deviceId = hop.second?.deviceId ?? ''
    const details = this.#devices.find((device) => device.config?.id === deviceId)
    if (details === undefined) {
      // The caller hears nothing of it: the answer is OK.
      this.#note(`${deviceId}: unknown device`)
      return
    }
    const params: MessageInitShape<typeof SessionDetailsSchema> = hop.params ?? {}
    const peerAddress = hop.first?.deviceAddress ?? ''
    const running = this.#links.get(deviceId)
    if (running !== undefined) {
      this.#note(`${deviceId}: Hop already active`)
      await running.session.start(['RunSession'], params, peerAddress)
      await running.session.ran()
      return
    }
    const store = this.#keys.store(hop.first?.site ?? '')
    const initialKey = await this.#rightInitialKey(store, hop.params?.initialKeyId ?? 0n)
    const session = this.#openSession(deviceId, this.#controlAddress(details), store, initialKey, 6)
    await session.connect()
    await session.start(
      this.options.rightOrder ?? shuffled(defaultRightOrder, this.options.random),
      params,
      peerAddress,
    )
    await session.ran()
  }

  async #rightInitialKey(store: StandinKeyStore, initialKeyId: bigint): Promise<Uint8Array> {
    const initial =
      initialKeyId !== 0n
        ? await store.takeExisting(initialKeyId)
        : store.unusedCount > 0
          ? await store.takeNew()
          : undefined
    if (initial?.ok === true) return initial.value.key
    return this.options.fallbackKey ?? new Uint8Array(0)
  }

  #openSession(
    deviceId: string,
    address: string,
    store: StandinKeyStore,
    initialKey: Uint8Array,
    waitStep: 4 | 6,
  ): DeviceSession {
    const { options } = this
    let keysOfSession = 0
    const session = new DeviceSession({
      deviceId,
      address,
      ...(options.credentials === undefined ? {} : { clientCredentials: options.credentials.client }),
      connectWaitMs: options.connectWaitMs ?? 10_000,
      initialKey,
      faults: options.faults,
      clock: options.clock,
      random: options.random,
      takeIn: async (keys) => {
        const limit = options.stopsReadingAfterKeys
        if (limit !== undefined && keysOfSession > limit) return forever
        keysOfSession += keys.length
        await this.#takeIn(store, deviceId, keys)
        if (limit !== undefined && keysOfSession > limit) this.#note(`${deviceId}: reads nothing more`)
      },
      onReport: (report) => {
        const { url, name } = options
        const parameters = { ...report.parameters, siteTo: store.destination, siteFrom: url, siteName: name }
        this.#reports.publish({ ...report, parameters })
      },
      onCall: (name: RightCall) => this.#step(name === 'RunSession' ? 7 : waitStep, name, deviceId),
      onAnswer: (name, code, details) =>
        options.emit({ event: 'answer', site: options.name, name, deviceId, code, details, atMs: this.#nowMs() }),
      onStreamEnded: (code, details) =>
        options.emit({ event: 'stream-ended', site: options.name, deviceId, code, details, atMs: this.#nowMs() }),
    })
    this.#links.set(deviceId, { session, store })
    return session
  }

  async #takeIn(store: StandinKeyStore, deviceId: string, keys: readonly Uint8Array[]): Promise<void> {
    if (this.#keyTransfer !== undefined) {
      for (const key of keys) if (!(await this.#keyTransfer.pass(key, store.nextId, deviceId))) return
    }
    store.onKeys(keys)
    this.options.emit({
      event: 'keys',
      site: this.options.name,
      store: store.destination,
      batch: keys.length,
      count: store.received.length,
      digest: store.digest() ?? '',
      atMs: this.#nowMs(),
    })
  }

  async #endKeyExchange(path: PhysicalPath): Promise<object> {
    let stopped = false
    for (const hop of path.hops) {
      if (this.#isThisSite(hop.first?.site)) {
        stopped = (await this.#stopDevice(hop.first?.deviceId ?? '')) || stopped
        if (stopped) await callUnary(this.#siteClient(hop.second?.site ?? ''), ISiteAgent.method.endKeyExchange, path)
      } else if (this.#isThisSite(hop.second?.site)) {
        stopped = (await this.#stopDevice(hop.second?.deviceId ?? '')) || stopped
      }
    }
    if (!stopped) throw new RpcError(status.INVALID_ARGUMENT, 'Unknown device')
    return {}
  }

  async #stopDevice(deviceId: string): Promise<boolean> {
    const link = this.#links.get(deviceId)
    if (link === undefined) return false
    await link.session.stop()
    this.#links.delete(deviceId)
    this.options.emit({ event: 'session-ended', site: this.options.name, deviceId, atMs: this.#nowMs() })
    return true
  }

  #siteClient(address: string): grpc.Client {
    const present = this.#siteClients.get(address)
    if (present !== undefined) return present
    const credentials = this.options.credentials?.client
    const client = dial(address, credentials === undefined ? {} : { credentials })
    this.#siteClients.set(address, client)
    return client
  }

  #controlAddress(details: ControlDetails): string {
    return this.options.dialect === 'openqkd' ? details.controlAddress : details.bindAddress
  }

  /** Its own address, or the same port at any address of its own interfaces. */
  #isThisSite(site: string | undefined): boolean {
    if (site === undefined) return false
    if (site === this.options.url || site === this.options.address) return true
    const [host, port] = splitLast(site)
    if (port !== splitLast(this.options.url)[1]) return false
    if (host === 'localhost' || host === '127.0.0.1') return true
    return Object.values(networkInterfaces()).some((list) => list?.some((entry) => entry.address === host))
  }

  #step(step: 1 | 2 | 3 | 4 | 5 | 6 | 7, name: StepName, deviceId: string): void {
    this.options.emit({ event: 'step', step, name, site: this.options.name, deviceId, atMs: this.#nowMs() })
  }

  #note(text: string): void {
    this.options.emit({ event: 'note', site: this.options.name, text, atMs: this.#nowMs() })
  }

  #nowMs(): number {
    return this.options.clock.nowMs()
  }
}

function splitLast(address: string): [string, string] {
  const at = address.lastIndexOf(':')
  return at < 0 ? [address, ''] : [address.slice(0, at), address.slice(at + 1)]
}

/** Entries as a SiteAgent gathers them over the years, 340 bytes each. */
function inventedDevices(count: number): ControlDetails[] {
  return Array.from({ length: count }, (_, index) =>
    create(ControlDetailsSchema, {
      config: { id: `invented-device-number-${index}`, kind: 'invented', switchName: 'x'.repeat(240) },
      bindAddress: `192.0.2.1:${index % 65_536}`,
      controlAddress: `192.0.2.1:${index % 65_536}`,
    }),
  )
}
