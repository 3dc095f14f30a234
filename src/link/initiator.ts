/** The right side of a session: begins it with the peer, tries on where that makes sense, opens the link again. */
import { status as Status } from '@grpc/grpc-js'
import { createBackoff } from '../base/backoff.js'
import { type Clock, sleep } from '../base/clock.js'
import { explanationOf, messageOf } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import { RpcError, rpcError } from '../rpc/bridge.js'
import type { SiteTotals } from '../rpc/site-totals.js'
import { type ActiveSession, greetingMetadata, greetingOf, quietly, tokenMetadata } from './active-session.js'
import { greetingProblem } from './greeting.js'
import type { Greeting } from './messages.js'
import type { TimingOptions } from './options.js'
import type { PairHooks, PairSessionInfo } from './pair-hooks.js'
import { METADATA, type PeerConnector } from './peer.js'

export interface InitiatorOptions {
  readonly greeting: Greeting
  readonly controlAddress: () => string | undefined
  readonly connector: PeerConnector
  readonly pair: PairHooks
  readonly totals: SiteTotals
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly timing: TimingOptions
}

/** What the initiator needs of the session layer. */
export interface InitiatorHost {
  isCurrent(active: ActiveSession): boolean
  pairInfo(active: ActiveSession): PairSessionInfo
  /** The peer has agreed to the session. */
  started(active: ActiveSession): void
  openLink(active: ActiveSession): void
  linkIsOpen(): boolean
  /** The link is lost and not open again yet. */
  stillLost(active: ActiveSession, reason: string): void
  /** A try failed; `final`: there is no other. */
  failed(active: ActiveSession, failure: { code: number; reason: string; tried: number; final: boolean }): void
}

export class Initiator {
  constructor(
    private readonly options: InitiatorOptions,
    private readonly host: InitiatorHost,
  ) {}

  /** Tries for the first time, and on where that failed. The result is that of the first try; never unhandled. */
  begin(active: ActiveSession): Promise<void> {
    const first = this.#try(active)
    active.trying = first
    first.catch(() => {})
    void this.#keepTrying(active)
    return first
  }

  /** One try: SessionStarting, and the link service where the peer is a gateway. Rejects with an `RpcError`. */
  async #try(active: ActiveSession): Promise<void> {
    const { connector, controlAddress, greeting, pair, timing } = this.options
    const own = controlAddress()
    if (own === undefined) {
      const reason = 'the tunnel of this gateway is not proven yet, so the peer could not call back'
      throw rpcError(Status.UNAVAILABLE, reason)
    }
    if (!active.prepared) {
      await pair.prepare(this.host.pairInfo(active)).catch((error: unknown) => {
        throw rpcError(Status.FAILED_PRECONDITION, explanationOf(error))
      })
      active.prepared = true
    }
    active.connection?.close()
    const connection = await connector.connect(active.peerAddress)
    if (active.ended.signal.aborted) {
      connection.close()
      throw rpcError(Status.CANCELLED, 'the session was ended')
    }
    active.connection = connection
    const answer = await connection.sessionStarting({
      parameters: active.parameters,
      initiatorAddress: own,
      metadata: new Map([...greetingMetadata(greeting), [METADATA.attempt, active.attempt], ...tokenMetadata(active)]),
      // The answer to RunSession has to be out a little later.
      timeoutMs: timing.answerMs - 200,
      signal: active.ended.signal,
    })
    const theirs = greetingOf(answer)
    const problem = theirs === undefined ? undefined : greetingProblem(greeting, theirs)
    if (problem !== undefined) throw rpcError(Status.FAILED_PRECONDITION, problem)
    active.ours = theirs !== undefined
    active.token = answer.get(METADATA.session)
    this.host.started(active)
    if (active.ours) this.host.openLink(active)
  }

  /** After a first failure: a C++ site ignores it and never asks again, a Java site asks again by itself. */
  async #keepTrying(active: ActiveSession): Promise<void> {
    const { clock, timing, totals, log, pair } = this.options
    const backoff = this.#backoff()
    const untilMs = clock.monotonicMs() + timing.retryForMs
    for (let tried = 1; this.host.isCurrent(active); tried += 1) {
      try {
        await active.trying
        return
      } catch (error) {
        if (!this.host.isCurrent(active) || active.ended.signal.aborted) return
        const failure = error instanceof RpcError ? error : rpcError(Status.INTERNAL, messageOf(error))
        const final = totals.dialect() === 'java' || clock.monotonicMs() >= untilMs
        const pauseMs = backoff.nextMs()
        const facts = { peer: active.peerAddress, reason: failure.details, tried }
        if (final) log.warn(facts, 'the session could not be started')
        else log.warn({ ...facts, pauseMs }, 'the session could not be started yet; trying again')
        this.host.failed(active, { code: failure.code, reason: failure.details, tried, final })
        if (final) {
          if (active.prepared) await quietly(pair.end())
          return
        }
        if (!(await this.#pause(pauseMs, active))) return
        active.trying = this.#try(active)
        active.trying.catch(() => {})
      }
    }
  }

  /** Opens the link again, for as long as the session runs. A peer that knows nothing of it any more begins it anew. */
  async reopen(active: ActiveSession): Promise<void> {
    const { clock, timing, log } = this.options
    const backoff = this.#backoff()
    const untilMs = clock.monotonicMs() + timing.retryForMs
    while (this.host.isCurrent(active) && !this.host.linkIsOpen() && clock.monotonicMs() < untilMs) {
      if (!(await this.#pause(backoff.nextMs(), active))) return
      try {
        await this.#try(active)
        return
      } catch (error) {
        const reason = error instanceof RpcError ? error.details : messageOf(error)
        log.info({ peer: active.peerAddress, reason }, 'the other gateway cannot be reached yet')
        this.host.stillLost(active, reason)
      }
    }
  }

  #backoff(): ReturnType<typeof createBackoff> {
    const { timing, random } = this.options
    return createBackoff({ firstMs: timing.retryFirstMs, maxMs: timing.retryMaxMs }, random)
  }

  /** False where the session ended meanwhile. */
  async #pause(pauseMs: number, active: ActiveSession): Promise<boolean> {
    try {
      await sleep(this.options.clock, pauseMs, active.ended.signal)
      return true
    } catch {
      return false
    }
  }
}
