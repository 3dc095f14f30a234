/** The composition root of one attached device: every part is made here, and here alone. */
import type { ChannelCredentials } from '@grpc/grpc-js'
import { StateCell } from '../base/cell.js'
import { withDeadline } from '../base/clock.js'
import { explanationOf, GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import { version } from '../base/version.js'
import type { Device } from '../device/contract.js'
import { loadDriver } from '../device/catalogue.js'
import { isPairDevice } from '../device/pair-contract.js'
import { withTraceReplay } from '../device/trace-replay.js'
import { createNodeIo } from '../io/node-io.js'
import type { LinkStopResult } from '../link/contract.js'
import type { AgreedLink } from '../link/link.js'
import { encodeRecord } from '../link/journal.js'
import { addLinkService, LINK_SERVICES } from '../link/link-service.js'
import type { Logger } from '../observe/log.js'
import { createStatistics } from '../observe/statistics.js'
import { createAccessPolicy, type AccessPolicy } from '../rpc/access.js'
import { openChannel, type Channel } from '../rpc/channel.js'
import type { DeviceDetails } from '../rpc/details.js'
import { addDeviceServices } from '../rpc/device-services.js'
import { createProbe } from '../rpc/probe.js'
import type { PairPortSource } from '../rpc/services/pair.js'
import { createDeviceServer, type DeviceServer } from '../rpc/server.js'
import type { Site } from '../site/contract.js'
import { createSite } from '../site/site.js'
import type { Tunnel } from '../tunnel/contract.js'
import { createTunnel } from '../tunnel/tunnel.js'
import { composeKeeper } from './compose-keeper.js'
import { composeTls, type GatewayTls } from './compose-tls.js'
import { composeLink, followLink, followSession } from './compose-link.js'
import { composeMetrics, type GatewayMetrics } from './compose-metrics.js'
import { pairSource } from './compose-pair.js'
import { composeTags } from './compose-tags.js'
import { tunnelOptions } from './compose-tunnel.js'
import { keepPort } from './kept-port.js'
import { feedDevice, type DeviceFeed } from './device-feed.js'
import { createDirectProof, type DirectProof } from './direct-proof.js'
import { statusOf } from './gateway-status.js'
import type { HostProcess } from './host.js'
import { narrateDevice, narrateDirect, narrateRegistration, narrateTunnel, partLog } from './narrate.js'
import type { MetricsInput } from './metrics.js'
import type { Plan } from './plan.js'
import type { ServingState } from './serving.js'
import { followSiteRestarts } from './site-restarts.js'
import type { GatewayEvidence, GatewayStatus } from './status-socket.js'

/** Shares of the 5 s in which a stop is done, whatever hangs. */
const stopLinkMs = 1_500
const stopSiteMs = 1_000
const stopTransportsMs = 1_900
const serverDrainMs = 300
/** Between tries to bind a local port that another program holds. */
const bindRetryMs = 3_000

export interface Gateway {
  status(): GatewayStatus
  /** For an audit of the link. */
  evidence(): GatewayEvidence
  /** Tries whatever is waiting again, now. */
  kick(): void
  acceptDivergence(): void
  /** Runs until the host process is asked to end; rejects with what has an exit code. */
  run(): Promise<LinkStopResult>
}

export async function createGateway(plan: Plan, host: HostProcess, log: Logger): Promise<Gateway> {
  const driver = await loadDriver(plan.device.descriptor.name)
  const tls = await composeTls(plan.config, host.clock, log.child({ part: 'tls' }))
  return new ComposedGateway(plan, host, log, (context) => driver.create(withTraceReplay(context)), tls)
}

type CreateDevice = Awaited<ReturnType<typeof loadDriver>>['create']

class ComposedGateway implements Gateway {
  readonly #startedAtMs: number
  readonly #device: Device
  readonly #feed: DeviceFeed
  readonly #server: DeviceServer
  readonly #serving: StateCell<ServingState>
  readonly #tunnel: Tunnel | undefined
  readonly #direct: DirectProof | undefined
  readonly #site: Site | undefined
  readonly #link: AgreedLink
  readonly #policy: AccessPolicy
  readonly #metrics: GatewayMetrics
  /** Ends the parts one after the other; each has its own, so that the order of a stop is ours. */
  readonly #stopDevice = new AbortController()
  readonly #stopSite = new AbortController()
  readonly #stopTunnel = new AbortController()
  /** Aborts with the error of a part that cannot go on. */
  readonly #failed = new AbortController()

  constructor(
    private readonly plan: Plan,
    private readonly host: HostProcess,
    private readonly log: Logger,
    createDevice: CreateDevice,
    private readonly tls: GatewayTls,
  ) {
    const { clock, random } = host
    const { device: devicePlan } = plan
    this.#startedAtMs = clock.nowMs()
    this.#serving = new StateCell<ServingState>({ state: 'binding', reason: 'not started yet' }, clock)
    const statistics = createStatistics(clock, (error) =>
      log.error({ err: error }, 'a listener of the statistics failed'),
    )
    const probe = createProbe({
      random,
      clock,
      version,
      ...(tls.probe === undefined ? {} : { credentials: tls.probe }),
    })

    this.#device = createDevice({
      device: devicePlan.path,
      side: devicePlan.side,
      options: devicePlan.options,
      io: createNodeIo({ clock, log }),
      clock,
      random,
      // What a pair says of its session (a lesson's steps, the host program's complaints) nobody else tells.
      log: devicePlan.descriptor.yields === 'pair' ? log.child({ part: 'device' }) : partLog(log, 'device'),
    })
    const kept = keepPort({ ...plan, id: devicePlan.id, log })
    this.#tunnel =
      plan.tunnel === undefined
        ? undefined
        : createTunnel(tunnelOptions(plan, plan.tunnel, probe.probeSelf, host, log, kept))
    this.#site = plan.siteAgent === undefined ? undefined : this.#createSite(plan.siteAgent)
    if (this.#site !== undefined && this.#tunnel !== undefined) kept.follow(this.#site, this.#tunnel)
    this.#link = composeLink({
      plan,
      host,
      log: log.child({ part: 'link' }),
      device: this.#device,
      totals: this.#site,
      controlAddress: () => this.#controlAddress(),
      peerCredentials: () => tls.client,
    })
    followSession(this.#link, statistics, log)
    followLink(this.#link, log)
    if (this.#site !== undefined) {
      followSiteRestarts(
        this.#site,
        () => this.#controlAddress(),
        () => this.#link.siteAgentRestarted(),
      )
    }
    this.#policy = createAccessPolicy({
      siteHostAddresses: () => this.#tunnel?.hostAddresses() ?? this.#siteHost(),
      allowKeys: plan.config.server?.allow ?? [],
      allowPeers: plan.config.server?.allowPeers ?? [],
      allowLook: plan.config.server?.allowLook ?? [],
      siteCertificates: plan.config.server?.siteCertificates ?? [],
      peerCertificates: plan.config.server?.peerCertificates ?? [],
      peersAreNamed: (plan.config.server?.peerCertificates ?? []).length > 0,
      trustLoopback: plan.config.server?.trustLoopback ?? true,
      sessionPeer: (originator, metadata) => this.#link.sessionPeer(originator, metadata),
    })
    this.#server = createDeviceServer({
      policy: this.#policy,
      clock,
      log: log.child({ part: 'server' }),
      ...(tls.server === undefined ? {} : { credentials: tls.server }),
    })
    addDeviceServices(this.#server, {
      port: this.#link,
      details: () => this.#details(),
      statistics,
      probe,
      ...this.#deviceServices(),
      clock,
      log: log.child({ part: 'server' }),
      others: LINK_SERVICES,
    })
    this.#server.addServices((server, handling) => addLinkService(server, this.#link, handling))
    const deviceLog = log.child({ part: 'device' })
    const yielded = { bytesPerKey: devicePlan.bytesPerKey, yields: devicePlan.descriptor.yields }
    this.#feed = feedDevice(this.#device, this.#link, yielded, statistics, deviceLog, clock)
    this.#tunnel?.onConnection(({ stream, originator }) => this.#server.inject(stream, originator))
    this.#direct =
      this.#tunnel === undefined
        ? createDirectProof(plan.directControlAddress, this.#serving, probe.probeSelf, clock)
        : undefined
    const look = (): MetricsInput => ({
      ...{ status: this.status(), driver: devicePlan.descriptor.name, side: devicePlan.side },
      notSecretBecause: devicePlan.descriptor.notSecretBecause,
      ...{ counts: this.#link.counts(), figures: this.#link.figures(), discarded: this.#feed.discarded() },
      ...{ server: this.#server.counts(), tunnelRoundTripMs: this.#tunnelRoundTripMs() },
    })
    this.#metrics = composeMetrics(plan.config, look, host, log.child({ part: 'metrics' }))
    this.#followProof()
  }

  #tunnelRoundTripMs(): number | undefined {
    const state = this.#tunnel?.state.value ?? this.#direct?.state.value
    return state?.state === 'proven' ? state.roundTripMs : undefined
  }

  /** What the two devices say to each other, for a pair; time tags, for a device that yields them. */
  #deviceServices(): { pair?: PairPortSource } {
    if (isPairDevice(this.#device)) return { pair: pairSource(this.#device, this.#link) }
    if (this.plan.device.descriptor.yields !== 'tags') return {}
    const { port } = composeTags(this.#device)
    return { pair: () => port }
  }

  #createSite(address: HostPort): Site {
    const { clock, random } = this.host
    const { device, config } = this.plan
    return createSite({
      address,
      registration: {
        id: device.id,
        side: device.side,
        kind: device.kind,
        bytesPerKey: device.bytesPerKey,
        switchName: device.switchName,
        switchPorts: device.switchPorts,
      },
      clock,
      random,
      log: partLog(this.log, 'registration'),
      unregisterTimeoutMs: stopSiteMs - 100,
      openChannel: () => this.#openSiteAgent(address),
      ...(config.site?.pollMs === undefined ? {} : { pollMs: config.site.pollMs }),
    })
  }

  #clientTls(): { credentials?: ChannelCredentials } {
    return this.tls.client === undefined ? {} : { credentials: this.tls.client }
  }

  /** From here, or through the tunnel where the configuration says so; with TLS where there is any. */
  #openSiteAgent(address: HostPort): Promise<Channel> {
    const tunnel = this.#tunnel
    const through = this.plan.config.site?.viaTunnel === true && tunnel !== undefined
    return openChannel({
      address: formatHostPort(address),
      what: 'SiteAgent',
      ...this.#clientTls(),
      ...(through ? { dial: (target: HostPort, signal: AbortSignal) => tunnel.dial(target, signal) } : {}),
    })
  }

  /** Without a tunnel a SiteAgent that is called directly is "the site's own host". */
  #siteHost(): readonly string[] {
    return this.plan.siteAgent === undefined ? [] : [this.plan.siteAgent.host]
  }

  #controlAddress(): string | undefined {
    const tunnel = this.#tunnel?.state.value
    if (tunnel !== undefined) return 'controlAddress' in tunnel ? formatHostPort(tunnel.controlAddress) : undefined
    const direct = this.#direct?.state.value
    return direct?.state === 'proven' ? formatHostPort(direct.controlAddress) : undefined
  }

  #details(): DeviceDetails {
    const { id, side, kind, bytesPerKey, switchName, switchPorts } = this.plan.device
    return {
      ...{ id, side, kind, bytesPerKey, switchName, switchPorts },
      controlAddress: this.#controlAddress() ?? '',
      siteAgentAddress: this.plan.siteAgent === undefined ? '' : formatHostPort(this.plan.siteAgent),
    }
  }

  /** The registration waits for a served device service and a proven control address; nothing else waits for anything. */
  #followProof(): void {
    const site = this.#site
    if (site === undefined) return
    const tell = (): void => {
      if (this.#serving.value.state !== 'serving')
        return site.setControlAddress(undefined, 'the device service to be served')
      const tunnel = this.#tunnel?.state.value
      if (tunnel?.state === 'proven') return site.setControlAddress(tunnel.controlAddress, '')
      // A tunnel that is merely in doubt or coming back keeps its registration: the address will be the same.
      if (tunnel?.state === 'degraded') return
      if (tunnel !== undefined && site.state.value.state === 'registered') return
      const direct = this.#direct?.state.value
      if (direct?.state === 'proven') return site.setControlAddress(direct.controlAddress, '')
      site.setControlAddress(
        undefined,
        tunnel === undefined ? 'a control address that leads back here' : 'a proven tunnel',
      )
    }
    tell()
    this.#serving.subscribe(tell)
    this.#tunnel?.state.subscribe(tell)
    this.#direct?.state.subscribe(tell)
  }

  status(): GatewayStatus {
    return statusOf(
      {
        plan: this.plan,
        device: this.#device,
        feed: this.#feed,
        server: this.#server,
        serving: this.#serving,
        tunnel: this.#tunnel,
        direct: this.#direct,
        site: this.#site,
        link: this.#link,
        metrics: this.#metrics.state(),
        policyWarnings: () => [
          ...this.#policy.warnings(this.tls.server !== undefined),
          ...this.tls.warnings(),
          ...this.#metrics.warnings(),
        ],
      },
      this.#startedAtMs,
    )
  }

  evidence(): GatewayEvidence {
    const { record, moving } = this.#link.evidence()
    const { device, siteAgent } = this.plan
    return {
      id: device.id,
      record: encodeRecord(record),
      ...(siteAgent === undefined ? {} : { siteAgent: formatHostPort(siteAgent) }),
      ...(moving === undefined ? {} : { moving: { serial: moving.serial, count: moving.count } }),
    }
  }

  kick(): void {
    this.#tunnel?.kick()
  }

  acceptDivergence(): void {
    this.#link.acceptDivergence()
  }

  /** Starts a part; an error that it cannot go on with stops the whole gateway. */
  #start(name: string, work: Promise<void>): Promise<void> {
    return work.catch((error: unknown) => {
      this.log.error({ part: name, code: error instanceof GatewayError ? error.code : undefined }, explanationOf(error))
      this.#failed.abort(error)
    })
  }

  async #serve(signal: AbortSignal): Promise<void> {
    const { listen } = this.plan
    while (!signal.aborted) {
      try {
        const bound = await this.#server.listen(listen)
        this.#serving.set({ state: 'serving', address: formatHostPort(bound) })
        this.log.info(
          { part: 'server', address: formatHostPort(bound) },
          `device service on ${formatHostPort(bound)} (${this.plan.listenReason})`,
        )
        return
      } catch (error) {
        const reason = explanationOf(error)
        // The tunnel hands its connections over without a local port: only direct callers miss this one.
        if (!(error instanceof GatewayError) || error.code !== 'E_ADDRESS_IN_USE') throw error
        if (this.#serving.value.state !== 'binding' || this.#serving.value.reason !== reason) {
          this.#serving.set({ state: 'binding', reason })
          this.log.warn({ part: 'server' }, `${reason}; trying again every ${bindRetryMs / 1_000} s`)
        }
        await new Promise<void>((resolve) => {
          const timer = this.host.clock.after(bindRetryMs, resolve)
          signal.addEventListener('abort', () => (timer.cancel(), resolve()), { once: true })
        })
      }
    }
  }

  async run(): Promise<LinkStopResult> {
    const ended = AbortSignal.any([this.host.signal, this.#failed.signal])
    narrateDevice(this.#device.state, this.log)
    if (this.#tunnel !== undefined) narrateTunnel(this.#tunnel.state, this.log)
    if (this.#direct !== undefined) narrateDirect(this.#direct.state, this.log)
    if (this.#site !== undefined) narrateRegistration(this.#site.state, this.log)
    const running = {
      server: this.#start('server', this.#serve(ended)),
      device: this.#start('device', this.#device.run(this.#stopDevice.signal)),
      tunnel: this.#start('tunnel', (this.#tunnel ?? this.#direct)?.run(this.#stopTunnel.signal) ?? Promise.resolve()),
      site: this.#start('registration', this.#site?.run(this.#stopSite.signal) ?? Promise.resolve()),
      keeper: this.#start('keepUp', this.#keepUp(ended)),
      metrics: this.#start('metrics', this.#metrics.run(ended)),
    }
    await new Promise<void>((resolve) => {
      if (ended.aborted) return resolve()
      ended.addEventListener('abort', () => resolve(), { once: true })
    })
    const result = await this.#stop(running)
    if (this.#failed.signal.aborted) throw this.#failed.signal.reason
    return result
  }

  /** This gateway's link.keepUp. */
  async #keepUp(signal: AbortSignal): Promise<void> {
    const keeper = composeKeeper({
      section: this.plan.config.link?.keepUp,
      site: this.#site,
      link: this.#link,
      reached: () => {
        const tunnel = this.#tunnel?.state.value
        return (tunnel ?? this.#direct?.state.value)?.state === 'proven'
      },
      openSiteAgent: (address) => this.#openSiteAgent(address),
      openDevice: (address) => openChannel({ address, what: 'control address', ...this.#clientTls() }),
      clock: this.host.clock,
      random: this.host.random,
      log: this.log,
    })
    await keeper?.run(signal)
  }

  /** In this order: session, registration, then everything that carries bytes. Each has its share of 5 s. */
  async #stop(running: Record<'device' | 'tunnel' | 'site', Promise<void>>): Promise<LinkStopResult> {
    const { clock } = this.host
    this.log.info('ending: session, registration, tunnel')
    let result: LinkStopResult = { outcome: 'settled' }
    const bounded = async (what: string, timeoutMs: number, work: () => Promise<void>): Promise<void> => {
      try {
        await withDeadline(clock, timeoutMs, what, work)
      } catch (error) {
        this.log.warn({ part: what }, `ending ${what}: ${messageOf(error)}`)
      }
    }
    await bounded('session', stopLinkMs + 100, async () => {
      result = await this.#link.stop(stopLinkMs)
    })
    this.#stopSite.abort()
    await bounded('registration', stopSiteMs, () => running.site)
    this.#stopDevice.abort()
    this.#stopTunnel.abort()
    this.#serving.set({ state: 'stopped' })
    await Promise.all([
      bounded('server', stopTransportsMs, () => this.#server.shutdown(serverDrainMs)),
      bounded('tunnel', stopTransportsMs, () => running.tunnel),
      bounded('device', stopTransportsMs, () => running.device),
    ])
    this.#feed.stop()
    this.tls.close()
    return result
  }
}
