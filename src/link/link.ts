/** The link of one attached device: session, agreement, delivery. What the gateway composes. */
import { type ReadonlyCell, StateCell } from '../base/cell.js'
import type { Clock } from '../base/clock.js'
import { wipe } from '../base/wipe.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import type { PartStatus } from '../observe/status.js'
import type { CallContext, KeyStream, Originator } from '../rpc/device-port.js'
import type { SiteTotals } from '../rpc/site-totals.js'
import { isSettling, owed } from './agreement/machine.js'
import { durableOf } from './agreement/durable.js'
import type { AgreementState, BatchRef } from './agreement/state.js'
import type { ChannelListener, LinkChannel } from './channel.js'
import type { Link, LinkCounts, LinkStopResult } from './contract.js'
import type { JournalRecord, JournalStore } from './journal.js'
import type { LinkAcceptor } from './link-service.js'
import { LINK_VERSION } from './messages.js'
import {
  type BatchOptions,
  DEFAULT_BATCH,
  DEFAULT_HOLD,
  DEFAULT_TIMING,
  type HoldOptions,
  keysPerMessage,
  type TimingOptions,
} from './options.js'
import { noPairHooks, type PairHooks } from './pair-hooks.js'
import type { PeerConnector } from './peer.js'
import { AgreementRuntime } from './runtime.js'
import { SessionLayer } from './session.js'
import type { SessionState } from './session-state.js'
import {
  type LinkCondition,
  linkCondition,
  type LinkFigures,
  linkFigures,
  linkReport,
  type LinkReportInput,
  sessionReport,
} from './status.js'
import { UnagreedDelivery } from './unagreed.js'

export interface LinkOptions {
  /** As registered with the SiteAgent; both ends must have the same. */
  readonly kind: string
  /** 1 to 65,535. */
  readonly bytesPerKey: number
  /** host:port at which this gateway is reached; undefined while it is not proven. */
  readonly controlAddress: () => string | undefined
  readonly totals: SiteTotals
  readonly connector: PeerConnector
  readonly journal: JournalStore
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** For devices whose keys arise by calls between the two ends. */
  readonly pair?: PairHooks
  readonly batch?: Partial<BatchOptions>
  readonly hold?: Partial<HoldOptions>
  readonly timing?: Partial<TimingOptions>
}

export interface LinkEvidence {
  readonly record: JournalRecord
  readonly moving: BatchRef | undefined
}

export interface AgreedLink extends Link, LinkAcceptor {
  /** The session's own union, for those who must act on it. */
  readonly session: ReadonlyCell<SessionState>
  /** Where the link stands; changes as it changes. */
  readonly condition: ReadonlyCell<LinkCondition>
  figures(): LinkFigures
  /** For an audit: what the journal would say now, and the batch that is on its way in good order. */
  evidence(): LinkEvidence
  /** For the access table: is this caller the other device of the running session? */
  sessionPeer(originator: Originator, metadata: ReadonlyMap<string, string>): 'peer' | 'stranger' | 'no session'
  /**
   * Keys for the own SiteAgent without agreement, in the order of arrival; for sessions whose peer is not ours. The link
   * owns the keys and wipes them.
   */
  deliverUnagreed(keys: readonly Uint8Array[]): void
  /** The SiteAgent was restarted for certain (it forgot the registration): its key store begins anew. */
  siteAgentRestarted(): void
  /** The operator accepts that the two stores have parted; both sides go on once they are connected. */
  acceptDivergence(): void
  /** True while a batch is on its way: nothing should be restarted now. */
  isSettling(): boolean
}

/** Throws E_STATE_FOLDER for a journal that cannot be read. */
export function createLink(options: LinkOptions): AgreedLink {
  return new ComposedLink(options)
}

/** A link that delivered so lately, or three longest waits ago, is delivering and not idle. */
const RECENT_MS = 10_000

class ComposedLink implements AgreedLink {
  readonly #runtime: AgreementRuntime
  readonly #session: SessionLayer
  readonly #unagreed: UnagreedDelivery
  readonly #options: LinkOptions
  readonly #condition: StateCell<LinkCondition>
  readonly #recentMs: number
  #composed = false

  constructor(options: LinkOptions) {
    this.#options = options
    const { clock, random, log, totals, journal } = options
    const timing = { ...DEFAULT_TIMING, ...options.timing }
    const batch = { ...DEFAULT_BATCH, ...options.batch }
    const hold = { ...DEFAULT_HOLD, ...options.hold }
    this.#recentMs = Math.max(RECENT_MS, 3 * batch.maxWaitMs)
    this.#condition = new StateCell<LinkCondition>({ state: 'idle', reason: 'no session' }, clock, (error) =>
      log.error({ err: error }, 'a listener of the link failed'),
    )
    const greeting = { version: LINK_VERSION, kind: options.kind, keyBytes: options.bytesPerKey }
    this.#runtime = new AgreementRuntime({
      greeting,
      totals,
      journal,
      clock,
      random,
      log,
      batch,
      hold,
      timing,
      onBye: () => this.#session.peerSaidBye(),
      onChannelLost: (code, reason) => this.#session.channelLost(code, reason),
      onChange: () => this.#changed(),
    })
    this.#unagreed = new UnagreedDelivery({
      keyBytes: options.bytesPerKey,
      maxHeldKeys: hold.maxKeys,
      maxKeys: keysPerMessage(options.bytesPerKey, batch.maxKeys),
      ledger: this.#runtime.desk.books,
      onUncertain: (keys) =>
        log.warn({ keys }, 'a stream ended while keys were on their way to a SiteAgent: they are not sent again'),
    })
    this.#session = new SessionLayer({
      greeting,
      controlAddress: options.controlAddress,
      connector: options.connector,
      runtime: this.#runtime,
      pair: options.pair ?? noPairHooks,
      totals,
      clock,
      random,
      log,
      timing,
      onStream: (stream) => this.#unagreed.use(stream),
    })
    this.#composed = true
    this.#session.state.subscribe(() => this.#changed())
    this.#changed()
  }

  get condition(): ReadonlyCell<LinkCondition> {
    return this.#condition
  }

  get session(): ReadonlyCell<SessionState> {
    return this.#session.state
  }

  get linkStatus(): Link['linkStatus'] {
    return this.#session.linkStatus
  }

  waitForSession(initialKey: Uint8Array, stream: KeyStream): void {
    this.#session.waitForSession(initialKey, stream)
  }

  runSession: Link['runSession'] = (parameters, peerAddress, call) =>
    this.#session.runSession(parameters, peerAddress, call)

  endSession: Link['endSession'] = (call) => this.#session.endSession(call)

  sessionStarting: Link['sessionStarting'] = (parameters, initiatorAddress, call) =>
    this.#session.sessionStarting(parameters, initiatorAddress, call)

  sessionEnding: Link['sessionEnding'] = (call) => this.#session.sessionEnding(call)

  acceptLink(call: CallContext, channel: LinkChannel): ChannelListener {
    return this.#session.acceptLink(call, channel)
  }

  sessionPeer(originator: Originator, metadata: ReadonlyMap<string, string>): 'peer' | 'stranger' | 'no session' {
    return this.#session.peerCheck(originator, metadata)
  }

  offerKey(id: bigint, key: Uint8Array): void {
    this.#runtime.offerKey(id, key)
  }

  deviceRenumbered(reason: string): void {
    this.#runtime.deviceRenumbered(reason)
  }

  deliverUnagreed(keys: readonly Uint8Array[]): void {
    if (this.#stopped) wipe(...keys)
    else this.#unagreed.deliver(keys)
  }

  siteAgentRestarted(): void {
    this.#runtime.siteAgentRestarted()
  }

  acceptDivergence(): void {
    this.#runtime.acceptDivergence()
  }

  isSettling(): boolean {
    return isSettling(this.#runtime.state)
  }

  counts(): LinkCounts {
    const counts = this.#runtime.desk.counts()
    return { ...counts, held: counts.held + BigInt(this.#unagreed.held) }
  }

  evidence(): LinkEvidence {
    const { state } = this.#runtime
    const { flight } = state
    const moving = flight === undefined || flight.lostAtMs !== undefined ? undefined : flight
    return { record: { atMs: this.#options.clock.nowMs(), state: durableOf(state) }, moving }
  }

  figures(): LinkFigures {
    return linkFigures(this.#runtime.state, this.#runtime.facts)
  }

  sessionStatus(): PartStatus {
    return sessionReport(this.#session.state, this.#session.waiting)
  }

  linkStatusReport(): PartStatus {
    this.#changed()
    return linkReport(this.#reportInput(), this.#condition.value, this.#condition.sinceMs)
  }

  #reportInput(): LinkReportInput {
    return {
      session: this.#session.state.value,
      state: this.#runtime.state,
      facts: this.#runtime.facts,
      counts: this.counts(),
      nowMs: this.#options.clock.monotonicMs(),
      recentMs: this.#recentMs,
    }
  }

  #changed(): void {
    // The parts tell of changes while they are still being put together.
    if (!this.#composed) return
    const next = linkCondition(this.#reportInput())
    const { state, reason } = this.#condition.value
    if (next.state !== state || next.reason !== reason) this.#condition.set(next)
  }

  #stopped = false

  async stop(timeoutMs: number): Promise<LinkStopResult> {
    this.#stopped = true
    const { clock } = this.#options
    const bounded = new Promise<void>((resolve) => clock.after(timeoutMs, resolve))
    await Promise.race([this.#session.stop(), bounded])
    const result = stopResult(this.#runtime.state)
    this.#unagreed.close()
    await Promise.race([this.#runtime.close(), bounded])
    return result
  }
}

/** What one site lacks when the gateway stops now. */
function stopResult(state: AgreementState): LinkStopResult {
  const { here, there } = owed(state)
  const ownNext = (state.store.total ?? BigInt(state.position)) + 1n
  if (here > 0) return { outcome: 'owed', keys: here, firstDifferingKey: ownNext }
  if (there > 0) return { outcome: 'owed', keys: there, firstDifferingKey: ownNext - BigInt(there) }
  return { outcome: 'settled' }
}
