/**
 * The SiteAgent's own reports of what it took in: `[Key Generation, Key Generated]`, sent on change only, never as a
 * snapshot. The subscription costs the SiteAgent no pings: an answered call on the same connection shows that it lives.
 */
import { status } from '@grpc/grpc-js'
import type { Unsubscribe } from '../base/cell.js'
import { createBackoff } from '../base/backoff.js'
import { sleep, type Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import { IReporting, type SiteAgentReport } from '../rpc/gen/cqp/remote/reporting_pb.js'
import { RpcError } from '../rpc/rpc-error.js'
import type { SiteConnection } from './site-connection.js'

const totalPath = ['Key Generation', 'Key Generated'] as const

/** A SiteAgent that serves no reports is asked again this seldom: another program may stand there one day. */
const unimplementedPauseMs = 60_000

export interface TotalReport {
  readonly storeId: bigint
  readonly total: bigint
}

export interface TotalsOptions {
  readonly connection: SiteConnection
  /** An ordinary call on the same connection, with a deadline; resolves when it was answered. */
  readonly ask: (signal: AbortSignal) => Promise<void>
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly retryFirstMs: number
  readonly retryMaxMs: number
  /** The stream ended although the SiteAgent serves it. */
  readonly onBroken: () => void
}

export class TotalsSubscription {
  readonly #listeners = new Set<(report: TotalReport) => void>()
  #open = false
  #alive = false
  #served: boolean | undefined
  /** Ends the pause before the next try, where the SiteAgent serves reports. */
  #wake: () => void = () => {}

  constructor(private readonly options: TotalsOptions) {}

  onTotal(listener: (report: TotalReport) => void): Unsubscribe {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** True while the subscription is open and a call made after it, on the same connection, was answered. */
  get reporting(): boolean {
    return this.#open && this.#alive
  }

  /** Whether the SiteAgent serves reports at all; undefined while nobody knows. */
  get served(): boolean | undefined {
    return this.#served
  }

  /** A call on the same connection was answered. */
  answered(): void {
    if (this.#open) this.#alive = true
    // It is back: the pause that grew while it was away need not be sat out.
    else this.#wake()
  }

  /** A call on the same connection was not answered in time: nothing is known of the subscription. */
  silent(): void {
    this.#alive = false
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log, retryFirstMs, retryMaxMs, onBroken } = this.options
    const backoff = createBackoff({ firstMs: retryFirstMs, maxMs: retryMaxMs }, random)
    while (!signal.aborted) {
      let pauseMs: number
      let unimplemented = false
      try {
        await this.#follow(signal, () => backoff.reset())
        pauseMs = backoff.nextMs()
      } catch (error) {
        unimplemented = error instanceof RpcError && error.code === status.UNIMPLEMENTED
        if (unimplemented) this.#served = false
        pauseMs = unimplemented ? unimplementedPauseMs : backoff.nextMs()
        if (!unimplemented && this.#open) onBroken()
        if (!signal.aborted) log.debug({ reason: messageOf(error), pauseMs }, 'the reports of the SiteAgent ended')
      } finally {
        this.#open = false
        this.#alive = false
      }
      const woken = new AbortController()
      if (!unimplemented) this.#wake = () => woken.abort()
      await sleep(clock, pauseMs, AbortSignal.any([signal, woken.signal])).catch(() => {})
      this.#wake = () => {}
    }
  }

  async #follow(signal: AbortSignal, onFirst: () => void): Promise<void> {
    const { connection, ask } = this.options
    const call = await connection.stream(
      IReporting.method.getStatistics,
      { filters: [{ fullname: [...totalPath] }] },
      signal,
    )
    this.#open = true
    // Nothing tells that a stream without a message is open; an answer to a later call on the same connection does.
    ask(signal).then(
      () => this.answered(),
      () => this.silent(),
    )
    try {
      for await (const report of call) {
        onFirst()
        this.#served = true
        this.#alive = true
        this.#pass(report)
      }
    } finally {
      call.cancel()
    }
  }

  #pass(report: SiteAgentReport): void {
    const isTotal = report.path.length === totalPath.length && totalPath.every((part, i) => report.path[i] === part)
    if (!isTotal || report.value.case !== 'asUnsigned') return
    const total = { storeId: report.id, total: report.value.value.total }
    for (const listener of [...this.#listeners]) listener(total)
  }
}
