/**
 * Keeps a link up: looks at both ends, and where keys stopped starts the link again by the recipe of its sites. Used by
 * `qkd-gw site … keep-up` and by the left gateway's `link.keepUp`. Bounded by growing pauses, and every start is logged.
 */
import { sleep, type Clock } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import type { HostPort } from '../base/host-port.js'
import type { Random } from '../base/random.js'
import { createStartPauses } from '../base/start-pauses.js'
import type { Logger } from '../observe/log.js'
import { ISiteAgent } from '../rpc/gen/cqp/remote/site_pb.js'
import { detectDialect } from './dialect.js'
import { decideKeepUp, freshMemory, type KeepUpMemory, type LinkView } from './keep-up-plan.js'
import { pathOf } from './link-path.js'
import { restartLink, restartStaticLink, type RecipeOptions } from './link-recipe.js'
import { viewEnd, type EndView, type OpenDeviceChannel } from './link-watch.js'
import { openSiteConnection, type OpenSiteChannel, type SiteConnection } from './site-connection.js'
import { TotalsSubscription } from './totals.js'

/** One end as the keeper is told of it. */
export interface KeptEnd {
  readonly address: HostPort
  readonly deviceId: string
  readonly openChannel: OpenSiteChannel
}

/** What happens, for logs and the command's output. */
export type KeeperEvent =
  | { event: 'state'; message: string }
  | { event: 'starting'; message: string; reason: string; attempt: number }
  | { event: 'call'; message: string; call: string; site: 'left' | 'right' | 'own'; answer: string }
  | { event: 'failed'; message: string }

export interface LinkKeeperOptions {
  /** Alice's site, where the link is started. */
  readonly left: KeptEnd
  readonly right: KeptEnd
  /**
   * For a link that a network manager starts by itself when its devices register: how the left device is registered anew;
   * 'from outside' by its entry at the SiteAgent. Default: the link is no static one.
   */
  readonly registerAnew?: 'from outside' | (() => Promise<void>)
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly onEvent?: (event: KeeperEvent) => void
  /** False while a batch is unsettled: the link is not touched then. Default: always true. */
  readonly maySettle?: () => boolean
  /** What the gateway knows of its own end; undefined where there is none. */
  readonly own?: () => 'running' | 'stopped' | 'waiting' | undefined
  /** What our own end lacks so that a start would be in vain: a proven control address. */
  readonly ownLacks?: () => string | undefined
  /** Reaches a device at its control address; default from here, in plain text. */
  readonly openDevice?: OpenDeviceChannel
  /** How often both ends are looked at; default 1 s. */
  readonly lookMs?: number
  readonly callTimeoutMs?: number
  /** Deadline of StartNode and EndKeyExchange; default 15 s. */
  readonly recipeTimeoutMs?: number
  readonly graceMs?: number
  readonly stalledAfterMs?: number
  /** Pauses between starts that bring no key; defaults 5 s to 5 min. */
  readonly pauseFirstMs?: number
  readonly pauseMaxMs?: number
}

/** Named defaults, milliseconds. */
export const KEEPER_DEFAULTS = {
  lookMs: 1_000,
  callTimeoutMs: 3_000,
  recipeTimeoutMs: 15_000,
  graceMs: 5_000,
  stalledAfterMs: 120_000,
  pauseFirstMs: 5_000,
  pauseMaxMs: 300_000,
} as const

class WatchedSite {
  readonly connection: SiteConnection
  readonly totals: TotalsSubscription
  keysAtMs: number | undefined

  constructor(
    readonly end: KeptEnd,
    options: LinkKeeperOptions,
    callTimeoutMs: number,
  ) {
    const { clock, random, log } = options
    this.connection = openSiteConnection(end.address, end.openChannel)
    this.totals = new TotalsSubscription({
      connection: this.connection,
      ask: async (signal) => {
        await this.connection.call(ISiteAgent.method.getSiteDetails, {}, callTimeoutMs, signal)
      },
      clock,
      random,
      log,
      retryFirstMs: 200,
      retryMaxMs: 5_000,
      onBroken: () => {},
    })
    this.totals.onTotal(() => {
      this.keysAtMs = clock.monotonicMs()
    })
  }
}

export class LinkKeeper {
  readonly #timing: { [name in keyof typeof KEEPER_DEFAULTS]: number }
  readonly #left: WatchedSite
  readonly #right: WatchedSite
  readonly #pauses: (starts: number) => number
  #memory: KeepUpMemory
  #state = ''

  constructor(private readonly options: LinkKeeperOptions) {
    const { lookMs, callTimeoutMs, recipeTimeoutMs, graceMs, stalledAfterMs, pauseFirstMs, pauseMaxMs } = options
    this.#timing = {
      lookMs: lookMs ?? KEEPER_DEFAULTS.lookMs,
      callTimeoutMs: callTimeoutMs ?? KEEPER_DEFAULTS.callTimeoutMs,
      recipeTimeoutMs: recipeTimeoutMs ?? KEEPER_DEFAULTS.recipeTimeoutMs,
      graceMs: graceMs ?? KEEPER_DEFAULTS.graceMs,
      stalledAfterMs: stalledAfterMs ?? KEEPER_DEFAULTS.stalledAfterMs,
      pauseFirstMs: pauseFirstMs ?? KEEPER_DEFAULTS.pauseFirstMs,
      pauseMaxMs: pauseMaxMs ?? KEEPER_DEFAULTS.pauseMaxMs,
    }
    this.#left = new WatchedSite(options.left, options, this.#timing.callTimeoutMs)
    this.#right = new WatchedSite(options.right, options, this.#timing.callTimeoutMs)
    this.#memory = freshMemory(options.clock.monotonicMs())
    this.#pauses = createStartPauses(this.#timing.pauseFirstMs, this.#timing.pauseMaxMs, options.random)
  }

  /** Where the link stands, in plain words. */
  get state(): string {
    return this.#state
  }

  /** Watches and restarts until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const following = [this.#left.totals.run(signal), this.#right.totals.run(signal)]
    while (!signal.aborted) {
      try {
        await this.#turn(signal)
      } catch (error) {
        if (!signal.aborted) this.#say({ event: 'failed', message: messageOf(error) })
      }
      await sleep(this.options.clock, this.#timing.lookMs, signal).catch(() => {})
    }
    await Promise.all([...following, this.#left.connection.close(), this.#right.connection.close()])
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const [left, right] = await Promise.all([this.#look(this.#left, signal), this.#look(this.#right, signal)])
    const decision = decideKeepUp(this.#view(left, right), this.#memory, {
      graceMs: this.#timing.graceMs,
      stalledAfterMs: this.#timing.stalledAfterMs,
      pauseMs: this.#pauses,
    })
    this.#memory = decision.memory
    if (decision.action === 'wait') {
      if (decision.state !== this.#state) this.#say({ event: 'state', message: decision.state })
      this.#state = decision.state
      return
    }
    const { reason, memory } = decision
    this.#state = `starting: ${reason}`
    this.#say({ event: 'starting', message: `starting the link: ${reason}`, reason, attempt: memory.starts })
    await this.#start(left.siteUrl ?? '', right.siteUrl ?? '', signal)
  }

  #look(site: WatchedSite, signal: AbortSignal): Promise<EndView> {
    return viewEnd(
      { connection: site.connection, deviceId: site.end.deviceId },
      this.#timing.callTimeoutMs,
      signal,
      this.options.openDevice,
    )
  }

  #view(left: EndView, right: EndView): LinkView {
    const { clock, maySettle, own, ownLacks } = this.options
    const keys = [this.#left.keysAtMs, this.#right.keysAtMs]
    const ownEnd = own?.()
    const lacks = ownLacks?.()
    return {
      nowMs: clock.monotonicMs(),
      left,
      right,
      totalsKnown: this.#left.totals.served !== false && this.#right.totals.served !== false,
      keysAtMs: keys[0] === undefined || keys[1] === undefined ? undefined : Math.min(keys[0], keys[1]),
      settled: maySettle?.() ?? true,
      ...(ownEnd === undefined ? {} : { own: ownEnd }),
      ...(lacks === undefined ? {} : { ownLacks: lacks }),
    }
  }

  async #start(leftUrl: string, rightUrl: string, signal: AbortSignal): Promise<void> {
    const { callTimeoutMs, recipeTimeoutMs } = this.#timing
    const onStep: RecipeOptions['onStep'] = ({ call, site, answer }) =>
      this.#say({ event: 'call', message: `${call} at the ${site} site: ${answer}`, call, site, answer })
    const { registerAnew } = this.options
    if (typeof registerAnew === 'function') {
      await registerAnew()
      return onStep({ call: 'RegisterDevice', site: 'left', answer: 'OK' })
    }
    if (registerAnew === 'from outside') {
      const { clock, random } = this.options
      const { connection, end } = this.#left
      return restartStaticLink({
        ...{ connection, deviceId: end.deviceId, callTimeoutMs, registerTimeoutMs: recipeTimeoutMs },
        ...{ signal, clock, random, onStep },
      })
    }
    const [left, right] = await Promise.all(
      [this.#left, this.#right].map(async ({ connection }) => ({
        connection,
        dialect: await detectDialect(connection, callTimeoutMs, signal),
      })),
    )
    if (left === undefined || right === undefined) throw new GatewayError('E_INTERNAL', 'a link has two ends')
    await restartLink({
      left,
      right,
      path: pathOf(
        { site: leftUrl, deviceId: this.options.left.deviceId },
        { site: rightUrl, deviceId: this.options.right.deviceId },
      ),
      timeoutMs: recipeTimeoutMs,
      signal,
      onStep,
    })
  }

  #say(event: KeeperEvent): void {
    this.options.log.info({ ...event }, event.message)
    this.options.onEvent?.(event)
  }
}
