/** The session side of the device: who may begin one, with whom it runs, and how it ends. Never waits for a key. */
import { status as Status } from '@grpc/grpc-js'
import { type ReadonlyCell, StateCell } from '../base/cell.js'
import { type Clock, withDeadline } from '../base/clock.js'
import { codeOf, explanationOf, messageOf } from '../base/errors.js'
import type { Random } from '../base/random.js'
import { wipe } from '../base/wipe.js'
import type { Logger } from '../observe/log.js'
import { RpcError, rpcError } from '../rpc/bridge.js'
import type {
  CallContext,
  DevicePort,
  KeyStream,
  LinkStatusValue,
  Originator,
  SessionParameters,
} from '../rpc/device-port.js'
import type { SiteTotals } from '../rpc/site-totals.js'
import {
  type ActiveSession,
  createActiveSession,
  greetingMetadata,
  greetingOf,
  hasToken,
  normalised,
  quietly,
  tokenMetadata,
} from './active-session.js'
import type { ChannelListener, LinkChannel } from './channel.js'
import { InitialKeys } from './initial-keys.js'
import { Initiator } from './initiator.js'
import { Listeners } from './listeners.js'
import type { Greeting } from './messages.js'
import type { TimingOptions } from './options.js'
import type { PairHooks } from './pair-hooks.js'
import { isAlive, type LifeSigns, peerCheck, type PeerVerdict } from './peer-identity.js'
import { METADATA, type PeerConnector } from './peer.js'
import { greetingProblem } from './greeting.js'
import type { AgreementRuntime } from './runtime.js'
import { linkStatusOf, type SessionState } from './session-state.js'

export interface SessionOptions {
  readonly greeting: Greeting
  /** host:port that peers reach this gateway at; undefined while it is not proven. */
  readonly controlAddress: () => string | undefined
  readonly connector: PeerConnector
  readonly runtime: AgreementRuntime
  readonly pair: PairHooks
  readonly totals: SiteTotals
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly timing: TimingOptions
  /** The stream that takes keys changed; undefined where nobody waits. */
  readonly onStream: (stream: KeyStream | undefined) => void
}

export class SessionLayer implements DevicePort {
  readonly #options: SessionOptions
  readonly #state: StateCell<SessionState>
  readonly #linkStatus: StateCell<LinkStatusValue>
  readonly #initialKeys = new InitialKeys()
  readonly #listeners: Listeners
  readonly #initiator: Initiator
  #active: ActiveSession | undefined
  #ending: Promise<void> | undefined
  readonly #life: LifeSigns
  #stopped = false

  constructor(options: SessionOptions) {
    this.#options = options
    this.#life = { talk: options.runtime.talk, clock: options.clock }
    this.#state = new StateCell<SessionState>({ state: 'none', errorCode: 0, reason: '' }, options.clock)
    this.#linkStatus = new StateCell<LinkStatusValue>({ state: 'inactive', errorCode: 0 }, options.clock)
    this.#state.subscribe(() => this.#showStatus())
    this.#listeners = new Listeners({
      clock: options.clock,
      goneGraceMs: options.timing.goneGraceMs,
      onStream: options.onStream,
      onChange: () => this.#showStatus(),
    })
    this.#initiator = new Initiator(options, {
      isCurrent: (active) => this.#active === active,
      pairInfo: (active) => this.#pairInfo(active),
      started: (active) => this.#started(active),
      openLink: (active) => this.#openLink(active),
      linkIsOpen: () => options.runtime.talk.connected,
      stillLost: (active, reason) => this.#showLink(active, 'lost', reason),
      failed: (active, failure) => this.#tryFailed(active, failure),
    })
  }

  get state(): ReadonlyCell<SessionState> {
    return this.#state
  }

  get linkStatus(): ReadonlyCell<LinkStatusValue> {
    return this.#linkStatus
  }

  get waiting(): boolean {
    return this.#listeners.waiting
  }

  waitForSession(initialKey: Uint8Array, stream: KeyStream): void {
    if (this.#stopped) {
      wipe(initialKey)
      stream.end(Status.UNAVAILABLE, 'the gateway stops')
      return
    }
    this.#initialKeys.put(initialKey)
    if (stream.signal.aborted) return
    this.#options.runtime.openStream(stream)
    this.#listeners.add(stream)
  }

  async runSession(parameters: SessionParameters, peerAddress: string, call: CallContext): Promise<void> {
    if (this.#stopped) throw rpcError(Status.UNAVAILABLE, 'the gateway stops')
    const address = normalised(peerAddress, 'peerAddress')
    await this.#bounded(this.#run(parameters, address), call)
  }

  async #run(parameters: SessionParameters, address: string): Promise<void> {
    const running = this.#active
    if (running !== undefined && running.peerAddress === address && this.#ending === undefined) {
      if (!running.started) await running.trying
      running.askedAgainMs = this.#options.clock.monotonicMs()
      return
    }
    if (running !== undefined || this.#ending !== undefined) await this.#end('a session with another peer begins', true)
    const active = this.#newActive('right', address, parameters, this.#randomHex(8))
    this.#state.set({ state: 'starting', role: 'right', peerAddress: address, tried: 0, errorCode: 0, reason: '' })
    await this.#initiator.begin(active)
  }

  async endSession(_call: CallContext): Promise<void> {
    await this.#end('the SiteAgent ends the session', true)
  }

  /** An answer within the bound, whatever hangs. */
  async #bounded(work: Promise<void>, call: CallContext): Promise<void> {
    const { clock, timing } = this.#options
    try {
      await withDeadline(clock, timing.answerMs, 'RunSession', () => work, call.signal)
    } catch (error) {
      if (error instanceof RpcError) throw error
      if (codeOf(error) === 'E_DEADLINE') {
        throw rpcError(Status.DEADLINE_EXCEEDED, `the peer did not answer within ${timing.answerMs} ms`)
      }
      throw rpcError(Status.UNAVAILABLE, messageOf(error))
    }
  }

  #newActive(
    role: 'left' | 'right',
    peerAddress: string,
    parameters: SessionParameters,
    attempt: string,
  ): ActiveSession {
    const begunMs = this.#options.clock.monotonicMs()
    const active = createActiveSession({ role, peerAddress, parameters, attempt, begunMs })
    this.#active = active
    this.#listeners.reset()
    return active
  }

  #tryFailed(
    active: ActiveSession,
    { code: errorCode, reason, tried, final }: { code: number; reason: string; tried: number; final: boolean },
  ): void {
    const { peerAddress } = active
    if (final) {
      this.#discard(active)
      this.#state.set({ state: 'none', errorCode, reason })
    } else this.#state.set({ state: 'starting', role: 'right', peerAddress, tried, errorCode, reason })
  }

  #started(active: ActiveSession): void {
    const { runtime, pair, log } = this.#options
    const again = active.started
    active.started = true
    if (!again) {
      runtime.beginSession(active.role)
      pair.start(active.ours ? 'byId' : 'byArrival')
      log.info({ role: active.role, peer: active.peerAddress, ours: active.ours }, 'session started')
    }
    this.#showLink(active, active.ours ? 'opening' : undefined, '')
  }

  #showLink(active: ActiveSession, link: 'opening' | 'open' | 'lost' | undefined, reason: string): void {
    if (this.#active !== active || !active.started || this.#ending !== undefined) return
    const { role, peerAddress } = active
    this.#state.set({
      state: 'started',
      role,
      peerAddress,
      peerLink: link === undefined ? { peer: 'foreign' } : { peer: 'ours', link, reason },
    })
  }

  #openLink(active: ActiveSession): void {
    const { runtime } = this.#options
    active.connection?.openLink(tokenMetadata(active), (channel) => {
      const listener = runtime.talk.attach(channel)
      this.#showLink(active, 'open', '')
      return listener
    })
  }

  /** The link between the two gateways broke: the right side opens it again, for as long as the session runs. */
  channelLost(code: number, reason: string): void {
    const active = this.#active
    if (active === undefined || !active.started || !active.ours || this.#ending !== undefined) return
    this.#showLink(active, 'lost', reason)
    if (code === Number(Status.FAILED_PRECONDITION) || code === Number(Status.INVALID_ARGUMENT)) {
      this.#options.log.error({ reason }, 'the link cannot work')
    }
    if (active.role === 'right') void this.#initiator.reopen(active)
  }

  async sessionStarting(parameters: SessionParameters, initiatorAddress: string, call: CallContext): Promise<void> {
    const { greeting, pair, clock, timing, log } = this.#options
    if (this.#stopped) throw rpcError(Status.UNAVAILABLE, 'the gateway stops')
    const address = normalised(initiatorAddress, 'initiatorAddress')
    const theirs = greetingOf(call.metadata)
    const problem = theirs === undefined ? undefined : greetingProblem(greeting, theirs)
    if (problem !== undefined) {
      log.error({ peer: address, problem }, 'a session was refused: the two ends do not fit')
      throw rpcError(Status.FAILED_PRECONDITION, problem)
    }
    const attempt = call.metadata.get(METADATA.attempt) ?? ''
    const running = this.#active
    if (running !== undefined && running.role === 'left' && attempt !== '' && running.attempt === attempt) {
      // The answer was lost, or the link broke: the same session.
      if (running.peerAddress === address) return this.#tellToken(running, call)
    }
    await this.#giveWay(address, call)
    const active = this.#newActive('left', address, parameters, attempt)
    active.originator = call.originator
    active.ours = theirs !== undefined
    if (active.ours) active.token = this.#randomHex(32)
    try {
      await withDeadline(clock, timing.answerMs, 'the device', () => pair.prepare(this.#pairInfo(active)))
    } catch (error) {
      if (codeOf(error) === 'E_DEADLINE') void quietly(pair.end())
      this.#discard(active)
      this.#state.set({ state: 'none', errorCode: Status.FAILED_PRECONDITION, reason: explanationOf(error) })
      throw rpcError(Status.FAILED_PRECONDITION, explanationOf(error))
    }
    if (this.#active !== active) throw rpcError(Status.ABORTED, 'the session was ended while it began')
    this.#started(active)
    this.#tellToken(active, call)
  }

  #tellToken(active: ActiveSession, call: CallContext): void {
    if (active.token === undefined) return
    for (const [name, value] of greetingMetadata(this.#options.greeting)) call.setTrailer(name, value)
    call.setTrailer(METADATA.session, active.token)
  }

  /** A session that lives is not ended by somebody who is not its peer. */
  async #giveWay(address: string, call: CallContext): Promise<void> {
    if (this.#ending !== undefined) await this.#ending
    const running = this.#active
    if (running === undefined) return
    const refuse = (): never => {
      throw rpcError(Status.FAILED_PRECONDITION, 'a session with another peer runs here')
    }
    if (running.role === 'right' && !running.started) {
      // Both ends were told to begin. The lower address does.
      const own = this.#options.controlAddress() ?? ''
      if (running.peerAddress === address && own < address) refuse()
    } else if (!hasToken(running, call.metadata) && (await isAlive(running, address, call.originator, this.#life)))
      refuse()
    await this.#end('the peer begins a new session', false)
  }

  /** The initiator opens the link service. */
  acceptLink(call: CallContext, channel: LinkChannel): ChannelListener {
    const active = this.#active
    if (
      active === undefined ||
      active.role !== 'left' ||
      this.#ending !== undefined ||
      !hasToken(active, call.metadata)
    ) {
      throw rpcError(Status.UNAUTHENTICATED, 'no session with this token runs here')
    }
    const listener = this.#options.runtime.talk.attach(channel)
    this.#showLink(active, 'open', '')
    return listener
  }

  async sessionEnding(call: CallContext): Promise<void> {
    const active = this.#active
    if (active === undefined) return
    if (this.peerCheck(call.originator, call.metadata) !== 'peer') {
      throw rpcError(Status.PERMISSION_DENIED, 'the session that runs here is with another peer')
    }
    await this.#end('the peer ends the session', false)
    void this.#endByPeer(active)
  }

  /** The other gateway said that the session ends. */
  peerSaidBye(): void {
    if (this.#active !== undefined) void this.#endByPeer(this.#active)
  }

  async #endByPeer(active: ActiveSession): Promise<void> {
    await this.#end('the peer ends the session', false)
    const { askedAgainMs, parameters, peerAddress } = active
    if (askedAgainMs === undefined || this.#stopped) return
    if (this.#options.clock.monotonicMs() - askedAgainMs > ASKED_AGAIN_MS || this.#active !== undefined) return
    // The SiteAgent's RunSession overtook the end of the old session: it was meant for a new one.
    await quietly(this.#run(parameters, peerAddress))
  }

  /** Whether a caller is the other device of the session that runs. */
  peerCheck(originator: Originator, metadata: ReadonlyMap<string, string>): PeerVerdict {
    return this.#active === undefined ? 'no session' : peerCheck(this.#active, originator, metadata, this.#life)
  }

  /** Settles what is under way, tells the peer, forgets the session. Idempotent; bounded whatever the peer does. */
  #end(reason: string, tellPeer: boolean, errorCode = 0): Promise<void> {
    const active = this.#active
    if (this.#ending !== undefined) return this.#ending
    if (active === undefined) {
      const { state } = this.#state.value
      if (state === 'none') this.#state.set({ state: 'none', errorCode: 0, reason })
      return Promise.resolve()
    }
    this.#ending = this.#endActive(active, reason, tellPeer, errorCode).finally(() => (this.#ending = undefined))
    return this.#ending
  }

  async #endActive(active: ActiveSession, reason: string, tellPeer: boolean, errorCode: number): Promise<void> {
    const { runtime, pair, timing, clock, log } = this.#options
    const { role, peerAddress } = active
    active.ended.abort()
    this.#state.set({ state: 'ending', role, peerAddress })
    runtime.pause(true)
    await quietly(withDeadline(clock, timing.settleMs, 'quiesce', () => pair.quiesce()))
    const settled = await runtime.settle(timing.settleMs)
    runtime.talk.detach(reason)
    if (tellPeer && active.started) await this.#tellEnding(active)
    await quietly(withDeadline(clock, timing.settleMs, 'end', () => pair.end()))
    log.info({ role, peer: peerAddress, reason, settled }, 'session ended')
    this.#discard(active)
    this.#state.set({ state: 'none', errorCode, reason })
  }

  async #tellEnding(active: ActiveSession): Promise<void> {
    const { connector, timing, log } = this.#options
    try {
      active.connection ??= await connector.connect(active.peerAddress)
      await active.connection.sessionEnding(tokenMetadata(active), timing.endingMs)
    } catch (error) {
      log.info({ peer: active.peerAddress, reason: messageOf(error) }, 'the peer did not hear that the session ends')
    }
  }

  #discard(active: ActiveSession): void {
    active.ended.abort()
    active.connection?.close()
    if (this.#active === active) this.#active = undefined
    this.#listeners.reset()
  }

  /** The device cannot go on with the session. */
  #fail(active: ActiveSession, error: Error): void {
    if (this.#active !== active) return
    const reason = explanationOf(error)
    this.#options.log.error({ reason }, 'the device ends the session')
    void this.#end(reason, true, Status.FAILED_PRECONDITION)
  }

  #pairInfo(active: ActiveSession): Parameters<PairHooks['prepare']>[0] {
    return {
      role: active.role,
      peerAddress: active.peerAddress,
      parameters: active.parameters,
      metadata: () => tokenMetadata(active),
      initialKey: (signal) => this.#initialKeys.take(AbortSignal.any([signal, active.ended.signal])),
      fail: (error) => this.#fail(active, error),
    }
  }

  #showStatus(): void {
    const next = linkStatusOf(this.#state.value, { waiting: this.waiting, gone: this.#listeners.gone })
    const present = this.#linkStatus.value
    if (next.state !== present.state || next.errorCode !== present.errorCode) this.#linkStatus.set(next)
  }

  /** Ends the session and every WaitForSession. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#end('the gateway stops', true)
    this.#initialKeys.close()
    this.#listeners.endAll(Status.UNAVAILABLE, 'the gateway stops')
  }

  #randomHex(length: number): string {
    return Buffer.from(this.#options.random.bytes(length)).toString('hex')
  }
}

/** A RunSession that came so shortly before the peer's end of the session was meant for the next one, ms. */
const ASKED_AGAIN_MS = 2_000
