/** Runs the agreement: turns what happens into events, and does what it asks for. */
import { status as Status } from '@grpc/grpc-js'
import type { Timer } from '../base/clock.js'
import { wipe } from '../base/wipe.js'
import type { KeyStream } from '../rpc/device-port.js'
import { linkBlocked, wantedBatch } from './agreement/delivery.js'
import { type DurableState, stateAtStart } from './agreement/durable.js'
import type { AgreementEffect, AgreementEvent, AgreementMessage, AwaitedRecord } from './agreement/events.js'
import { isSettling, nextTickMs, transition } from './agreement/machine.js'
import { helloOf } from './agreement/reconcile.js'
import type { AgreementState } from './agreement/state.js'
import { presentStores } from './agreement/stores.js'
import { Conversation, type SaidMessage } from './conversation.js'
import type { DropReason } from './counts.js'
import { Desk } from './desk.js'
import { recognisedLineage } from './history-proof.js'
import { JournalWriter } from './journal-writer.js'
import { KeyStreams } from './key-streams.js'
import { agreementMessage, announceMessage, dropThroughMessage, type PeerMessage, verifiedMessage } from './messages.js'
import { MAX_MISMATCHES } from './options.js'
import { Proposals } from './proposals.js'
import type { RuntimeFacts, RuntimeOptions } from './runtime-options.js'
import { SitesAccount } from './sites-account.js'
import { SettleWaiters } from './settling.js'
import { type SiteWatch, watchSite } from './site-watch.js'

/** Keys that come with one read of the device's line are announced, or formed into a batch, together. */
const COALESCE_MS = 0
/** How often what nobody tells of is looked at: the SiteAgent's dialect, its reports, whether it reads. */
const LOOK_MS = 50
/** Ids of one Announce. */
const ANNOUNCE_IDS = 50_000

export class AgreementRuntime {
  readonly desk: Desk
  /** The channel to the other gateway. */
  readonly talk: Conversation
  readonly #options: RuntimeOptions
  readonly #watch: SiteWatch
  readonly #streams: KeyStreams
  readonly #proposals: Proposals
  readonly #journal: JournalWriter
  readonly #incarnation: Uint8Array
  #state: AgreementState
  #queue: AgreementEvent[] = []
  #draining = false
  #announcedAnything = false
  /** Right: what proves to the other side that we hold the keys of the batch being prepared. */
  #answerPoint: Uint8Array | undefined
  #timer: Timer | undefined
  #workTimer: Timer | undefined
  #formAtMs: number | undefined
  /** Whatever else re-arms the timer, it is looked then. */
  #lookAtMs = 0
  readonly #settling: SettleWaiters
  readonly #sites: SitesAccount
  #inferredKeys = 0n
  #closed = false

  constructor(options: RuntimeOptions) {
    this.#options = options
    const { batch, hold, timing, random, greeting } = options
    this.desk = new Desk(greeting.keyBytes, {
      maxHeldKeys: hold.maxKeys,
      maxHeldMs: hold.maxAgeMs,
      gapWaitMs: hold.gapWaitMs,
    })
    this.#incarnation = random.bytes(16)
    this.#streams = new KeyStreams(Buffer.from(this.#incarnation.subarray(0, 8)).toString('hex'), greeting.keyBytes)
    this.#proposals = new Proposals(this.desk, batch)
    this.#journal = new JournalWriter(options)
    this.#settling = new SettleWaiters(options.clock, () => isSettling(this.#state))
    this.talk = new Conversation({
      ...options,
      maxIds: hold.maxKeys * 2,
      pingMs: timing.pingMs,
      onConnected: () => this.#connected(),
      onHello: (hello, incarnation) => {
        const own = { lineage: this.#state.lineage, incarnation: this.#incarnation }
        const lineage = recognisedLineage(hello.lineage, incarnation, own)
        this.dispatch({ type: 'hello', hello: { ...hello, lineage }, nowMs: this.#nowMs() })
        if (this.#state.peer?.fits === true) this.#sites.know('there', hello.total)
      },
      onMessage: (message) => this.#understand(message),
      onGone: (ended) => {
        this.#disconnected()
        if (ended !== undefined) options.onChannelLost(ended.code, ended.reason)
      },
    })
    this.#sites = new SitesAccount(options.clock, () => this.talk.roundTripMs)
    const limits = {
      // A little less than what a stop waits for, so that it sees the outcome.
      settleMs: Math.max(1, timing.settleMs - 50),
      inferAfterMs: timing.inferAfterMs,
      answerMs: timing.answerTotalMs,
      maxMismatches: MAX_MISMATCHES,
    }
    this.#state = stateAtStart(options.journal.load()?.state, limits, this.#randomHex())
    this.#sites.know('here', this.#state.store.total)
    this.#watch = watchSite(options.totals, options.clock, timing.reportsGraceMs, (event) => this.dispatch(event))
    this.#watch.look()
    this.#armTimer()
  }

  get state(): AgreementState {
    return this.#state
  }

  /** Facts that are not part of the agreement's state. */
  get facts(): RuntimeFacts {
    return {
      journalProblem: this.#journal.problem,
      peerMismatch: this.talk.mismatch,
      sites: this.#sites.figures(),
      lastTakenInMs: this.#sites.lastHereMs,
      roundTripMs: this.talk.roundTripMs,
      inferredKeys: this.#inferredKeys,
      blocked: linkBlocked(this.#state),
    }
  }

  #nowMs(): number {
    return this.#options.clock.monotonicMs()
  }

  #randomHex(): string {
    return Buffer.from(this.#options.random.bytes(16)).toString('hex')
  }

  beginSession(role: 'left' | 'right'): void {
    this.talk.forgetMismatch()
    this.dispatch({ type: 'session', role, freshLineage: this.#randomHex(), nowMs: this.#nowMs() })
  }

  /** No new batches; what is under way goes on. */
  pause(paused: boolean): void {
    this.dispatch({ type: 'pause', paused, nowMs: this.#nowMs() })
  }

  /** Resolves once nothing is on its way between the sites, or after `timeoutMs`; true if it settled. */
  settle(timeoutMs: number): Promise<boolean> {
    return this.#settling.wait(timeoutMs)
  }

  openStream(stream: KeyStream): void {
    const name = this.#streams.add(stream)
    this.#watch.look()
    this.dispatch({ type: 'streamOpened', stream: name, nowMs: this.#nowMs() })
    const onEnd = (): void => {
      this.#streams.remove(name)
      this.dispatch({ type: 'streamEnded', stream: name, nowMs: this.#nowMs() })
    }
    if (stream.signal.aborted) onEnd()
    else stream.signal.addEventListener('abort', onEnd, { once: true })
  }

  offerKey(id: bigint, key: Uint8Array): void {
    if (this.#closed) {
      wipe(key)
      return
    }
    this.desk.offer(id, key, this.#nowMs())
    this.#workSoon()
  }

  deviceRenumbered(reason: string): void {
    this.#options.log.warn({ reason }, 'the device numbers its keys anew')
    this.desk.renumbered()
    this.#announceAnew()
  }

  siteAgentRestarted(): void {
    this.dispatch({ type: 'siteRestarted', store: this.#randomHex(), nowMs: this.#nowMs() })
  }

  acceptDivergence(): void {
    this.dispatch({ type: 'acceptDivergence', nowMs: this.#nowMs() })
  }

  #connected(): void {
    this.desk.reconnected()
    this.#announcedAnything = false
    this.dispatch({ type: 'connected', nowMs: this.#nowMs() })
  }

  #disconnected(): void {
    this.#proposals.forget()
    this.#sites.disconnected()
    this.dispatch({ type: 'disconnected', nowMs: this.#nowMs() })
    this.desk.reconnected()
  }

  /** Wipes what is held and stops every timer. */
  async close(): Promise<void> {
    this.#closed = true
    this.talk.detach('the gateway stops')
    this.#watch.stop()
    this.#timer?.cancel()
    this.#workTimer?.cancel()
    this.desk.close()
    await this.#journal.close()
  }

  dispatch(event: AgreementEvent): void {
    this.#queue.push(event)
    if (this.#draining) return
    this.#draining = true
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        const { state, effects } = transition(this.#state, next)
        this.#state = state
        for (const effect of effects) this.#perform(effect)
      }
    } finally {
      this.#draining = false
    }
    this.#settling.notify()
    this.#options.onChange()
    this.#workSoon()
    this.#armTimer()
  }

  #perform(effect: AgreementEffect): void {
    const { log } = this.#options
    switch (effect.type) {
      case 'sendHello':
        this.talk.sayHello(helloOf(this.#state), this.#incarnation)
        return
      case 'send':
        this.talk.send(agreementMessage(effect.message))
        return
      case 'sendVerified':
        if (this.#answerPoint !== undefined) this.talk.send(verifiedMessage(effect.serial, this.#answerPoint))
        return
      case 'journal':
        void this.#write(effect.record, effect.awaited)
        return
      case 'deliver':
        return this.#deliver(effect.serial, effect.stream)
      case 'ask':
        void this.#streams.ask(effect.stream, this.#nowMs())
        return
      case 'commit':
        return this.desk.commit(effect.serial)
      case 'delivered':
        return this.#delivered(effect.serial, effect.inferred)
      case 'drop':
        return this.desk.drop(effect.serial, effect.reason)
      case 'restore':
        return this.desk.restore(effect.serial, this.#nowMs())
      case 'announceAnew':
        return this.#announceAnew()
      case 'endStream':
        return this.#streams.end(effect.stream, Status.CANCELLED, effect.reason)
      case 'log':
        log[effect.level](effect.text)
        return
      case 'protocolError':
        this.talk.refuse(effect.text)
    }
  }

  #delivered(serial: number, inferred: boolean): void {
    this.#sites.takenInHere(serial, this.#state.store.total)
    if (inferred) this.#inferredKeys += BigInt(this.desk.batch(serial)?.ids.length ?? 0)
    this.desk.delivered(serial)
  }

  #deliver(serial: number, stream: string): void {
    const batch = this.desk.batch(serial)
    if (batch === undefined) return
    void this.#streams.send(stream, batch, this.#nowMs()).then((result) => {
      if (result === 'sent') this.dispatch({ type: 'handedOver', serial, nowMs: this.#nowMs() })
      this.#look()
    })
  }

  async #write(state: DurableState, awaited: readonly AwaitedRecord[]): Promise<void> {
    if (awaited.length === 0) return this.#journal.note(state)
    if (!(await this.#journal.secure(state))) return
    for (const record of awaited) this.dispatch({ type: 'journalled', record, nowMs: this.#nowMs() })
  }

  #understand(message: SaidMessage): void {
    const nowMs = this.#nowMs()
    switch (message.type) {
      case 'announce':
        if (!this.desk.announced(message.ids, message.anew, nowMs)) {
          this.#perform({ type: 'protocolError', text: 'Announce.ids: more than may be held' })
        }
        this.#workSoon()
        return
      case 'propose':
        return this.#prepare(message)
      case 'verified': {
        const genuine = this.#proposals.isGenuine(message.serial, message.point)
        this.dispatch({ type: 'verified', serial: message.serial, genuine, nowMs })
        return
      }
      case 'dropThrough':
        // A stranger's word costs no key.
        if (this.#state.peer?.proven === true) this.desk.droppedByPeer(message.through)
        return
      case 'bye':
        this.#options.log.info({ reason: message.reason }, 'the other gateway closes the link')
        this.#options.onBye()
        return
      case 'agreement':
        this.#noteTakenIn(message.message)
        this.dispatch({ type: 'message', message: message.message, nowMs })
    }
  }

  #noteTakenIn(message: AgreementMessage): void {
    if (message.type !== 'takenIn' || message.skipped || this.#state.peer?.fits !== true) return
    this.#sites.takenInThere(message.serial, message.total)
  }

  #prepare(message: PeerMessage & { readonly type: 'propose' }): void {
    const { serial, ids, sacrificed, stores } = message
    const result = this.#proposals.prepare(this.#state, message)
    if (typeof result === 'string') return this.#perform({ type: 'protocolError', text: result })
    if (result.outcome === 'equal') this.#answerPoint = result.point
    const count = ids.length - sacrificed
    this.dispatch({ type: 'prepared', serial, count, outcome: result.outcome, stores, nowMs: this.#nowMs() })
    this.#answerPoint = undefined
  }

  #workSoon(): void {
    if (this.#closed) return
    this.#workTimer ??= this.#options.clock.after(COALESCE_MS, () => {
      this.#workTimer = undefined
      this.#work()
    })
  }

  #work(): void {
    const dropped = this.desk.enforceLimits(this.#nowMs())
    if (dropped !== undefined) this.#tellDropped(dropped.through, dropped.reason)
    if (this.talk.greeted && this.#state.role === 'right') {
      while (this.desk.hasUnannounced) {
        this.talk.send(announceMessage(this.desk.takeUnannounced(ANNOUNCE_IDS), !this.#announcedAnything))
        this.#announcedAnything = true
      }
    }
    this.#form()
    this.#armTimer()
  }

  #form(): void {
    this.#formAtMs = undefined
    const wanted = wantedBatch(this.#state)
    if (wanted === undefined) return
    const formed = this.#proposals.form(wanted, presentStores(this.#state), this.#nowMs())
    if ('retryAtMs' in formed) {
      this.#formAtMs = formed.retryAtMs
      return
    }
    this.dispatch({ type: 'formed', serial: wanted.serial, count: formed.count, nowMs: this.#nowMs() })
    this.talk.send(formed.message)
  }

  #tellDropped(through: bigint, reason: DropReason): void {
    this.#options.log.warn({ throughId: through.toString(), reason }, 'keys were dropped because more wait than may')
    if (this.talk.greeted) this.talk.send(dropThroughMessage(through, reason))
  }

  #announceAnew(): void {
    this.desk.announceAgain()
    this.#announcedAnything = false
    this.#workSoon()
  }

  #look(): void {
    this.#watch.look()
    const nowMs = this.#nowMs()
    const writable = this.#streams.writable(this.#state.site.stream, nowMs)
    if (writable !== undefined && writable !== this.#state.site.writable) {
      this.dispatch({ type: 'writable', writable, nowMs })
    }
  }

  #armTimer(): void {
    this.#timer?.cancel()
    if (this.#closed) return
    const nowMs = this.#nowMs()
    const times = [this.#lookAtMs, nextTickMs(this.#state), this.#formAtMs].filter((time) => time !== undefined)
    this.#timer = this.#options.clock.after(Math.max(1, Math.min(...times) - nowMs), () => this.#onTimer())
  }

  #onTimer(): void {
    const nowMs = this.#nowMs()
    this.#lookAtMs = nowMs + LOOK_MS
    this.#look()
    const tickMs = nextTickMs(this.#state)
    if (tickMs !== undefined && nowMs >= tickMs) this.dispatch({ type: 'tick', nowMs })
    if (this.#formAtMs !== undefined && nowMs >= this.#formAtMs) this.#workSoon()
    this.talk.checkLife()
    this.#options.onChange()
    this.#armTimer()
  }
}
