/** Proof that peers reach this process at the control address, and what is wrong where they don't. */
import type { Duplex } from 'node:stream'
import { GatewayError, messageOf, type GatewayErrorOptions } from '../base/errors.js'
import type { ErrorCode } from '../base/error-codes.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { ProbeSelf } from './contract.js'
import type { TunnelLink } from './link.js'
import type { TunnelTimings } from './options.js'
import { isLoopback } from './server-address.js'

export interface ProofSubject {
  readonly link: TunnelLink
  readonly listener: HostPort
  readonly controlAddress: HostPort
}

export type Proof =
  | {
      proven: true
      via: 'here' | 'ssh'
      roundTripMs: number
      originator: HostPort | undefined
      /** Why not from here, where it is `ssh`. */
      notFromHere: string | undefined
    }
  | { proven: false; error: GatewayError }
  /** The SSH server itself does not answer any more. */
  | { proven: false; linkDead: true }

type Attempt = Awaited<ReturnType<ProbeSelf>> | { result: 'prohibited' | 'refused'; reason: string }

/** A look from here after so many that succeeded through SSH only. */
const LOOK_FROM_HERE_EVERY = 12

export class Prover {
  #preferred: 'here' | 'ssh' = 'here'
  #throughSshInARow = 0
  #workedFromHere = false
  #notFromHere: string | undefined

  constructor(
    private readonly probe: ProbeSelf,
    private readonly timings: Pick<TunnelTimings, 'probeTimeoutMs' | 'pingTimeoutMs'>,
    /** Told at once, with the reason, where a call of a way that worked did not come back; what it means takes longer. */
    private readonly onDoubt: (reason: string) => void = () => {},
  ) {}

  /** One round: from here, else through SSH, else a diagnosis. Rejects only with E_CANCELLED. */
  async prove(subject: ProofSubject, signal: AbortSignal): Promise<Proof> {
    let here: Attempt | undefined
    if (this.#preferred === 'here') {
      this.#throughSshInARow = 0
      here = await this.#fromHere(subject, 0, signal)
      // One lost call of many is no reason to doubt the way.
      if (here.result !== 'ourselves' && this.#workedFromHere) {
        this.onDoubt(here.reason)
        if (!(await subject.link.ping(this.timings.pingTimeoutMs))) return { proven: false, linkDead: true }
        here = await this.#fromHere(subject, 0, signal)
      }
      this.#workedFromHere = here.result === 'ourselves'
      if (here.result === 'ourselves') {
        this.#preferred = 'here'
        return { proven: true, via: 'here', ...facts(here), notFromHere: undefined }
      }
      this.#notFromHere = here.reason
      // The usual cause, and quicker to find out than to wait for a connection that nobody opens.
      if (!(await subject.link.ping(this.timings.pingTimeoutMs))) return { proven: false, linkDead: true }
    }
    const there = await this.#throughSsh(subject, subject.controlAddress, 0, signal)
    if (there.result === 'ourselves') {
      this.#preferred = 'ssh'
      this.#throughSshInARow += 1
      return { proven: true, via: 'ssh', ...facts(there), notFromHere: this.#notFromHere }
    }
    this.#preferred = 'here'
    if (here === undefined) {
      this.onDoubt(there.reason)
      if (!(await subject.link.ping(this.timings.pingTimeoutMs))) return { proven: false, linkDead: true }
      return this.prove(subject, signal)
    }
    return { proven: false, error: await this.#diagnose(subject, here, there, signal) }
  }

  /** Where only the way through SSH was proven: looks now and then whether the control address can be dialled from here again. */
  async lookFromHere(subject: ProofSubject, signal: AbortSignal): Promise<void> {
    if (this.#preferred === 'here' || this.#throughSshInARow < LOOK_FROM_HERE_EVERY) return
    this.#throughSshInARow = 0
    const here = await this.#fromHere(subject, 0, signal)
    if (here.result === 'ourselves') this.#preferred = 'here'
    else this.#notFromHere = here.reason
  }

  /** A large message the way that was last proven; undefined where it came back, else the reason. */
  async proveLarge(subject: ProofSubject, paddingBytes: number, signal: AbortSignal): Promise<string | undefined> {
    const attempt =
      this.#preferred === 'here'
        ? await this.#fromHere(subject, paddingBytes, signal)
        : await this.#throughSsh(subject, subject.controlAddress, paddingBytes, signal)
    return attempt.result === 'ourselves' ? undefined : attempt.reason
  }

  async #fromHere(subject: ProofSubject, paddingBytes: number, signal: AbortSignal): Promise<Attempt> {
    const { controlAddress: target, link } = subject
    if (isLoopback(target.host) && !isLoopback(link.address)) {
      return { result: 'unreachable', reason: `${target.host} is the server's own loopback` }
    }
    return this.#call({ target, paddingBytes, signal })
  }

  async #throughSsh(
    subject: ProofSubject,
    target: HostPort,
    paddingBytes: number,
    signal: AbortSignal,
  ): Promise<Attempt> {
    let stream: Duplex
    try {
      stream = await subject.link.dial(target, signal)
    } catch (error) {
      if (signal.aborted) throw error
      const dial = error instanceof GatewayError ? error.details['dial'] : undefined
      const result = dial === 'prohibited' || dial === 'refused' ? dial : 'unreachable'
      return { result, reason: messageOf(error) }
    }
    try {
      return await this.#call({ target, stream, paddingBytes, signal })
    } finally {
      stream.destroy()
    }
  }

  async #call(request: Omit<Parameters<ProbeSelf>[0], 'timeoutMs'>): Promise<Attempt> {
    // A large message may take its time on a thin line.
    const timeoutMs = this.timings.probeTimeoutMs * (request.paddingBytes > 0 ? 3 : 1)
    try {
      const answer = await this.probe({ ...request, timeoutMs })
      if (request.signal.aborted) throw new GatewayError('E_CANCELLED', 'probe: stopped')
      return answer
    } catch (error) {
      if (request.signal.aborted) throw new GatewayError('E_CANCELLED', 'probe: stopped')
      return { result: 'unreachable', reason: messageOf(error) }
    }
  }

  async #diagnose(subject: ProofSubject, here: Attempt, there: Attempt, signal: AbortSignal): Promise<GatewayError> {
    const { listener, controlAddress } = subject
    const control = formatHostPort(controlAddress)
    const both = `from here: ${reasonOf(here)}; from the server: ${reasonOf(there)}`
    const failure = (code: ErrorCode, text: string, options: GatewayErrorOptions): GatewayError =>
      new GatewayError(code, text, { details: { host: controlAddress.host, port: controlAddress.port }, ...options })
    if (here.result === 'stranger' || there.result === 'stranger') {
      return failure('E_PROBE_FAILED', `another program answers at ${control}, not this gateway (${both})`, {
        remedy: 'check --control-address and --remote-listen; another gateway may have the same address',
      })
    }
    const loopback = await this.#throughSsh(subject, { host: '127.0.0.1', port: listener.port }, 0, signal)
    if (loopback.result === 'prohibited' && there.result === 'refused') {
      return failure(
        'E_PROBE_FAILED',
        `nobody reaches this gateway at ${control}, and the server itself is refused there: most likely sshd has GatewayPorts no and listens on its loopback only (${both})`,
        {
          remedy: `set "GatewayPorts clientspecified" in the server's sshd_config and reload sshd; to know for certain, permit permitopen="127.0.0.1:${listener.port}" and "127.0.0.2:${listener.port}" (qkd-gw tunnel server-config --diagnosis)`,
        },
      )
    }
    if (loopback.result === 'prohibited' || there.result === 'prohibited') {
      return failure('E_PROBE_FAILED', `nobody reaches this gateway at ${control} (${both})`, {
        remedy: `either sshd listens on loopback only (GatewayPorts clientspecified mends it) or a firewall closes port ${listener.port}; to tell which, permit permitopen="${control}", "127.0.0.1:${listener.port}" and "127.0.0.2:${listener.port}"`,
      })
    }
    if (loopback.result !== 'ourselves') {
      return failure('E_PROBE_FAILED', `nobody reaches this gateway at ${control} (${both})`, {
        remedy: `check that ${control} is an address of the SSH server and that its firewall lets port ${listener.port} in`,
      })
    }
    // Every address of 127/8 is this host's own on Linux: only a listener on all addresses answers at the second one.
    const elsewhere = await this.#throughSsh(subject, { host: '127.0.0.2', port: listener.port }, 0, signal)
    if (elsewhere.result === 'refused') {
      return failure(
        'E_FORWARD_LOOPBACK_ONLY',
        `the listener answers only on the server's own loopback: sshd has GatewayPorts no and binds 127.0.0.1 whatever is asked (${both})`,
        {
          remedy: `set "GatewayPorts clientspecified" in the server's sshd_config and reload sshd; qkd-gw tunnel server-config prints all of it`,
        },
      )
    }
    const known = elsewhere.result === 'ourselves'
    return failure(
      'E_PROBE_FAILED',
      `${known ? 'the listener is open on all addresses of the server' : "the listener answers on the server's loopback"}, yet nobody reaches it at ${control} (${both})`,
      {
        remedy: `open port ${listener.port} in the server's firewall or security group, and check that ${controlAddress.host} is the server's address`,
      },
    )
  }
}

function facts(answer: Extract<Attempt, { result: 'ourselves' }>): {
  roundTripMs: number
  originator: HostPort | undefined
} {
  return { roundTripMs: answer.roundTripMs, originator: answer.originator }
}

function reasonOf(attempt: Attempt): string {
  return attempt.result === 'ourselves' ? 'reached' : attempt.reason
}
