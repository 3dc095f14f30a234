/** Keeps asking for proof as long as one connection lives, and says what came of it. */
import type { StateCell } from '../base/cell.js'
import type { Timer } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { formatHostPort } from '../base/host-port.js'
import type { TunnelState } from './contract.js'
import type { HostAddresses } from './host-addresses.js'
import type { Nudge } from './nudge.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { Prover, type Proof, type ProofSubject } from './prover.js'
import type { RetrySchedule } from './retry.js'

export interface ProofKeeperParts {
  readonly cell: StateCell<TunnelState>
  readonly options: Pick<TunnelOptions, 'clock' | 'log' | 'probe'>
  readonly timings: TunnelTimings
  readonly hosts: HostAddresses
  readonly nudge: Nudge
  readonly retry: RetrySchedule
  /** Told each reason why the tunnel is not proven. */
  readonly onReason: (reason: string) => void
}

/** For a path that drops large packets. */
export const LARGE_REMEDY =
  'something on the way drops large packets (MTU): lower the MTU of the interface, or let ICMP through'

export class ProofKeeper {
  readonly counts = { probes: 0, probeFailures: 0 }
  readonly #prover: Prover
  #viaSshWarning: string | undefined
  #lastReason = ''
  #subject: ProofSubject | undefined
  /** Ends `proven` where no further call came back in time, whatever keeps it. */
  #lapse: Timer | undefined
  #largeUnderWay = false

  constructor(private readonly parts: ProofKeeperParts) {
    this.#prover = new Prover(parts.options.probe, parts.timings, (reason) => this.#doubted(reason))
  }

  /** A large message went out and has not come back; the small one before it had. */
  get largeUnderWay(): boolean {
    return this.#largeUnderWay
  }

  warnings(): string[] {
    return this.#viaSshWarning === undefined ? [] : [this.#viaSshWarning]
  }

  /**
   * Proves in intervals until `signal` aborts (rejects with E_CANCELLED) or the connection turns out to be dead or
   * worth replacing: it is destroyed then, with the reason.
   */
  async run(subject: ProofSubject, signal: AbortSignal): Promise<void> {
    try {
      await this.#keepProving(subject, signal)
    } finally {
      this.#lapse?.cancel()
      this.#largeUnderWay = false
    }
  }

  async #keepProving(subject: ProofSubject, signal: AbortSignal): Promise<void> {
    const { options, timings, retry, nudge } = this.parts
    const { clock } = options
    this.#subject = subject
    let unprovenSinceMs = clock.monotonicMs()
    let provenSinceMs: number | undefined
    let failuresInARow = 0
    let hole = false
    let largeDueMs = clock.monotonicMs()
    while (!signal.aborted) {
      this.counts.probes += 1
      const askedMs = clock.monotonicMs()
      const proof = await this.#prover.prove(subject, signal)
      let pauseMs = timings.probeIntervalMs
      if (proof.proven) {
        failuresInARow = 0
        unprovenSinceMs = clock.monotonicMs()
        provenSinceMs ??= clock.monotonicMs()
        if (clock.monotonicMs() - provenSinceMs >= timings.resetAfterProvenMs) retry.reset()
        if (!hole) this.#proven(subject, proof)
        await this.#prover.lookFromHere(subject, signal)
        if (hole || clock.monotonicMs() >= largeDueMs) {
          largeDueMs = clock.monotonicMs() + timings.largeProbeIntervalMs
          this.#largeUnderWay = true
          const why = await this.#prover.proveLarge(subject, timings.largeProbeBytes, signal)
          this.#largeUnderWay = false
          if (why !== undefined) this.#largeFailed(subject, why)
          else if (hole || this.parts.cell.value.state === 'degraded') this.#proven(subject, proof)
          hole = why !== undefined
        }
        // What the large message took is no longer to wait for the next small one.
        pauseMs = Math.max(0, pauseMs - (clock.monotonicMs() - askedMs))
      } else {
        if ('linkDead' in proof) {
          const ms = timings.pingTimeoutMs
          return subject.link.destroy(
            `the server has not answered for ${ms} ms, nor has anybody at the control address`,
          )
        }
        this.counts.probeFailures += 1
        provenSinceMs = undefined
        this.#unproven(subject, proof.error, failuresInARow === 0)
        failuresInARow += 1
        // sshd reads its settings and authorized_keys for new connections only: what was mended shows on a fresh one.
        const unprovenMs = clock.monotonicMs() - unprovenSinceMs
        if (unprovenMs >= timings.replaceUnprovenAfterMs && subject.link.openConnections() === 0) {
          return subject.link.destroy(`not proven for ${Math.round(unprovenMs / 1000)} s (${proof.error.message})`)
        }
        pauseMs = Math.min(pauseMs, 100 * 2 ** Math.min(failuresInARow, 10))
      }
      await nudge.wait(pauseMs, signal)
    }
  }

  /** `proven` is not said any longer than it is so, also while the cause is still being looked for. */
  #doubted(why: string): void {
    const { cell, onReason, options } = this.parts
    const subject = this.#subject
    if (subject === undefined || cell.value.state !== 'proven') return
    const { listener, controlAddress } = subject
    const reason = `the last call to ${formatHostPort(controlAddress)} did not come back (${why}); looking for the cause`
    onReason(reason)
    options.log.info(`tunnel in doubt: ${reason}`)
    cell.set({ state: 'degraded', listener, controlAddress, reason })
  }

  #proven(subject: ProofSubject, proof: Extract<Proof, { proven: true }>): void {
    const { listener, controlAddress } = subject
    const { cell, hosts, options } = this.parts
    const before = cell.value
    const { probeIntervalMs, probeTimeoutMs } = this.parts.timings
    this.#lapse?.cancel()
    this.#lapse = options.clock.after(probeIntervalMs + probeTimeoutMs, () =>
      this.#doubted(`none has for ${probeIntervalMs + probeTimeoutMs} ms`),
    )
    hosts.proven(proof.via, controlAddress, proof.originator)
    this.#viaSshWarning =
      proof.via === 'here'
        ? undefined
        : `proven only from the server's own side (${proof.notFromHere ?? 'not tried from here'}): a SiteAgent on that host reaches us, whether the other site does is not shown`
    cell.set({
      state: 'proven',
      listener,
      controlAddress,
      via: proof.via,
      provenAtMs: options.clock.nowMs(),
      roundTripMs: proof.roundTripMs,
    })
    if (before.state === 'proven' && before.via === proof.via) return
    options.log.info(
      { via: proof.via, roundTripMs: proof.roundTripMs },
      `tunnel proven: a call to ${formatHostPort(controlAddress)} came back to this process`,
    )
    if (this.#viaSshWarning !== undefined) options.log.warn(this.#viaSshWarning)
  }

  #unproven(subject: ProofSubject, error: GatewayError, isFirst: boolean): void {
    const { cell, options, onReason } = this.parts
    const { listener, controlAddress } = subject
    const wasProven = cell.value.state === 'proven' || cell.value.state === 'degraded'
    this.#lastReason = error.message
    onReason(error.message)
    cell.set({
      state: wasProven ? 'degraded' : 'listening',
      listener,
      controlAddress,
      reason: error.message,
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
    })
    if (isFirst) options.log.warn({ code: error.code, remedy: error.remedy }, `tunnel not proven: ${error.message}`)
  }

  #largeFailed(subject: ProofSubject, why: string): void {
    const bytes = this.parts.timings.largeProbeBytes
    this.counts.probeFailures += 1
    const reason = `small messages come through, large ones (${bytes} bytes) do not: ${why}`
    this.#unproven(
      subject,
      new GatewayError('E_PROBE_FAILED', reason, {
        remedy: LARGE_REMEDY,
      }),
      this.#lastReason !== reason,
    )
  }
}
