/** A second connection, logged in and without a listener, for the moment in which the first is cut off. */
import { createBackoff, type Backoff } from '../base/backoff.js'
import { sleep } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import type { TunnelLink } from './link.js'
import type { TunnelOptions, TunnelTimings } from './options.js'

export interface SpareParts {
  /** Connects and logs in. */
  readonly connect: (signal: AbortSignal) => Promise<TunnelLink>
  readonly timings: Pick<
    TunnelTimings,
    'spareAfterMs' | 'spareMaxMs' | 'sparePingMs' | 'stopTimeoutMs' | 'resetAfterProvenMs' | 'bannedMaxMs'
  >
  readonly options: Pick<TunnelOptions, 'clock' | 'random' | 'log'>
}

type SpareState =
  /** None is wanted. */
  | { state: 'off' }
  /** Being made, or waited with. */
  | { state: 'making'; stop: AbortController }
  | { state: 'ready'; link: TunnelLink }
  /** To take over, once it has answered. */
  | { state: 'asked'; link: TunnelLink }
  /** What is wrong does not mend by itself; asking again could have us shut out. */
  | { state: 'refused' }

/**
 * What a new login takes (0.3 s with the system's ssh) is spent before it is needed. It helps where one connection is
 * reset and the way to the server is still there; where it is not, the spare is as dead as the first.
 */
export class Spare {
  readonly #backoff: Backoff
  #now: SpareState = { state: 'off' }
  #lastReason = ''
  #used = 0
  /** What was given up and is not gone yet. */
  readonly #leaving = new Set<Promise<void>>()

  constructor(private readonly parts: SpareParts) {
    const { spareAfterMs, spareMaxMs } = parts.timings
    this.#backoff = createBackoff({ firstMs: spareAfterMs, maxMs: spareMaxMs }, parts.options.random)
  }

  /** Why there is none; `ready` where there is one. */
  describe(): string {
    if (this.#now.state === 'ready') return 'ready'
    return this.#lastReason === '' ? 'not yet' : `none: ${this.#lastReason}`
  }

  /** How many took over so far. */
  get used(): number {
    return this.#used
  }

  /**
   * Makes one, and another whenever it is lost, until it is taken or dropped. After a failed login or a wrong host key only
   * the next connection of the tunnel itself, or an operator, has it tried again.
   */
  want(): void {
    if (this.#now.state !== 'off') return
    const stop = new AbortController()
    this.#now = { state: 'making', stop }
    this.#untilGone(this.#make(stop.signal))
  }

  /**
   * The spare, if there is one and it has just answered a question of ours: nobody waits for a dead one longer than
   * `sparePingMs`. None is made from here on until the next `want`.
   */
  async take(): Promise<TunnelLink | undefined> {
    const now = this.#now
    if (now.state !== 'ready') {
      void this.drop('the first connection is being made')
      return undefined
    }
    const asked: SpareState = { state: 'asked', link: now.link }
    this.#now = asked
    this.#backoff.reset()
    const isAlive = await now.link.ping(this.parts.timings.sparePingMs)
    // Dropped meanwhile: that has ended it.
    if (this.#now !== asked) return undefined
    this.#now = { state: 'off' }
    if (isAlive) {
      this.#used += 1
      return now.link
    }
    this.#lastReason = 'it no longer answered when it was needed'
    now.link.destroy(this.#lastReason)
    return undefined
  }

  /** Gives it up, also while it is asked; resolves once it, and all that were given up before, are closed. */
  async drop(reason: string): Promise<void> {
    const now = this.#now
    this.#now = { state: 'off' }
    if (now.state === 'making') now.stop.abort()
    if (now.state === 'ready' || now.state === 'asked') {
      this.#lastReason = reason
      // One that may be dead keeps nobody waiting for its answer.
      if (now.state === 'asked') now.link.destroy(reason)
      else this.#untilGone(now.link.end(this.parts.timings.stopTimeoutMs))
    }
    await Promise.all(this.#leaving)
  }

  #untilGone(end: Promise<void>): void {
    const gone = end.finally(() => this.#leaving.delete(gone))
    this.#leaving.add(gone)
  }

  async #make(signal: AbortSignal): Promise<void> {
    const { connect, options, timings } = this.parts
    while (!signal.aborted) {
      try {
        await sleep(options.clock, this.#backoff.nextMs(), signal)
        const link = await connect(signal)
        if (signal.aborted) return await link.end(timings.stopTimeoutMs)
        return this.#keep(link)
      } catch (error) {
        if (signal.aborted) return
        this.#failed(messageOf(error))
        if (!(error instanceof GatewayError)) continue
        if (error.code === 'E_AUTH_FAILED' || error.exitCode !== undefined) {
          this.#now = { state: 'refused' }
          return
        }
        // Each try may renew the refusal.
        if (error.code === 'E_BANNED') await sleep(options.clock, timings.bannedMaxMs, signal).catch(() => {})
      }
    }
  }

  #keep(link: TunnelLink): void {
    const { timings } = this.parts
    const { clock, log } = this.parts.options
    this.#now = { state: 'ready', link }
    this.#lastReason = ''
    log.info({ address: link.address }, 'a spare connection to the server stands by')
    const sinceMs = clock.monotonicMs()
    void link.closed.then((why) => {
      if (this.#now.state !== 'ready' || this.#now.link !== link) return
      if (clock.monotonicMs() - sinceMs >= timings.resetAfterProvenMs) this.#backoff.reset()
      this.#now = { state: 'off' }
      this.#failed(why)
      this.want()
    })
  }

  #failed(reason: string): void {
    const isNew = reason !== this.#lastReason
    this.#lastReason = reason
    if (isNew) this.parts.options.log.warn(`no spare connection to the server: ${reason}`)
  }
}
