/**
 * Keeps a static link up from one of its two gateways. A static link is started by a network manager when the device of
 * its last end registers, so taking our own registration away and making it anew restarts the whole link; no other
 * address need be known. Used by a gateway's `link.keepUp.static`.
 */
import { createStartPauses } from '../base/start-pauses.js'
import { sleep, type Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { Site } from './contract.js'
import { decideKeepUp, freshMemory, type KeepUpMemory } from './keep-up-plan.js'
import { KEEPER_DEFAULTS, type KeeperEvent } from './link-keeper.js'
import type { EndView } from './link-watch.js'

export interface StaticKeeperOptions {
  readonly site: Pick<Site, 'state' | 'registerAnew' | 'onTotal'>
  /** What the gateway knows of its session. A missing one may still come: the manager has its own pace. */
  readonly own: () => 'running' | 'waiting'
  /** What our own end lacks so that a start would be in vain: a proven control address. */
  readonly ownLacks: () => string | undefined
  /** False while a batch is unsettled: the link is not touched then. */
  readonly maySettle: () => boolean
  readonly clock: Clock
  readonly random: Random
  readonly onEvent: (event: KeeperEvent) => void
  /** As in `LinkKeeperOptions`. */
  readonly lookMs?: number
  readonly graceMs?: number
  readonly stalledAfterMs?: number
  readonly pauseFirstMs?: number
  readonly pauseMaxMs?: number
}

export class StaticKeeper {
  readonly #timing: { [name in 'lookMs' | 'graceMs' | 'stalledAfterMs']: number }
  readonly #pauses: (starts: number) => number
  #memory: KeepUpMemory
  #keysAtMs: number | undefined
  #state = ''

  constructor(private readonly options: StaticKeeperOptions) {
    const { lookMs, graceMs, stalledAfterMs, pauseFirstMs, pauseMaxMs, clock, random } = options
    this.#timing = {
      lookMs: lookMs ?? KEEPER_DEFAULTS.lookMs,
      graceMs: graceMs ?? KEEPER_DEFAULTS.graceMs,
      stalledAfterMs: stalledAfterMs ?? KEEPER_DEFAULTS.stalledAfterMs,
    }
    this.#pauses = createStartPauses(
      pauseFirstMs ?? KEEPER_DEFAULTS.pauseFirstMs,
      pauseMaxMs ?? KEEPER_DEFAULTS.pauseMaxMs,
      random,
    )
    this.#memory = freshMemory(clock.monotonicMs())
  }

  /** Watches and restarts until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { site, clock, onEvent } = this.options
    const stop = site.onTotal(() => (this.#keysAtMs = clock.monotonicMs()))
    while (!signal.aborted) {
      try {
        await this.#turn()
      } catch (error) {
        if (!signal.aborted) onEvent({ event: 'failed', message: messageOf(error) })
      }
      await sleep(clock, this.#timing.lookMs, signal).catch(() => {})
    }
    stop()
  }

  async #turn(): Promise<void> {
    const { site, own, ownLacks, maySettle, clock, onEvent } = this.options
    const lacks = ownLacks()
    if (lacks !== undefined) return this.#wait(lacks)
    const registration = site.state.value
    if (registration.state !== 'registered') return this.#wait('the device is not registered')
    const end: EndView = { siteUrl: 'our SiteAgent', controlAddress: registration.controlAddress, device: 'running' }
    const decision = decideKeepUp(
      {
        nowMs: clock.monotonicMs(),
        left: end,
        right: end,
        // Only a site that has reported once is expected to go on.
        totalsKnown: this.#keysAtMs !== undefined,
        keysAtMs: this.#keysAtMs,
        settled: maySettle(),
        own: own(),
      },
      this.#memory,
      { ...this.#timing, pauseMs: this.#pauses },
    )
    this.#memory = decision.memory
    if (decision.action === 'wait') return this.#wait(decision.state)
    const { reason, memory } = decision
    this.#state = `starting: ${reason}`
    onEvent({ event: 'starting', message: `starting the static link: ${reason}`, reason, attempt: memory.starts })
    await site.registerAnew()
    onEvent({ event: 'call', message: 'registered anew', call: 'RegisterDevice', site: 'own', answer: 'OK' })
  }

  #wait(state: string): void {
    if (state !== this.#state) this.options.onEvent({ event: 'state', message: state })
    this.#state = state
  }
}
