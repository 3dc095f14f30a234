/** The reverse tunnel: connects, keeps up and proves, for ever. */
import { StateCell, type ReadonlyCell, type Unsubscribe } from '../base/cell.js'
import { GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { Duplex } from 'node:stream'
import type { ForwardedConnection, Tunnel, TunnelBackendName, TunnelState } from './contract.js'
import { createBackend } from './backends.js'
import { HostAddresses } from './host-addresses.js'
import { checkPins } from './host-key.js'
import { loadIdentities, stampOf, stampOfAgent, type Identities, type KeyCache } from './identities.js'
import type { LinkTaker, TunnelBackend, TunnelLink } from './link.js'
import { acquireListener, controlAddressOf, describeListener, listenerBefore } from './listener.js'
import { Nudge } from './nudge.js'
import { DEFAULT_TIMINGS, type TunnelOptions, type TunnelTimings } from './options.js'
import { LARGE_REMEDY, ProofKeeper } from './proof-keeper.js'
import { createRetrySchedule } from './retry.js'
import { formatServerAddress } from './server-address.js'
import { watchForSleep } from './sleep-watch.js'
import { Spare } from './spare.js'

/** How often a wait for a better key looks whether the files changed. */
const LOOK_AT_FILES_MS = 2_000

/** Same failure so often in a row: no more tries. */
const AUTH_FAILURES = 2

function asGatewayError(error: unknown): GatewayError {
  return error instanceof GatewayError ? error : new GatewayError('E_CONNECT', messageOf(error), { cause: error })
}

function withRemedy(error: GatewayError): { reason: string; remedy?: string } {
  return { reason: error.message, ...(error.remedy === undefined ? {} : { remedy: error.remedy }) }
}

class SupervisedTunnel implements Tunnel {
  readonly #cell: StateCell<TunnelState>
  readonly #timings: TunnelTimings
  readonly #nudge: Nudge
  /** For what only an operator may set going again. */
  readonly #operator: Nudge
  readonly #retry: ReturnType<typeof createRetrySchedule>
  readonly #hosts: HostAddresses
  readonly #proof: ProofKeeper
  readonly #backend: TunnelBackend
  /** Undefined: none is wanted. */
  readonly #spare: Spare | undefined
  readonly #taker: LinkTaker = {
    accepts: () => this.#listeners.size > 0,
    take: (connection) => this.#take(connection),
  }
  /** Monotonic ms of the last proof. */
  #provenAtMs = Number.NEGATIVE_INFINITY
  readonly #keyCache: KeyCache = new Map()
  readonly #listeners = new Set<(connection: ForwardedConnection) => void>()
  readonly #counts = { attempts: 0, connections: 0, losses: 0, forwarded: 0 }
  #identities: Identities | undefined
  #link: TunnelLink | undefined
  #listener: HostPort | undefined
  #lastAddress: string | undefined
  #lastReason = ''
  #addressWarning: string | undefined
  #nextTryAtMs: number | undefined
  /** What the keys were before the last attempt: one that came while it ran is another one. */
  #triedKeys: Promise<string> = Promise.resolve('')
  #signal: AbortSignal = new AbortController().signal

  constructor(private readonly options: TunnelOptions) {
    this.#timings = { ...DEFAULT_TIMINGS, ...options.timings }
    this.#cell = new StateCell<TunnelState>(
      { state: 'connecting', attempt: 0, reason: 'not started yet' },
      options.clock,
      (error) => options.log.error({ err: error }, 'a listener of the tunnel state failed'),
    )
    this.#nudge = new Nudge(options.clock)
    this.#operator = new Nudge(options.clock)
    this.#listener = listenerBefore(options)
    this.#retry = createRetrySchedule(this.#timings, options.random)
    this.#hosts = new HostAddresses(options.server)
    this.#proof = new ProofKeeper({
      cell: this.#cell,
      options,
      timings: this.#timings,
      hosts: this.#hosts,
      nudge: this.#nudge,
      retry: this.#retry,
      onReason: (reason) => (this.#lastReason = reason),
    })
    this.#backend = createBackend(
      { ...options, pinnedFingerprints: checkPins(options.pinnedFingerprints ?? []) },
      this.#timings,
      () => this.#loadIdentities(),
    )
    if (options.spareConnection === true) {
      this.#spare = new Spare({
        connect: (signal) => (this.#backend.chosen ?? this.#backend).connect(this.#taker, signal),
        timings: this.#timings,
        options,
      })
    }
    this.#cell.subscribe(({ state }) => {
      if (state !== 'proven') return
      this.#provenAtMs = options.clock.monotonicMs()
      if (!this.#signal.aborted) this.#spare?.want()
    })
  }

  get state(): ReadonlyCell<TunnelState> {
    return this.#cell
  }

  get backend(): TunnelBackendName {
    return this.#backend.name
  }

  get keyExchange(): string | undefined {
    return this.#link?.keyExchange
  }

  hostAddresses(): readonly string[] {
    return this.#hosts.list()
  }

  warnings(): readonly string[] {
    const warnings = [...this.#hosts.warnings(), ...(this.#identities?.warnings ?? [])]
    if (this.#link?.postQuantum === false) {
      warnings.push(
        `the tunnel's key exchange (${this.#link.keyExchange}) is not post-quantum: who records the tunnel today can read the keys in it once that exchange is broken`,
      )
    }
    if (!this.#backend.knowsOriginators && this.#link !== undefined) {
      warnings.push(
        'this back end hides who calls: access rules by address do not hold, every caller looks like this machine',
      )
    }
    const lacks = this.#link === undefined ? undefined : this.#backend.choice?.lacks
    if (lacks !== undefined) warnings.push(lacks)
    warnings.push(...this.#proof.warnings())
    if (this.#addressWarning !== undefined) warnings.push(this.#addressWarning)
    return warnings
  }

  facts(): Readonly<Record<string, string | number | boolean>> {
    const link = this.#link
    const connected =
      link === undefined
        ? {}
        : {
            address: link.address,
            keyExchange: link.keyExchange,
            postQuantum: link.postQuantum,
            serverVersion: link.serverVersion,
          }
    const { choice } = this.#backend
    const isChosen = this.options.backend !== 'auto' || choice !== undefined
    const nextTryAtMs = this.#nextTryAtMs
    return {
      healthy: this.#cell.value.state === 'proven',
      ...(nextTryAtMs === undefined
        ? {}
        : { nextTryInMs: Math.max(0, Math.round(nextTryAtMs - this.options.clock.monotonicMs())) }),
      backend: isChosen ? this.backend : 'auto',
      ...(choice === undefined ? {} : { chosenBecause: choice.why }),
      server: formatServerAddress(this.options.server),
      originatorsKnown: this.#backend.knowsOriginators,
      ...connected,
      ...this.#counts,
      ...this.#proof.counts,
      ...(this.#spare === undefined ? {} : { spareConnection: this.#spare.describe(), sparesUsed: this.#spare.used }),
      lastReason: this.#lastReason,
    }
  }

  onConnection(listener: (connection: ForwardedConnection) => void): Unsubscribe {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  dial(target: HostPort, signal: AbortSignal): Promise<Duplex> {
    if (this.#link === undefined) {
      return Promise.reject(
        new GatewayError('E_CONNECT', `${formatHostPort(target)} is reached through the tunnel, which is down`),
      )
    }
    return this.#link.dial(target, signal)
  }

  kick(): void {
    const { state } = this.#cell.value
    // A fresh connection: sshd reads its settings for new ones only.
    if (state === 'listening' || state === 'degraded') this.#link?.destroy('an operator asked for a new connection')
    void this.#spare?.drop('an operator asked for new connections')
    this.#backend.reconsider?.()
    this.#operator.nudge()
    this.#nudge.nudge()
  }

  async run(signal: AbortSignal): Promise<void> {
    this.#signal = signal
    const watch = watchForSleep({
      clock: this.options.clock,
      gapMs: this.#timings.sleepGapMs,
      onDoubt: (reason) => this.#doubt(reason),
    })
    let spareGone: Promise<void> | undefined
    const endSpare = (): void => void (spareGone ??= this.#spare?.drop('the tunnel is stopping'))
    signal.addEventListener('abort', endSpare, { once: true })
    try {
      await this.#loadIdentities()
      await this.#connectForEver(signal)
    } catch (error) {
      if (!signal.aborted) {
        const failure = asGatewayError(error)
        this.#cell.set({
          state: 'needs-attention',
          reason: failure.message,
          remedy: failure.remedy ?? 'see the reason',
        })
        throw failure
      }
    } finally {
      watch.stop()
      endSpare()
      await spareGone
    }
    this.#cell.set({ state: 'stopped' })
  }

  async #loadIdentities(): Promise<Identities> {
    const { identityFiles, agent, prompt, backend, clock } = this.options
    const forSystemSsh = backend === 'openssh' || backend === 'auto'
    this.#identities = await loadIdentities(
      { files: identityFiles, agent, prompt, forSystemSsh, clock },
      this.#signal,
      this.#keyCache,
    )
    return this.#identities
  }

  async #stampOfKeys(): Promise<string> {
    const { identityFiles, agent, clock } = this.options
    const [files, held] = await Promise.all([stampOf(identityFiles), stampOfAgent(agent, clock)])
    return `${files} ${held}`
  }

  async #connectForEver(signal: AbortSignal): Promise<void> {
    let reason = 'starting'
    let authFailures = 0
    while (!signal.aborted) {
      const error = await this.#connectOnce(reason, signal)
      if (signal.aborted) return
      if (error.exitCode !== undefined) throw error
      this.#lastReason = error.message
      authFailures = error.code === 'E_AUTH_FAILED' ? authFailures + 1 : 0
      if (authFailures >= AUTH_FAILURES) {
        await this.#untilChanged(error, signal)
        authFailures = 0
        reason = 'key or configuration changed, or an operator asked'
        continue
      }
      const retryInMs = this.#retry.nextMs(error.code === 'E_BANNED' ? 'banned' : 'lost')
      this.#cell.set({ state: 'down', ...withRemedy(error), retryInMs })
      this.options.log.warn(
        { code: error.code, attempt: this.#counts.attempts, retryInMs, remedy: error.remedy },
        `tunnel down: ${error.message}`,
      )
      this.#nextTryAtMs = this.options.clock.monotonicMs() + retryInMs
      const why = await this.#nudge.wait(retryInMs, signal).finally(() => (this.#nextTryAtMs = undefined))
      if (why === 'nudge') this.#retry.reset()
      reason = error.message
    }
  }

  /** One connection from its beginning to its end; resolves with the reason of the end. */
  async #connectOnce(reason: string, signal: AbortSignal): Promise<GatewayError> {
    this.#counts.attempts += 1
    this.#operator.forget()
    this.#triedKeys = this.#stampOfKeys()
    this.#cell.set({ state: 'connecting', attempt: this.#counts.attempts, reason })
    let link: TunnelLink
    try {
      link = (await this.#spareLink()) ?? (await this.#backend.connect(this.#taker, signal))
    } catch (error) {
      return asGatewayError(error)
    }
    this.#counts.connections += 1
    this.#link = link
    this.#noteAddress(link)
    // Ends with the connection or with the whole tunnel, and leaves nothing on the signal that outlives it.
    const scope = new AbortController()
    const onStop = (): void => scope.abort()
    signal.addEventListener('abort', onStop, { once: true })
    // Stopped in the moment in which the connection was there.
    if (signal.aborted) onStop()
    let isLost = false
    const lost = link.closed.then((why) => {
      isLost = true
      // A lost large packet stops everything behind it: the connection may die before the large message is given up.
      const { largeUnderWay } = this.#proof
      scope.abort()
      const ended = `the SSH connection ended: ${why}`
      return largeUnderWay
        ? new GatewayError('E_CONNECT', `${ended}, while a large message had not come back yet`, {
            remedy: `where it happens again: ${LARGE_REMEDY}`,
          })
        : new GatewayError('E_CONNECT', ended)
    })
    try {
      const failed = this.#useLink(link, scope.signal).then(
        () => lost,
        (error: unknown) => (isLost ? lost : asGatewayError(error)),
      )
      return await Promise.race([failed, lost])
    } finally {
      signal.removeEventListener('abort', onStop)
      scope.abort()
      this.#link = undefined
      await this.#giveUp(link)
    }
  }

  /** Only after a connection that was good until its end: what is wrong with the server shows on fresh connections. */
  async #spareLink(): Promise<TunnelLink | undefined> {
    const { probeIntervalMs, probeTimeoutMs } = this.#timings
    const sinceProofMs = this.options.clock.monotonicMs() - this.#provenAtMs
    if (sinceProofMs > probeIntervalMs + probeTimeoutMs) {
      void this.#spare?.drop('the first connection is being made')
      return undefined
    }
    const link = await this.#spare?.take()
    if (link !== undefined) this.options.log.info({ address: link.address }, 'the spare connection takes over')
    return link
  }

  async #useLink(link: TunnelLink, signal: AbortSignal): Promise<void> {
    const { server, log } = this.options
    this.#cell.set({ state: 'authenticated', server, address: link.address })
    log.info(
      { address: link.address, keyExchange: link.keyExchange, server: link.serverVersion },
      `logged in to ${formatServerAddress(server)}`,
    )
    const listener = await acquireListener({
      link,
      previous: this.#listener,
      options: this.options,
      timings: this.#timings,
      signal,
      onWait: (reason, remedy, isNew) => {
        this.#cell.set({
          state: 'authenticated',
          server,
          address: link.address,
          reason,
          remedy,
        })
        if (isNew) log.warn({ remedy }, reason)
      },
    })
    this.#listener = listener
    const controlAddress = controlAddressOf(this.options, listener)
    const reason = `the server listens on ${describeListener(listener)}; nobody has met us there yet`
    this.#cell.set({ state: 'listening', listener, controlAddress, reason })
    await this.#proof.run({ link, listener, controlAddress }, signal)
  }

  #take(connection: ForwardedConnection): void {
    this.#counts.forwarded += 1
    for (const listener of this.#listeners) {
      try {
        listener(connection)
      } catch (error) {
        this.options.log.error({ err: error }, 'a forwarded connection was not taken')
        connection.stream.destroy()
      }
    }
  }

  /** Something makes the connection doubtful: ask it at once, and try again at once where there is none. */
  #doubt(reason: string): void {
    this.options.log.info(`tunnel in doubt: ${reason}`)
    const link = this.#link
    if (link === undefined) return this.#nudge.nudge()
    void link.ping(this.#timings.pingTimeoutMs).then((alive) => {
      if (!alive) link.destroy(`${reason}, and the server no longer answers`)
      else this.#nudge.nudge()
    })
  }

  #noteAddress(link: TunnelLink): void {
    const before = this.#lastAddress
    this.#lastAddress = link.address
    this.#hosts.connected(link.address, link.resolved)
    if (before === undefined || before === link.address) return
    const { server, controlAddress } = this.options
    this.options.log.info(`${server.host} is now at ${link.address} (was ${before})`)
    this.#addressWarning =
      controlAddress?.host === before
        ? `${server.host} moved from ${before} to ${link.address}, but the control address still says ${before}: change it`
        : undefined
  }

  /** Gives the listener back and closes, all within the bound. */
  async #giveUp(link: TunnelLink): Promise<void> {
    this.#counts.losses += this.#signal.aborted ? 0 : 1
    const { clock } = this.options
    const halfMs = this.#timings.stopTimeoutMs / 2
    const bounded = new Promise<void>((resolve) => {
      const timer = clock.after(halfMs, resolve)
      void Promise.race([link.unlisten(), link.closed]).then(() => {
        timer.cancel()
        resolve()
      })
    })
    await bounded
    await link.end(halfMs)
  }

  /** Until an operator or another key: a machine that woke up or got another address is refused as it was before. */
  async #untilChanged(error: GatewayError, signal: AbortSignal): Promise<void> {
    const remedy = error.remedy ?? 'see the reason'
    this.#cell.set({
      state: 'needs-attention',
      reason: `${error.message}, ${AUTH_FAILURES} times: not tried again by itself`,
      remedy: `${remedy}; then qkd-gw tunnel reconnect`,
    })
    this.options.log.error({ code: error.code, remedy }, `tunnel needs attention: ${error.message}`)
    const before = await this.#triedKeys
    for (;;) {
      if ((await this.#operator.wait(LOOK_AT_FILES_MS, signal)) === 'nudge') return
      if ((await this.#stampOfKeys()) !== before) return
    }
  }
}

/** A tunnel that does nothing yet; `run` starts it. Throws E_CONFIG where a pinned fingerprint is none. */
export function createTunnel(options: TunnelOptions): Tunnel {
  return new SupervisedTunnel(options)
}
