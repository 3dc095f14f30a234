/** The choice of a back end where none is named. */
import type { Clock } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import type { Logger } from '../observe/log.js'
import type { TunnelBackendName } from './contract.js'
import type { Identities } from './identities.js'
import type { LinkTaker, TunnelBackend, TunnelLink } from './link.js'
import { INNER_STEP } from './nested-backend.js'
import { opensshAbility } from './openssh-command.js'

export interface AutoParts {
  readonly ssh2: TunnelBackend
  readonly openssh: TunnelBackend
  readonly nested: TunnelBackend
  readonly program: string
  readonly requirePostQuantum: boolean
  readonly identities: () => Promise<Identities>
  readonly clock: Clock
  readonly log: Logger
}

/** A connection after so long looks again whether there is something better than `ssh2`. */
const LOOK_AGAIN_MS = 600_000

/**
 * `openssh+ssh2` where the system's ssh and the server agree on a post-quantum key exchange and the server lets us
 * through to its own sshd; `openssh` where there are no keys that ssh2 could use; else `ssh2`. The choice is kept for
 * as long as it works, and made anew after it failed. `ssh2` is left again once there is something better, and is never
 * the answer to a connection that was merely lost: who breaks one could have a worse one that way.
 */
export class AutoBackend implements TunnelBackend {
  #chosen: TunnelBackend
  #works = false
  #choice: { why: string; lacks: string | undefined } | undefined
  #lookAgainAtMs = 0

  constructor(private readonly parts: AutoParts) {
    this.#chosen = parts.nested
  }

  get name(): TunnelBackendName {
    return this.#chosen.name
  }

  get knowsOriginators(): boolean {
    return this.#chosen.knowsOriginators
  }

  get choice(): { why: string; lacks: string | undefined } | undefined {
    return this.#choice
  }

  get chosen(): TunnelBackend {
    return this.#chosen
  }

  reconsider(): void {
    this.#lookAgainAtMs = 0
  }

  async connect(taker: LinkTaker, signal: AbortSignal): Promise<TunnelLink> {
    if (this.#works && this.parts.clock.monotonicMs() < this.#lookAgainAtMs) {
      try {
        return await this.#chosen.connect(taker, signal)
      } catch (error) {
        this.#works = !mayHelpToChoose(error)
        throw error
      }
    }
    const { ssh2, openssh, nested, program, requirePostQuantum, identities } = this.parts
    const { keys, agent } = await identities()
    if (keys.length === 0 && agent === undefined) {
      return this.#use(openssh, "only the system's ssh has keys", taker, signal)
    }
    const ability = await opensshAbility(program)
    if (!requirePostQuantum && (ability === undefined || ability.postQuantum.length === 0)) {
      const lacks = ability === undefined ? 'is not installed' : 'has no post-quantum key exchange'
      return this.#use(ssh2, `the system's ssh ${lacks}`, taker, signal)
    }
    try {
      const link = await nested.connect(taker, signal)
      if (link.postQuantum) return this.#chose(nested, `${link.keyExchange} with ${program}`, link)
      link.destroy('another back end is as good')
      return await this.#use(ssh2, 'the server has no post-quantum key exchange', taker, signal)
    } catch (error) {
      if (requirePostQuantum || !mayHelpToChoose(error) || !(error instanceof GatewayError)) throw error
      const remedy = error.remedy === undefined ? '' : `; ${error.remedy}`
      return this.#use(ssh2, error.message, taker, signal, `${error.message}${remedy}`)
    }
  }

  async #use(
    backend: TunnelBackend,
    why: string,
    taker: LinkTaker,
    signal: AbortSignal,
    lacks = why,
  ): Promise<TunnelLink> {
    return this.#chose(backend, why, await backend.connect(taker, signal), lacks)
  }

  #chose(backend: TunnelBackend, why: string, link: TunnelLink, lacks = ''): TunnelLink {
    const { log, ssh2, clock } = this.parts
    if (this.#chosen !== backend || this.#choice?.why !== why) {
      log.info({ backend: backend.name }, `tunnel back end ${backend.name}: ${why}`)
    }
    const isSecondBest = backend === ssh2
    this.#chosen = backend
    this.#choice = { why, lacks: isSecondBest ? `openssh+ssh2 is off: ${lacks}` : undefined }
    this.#works = true
    this.#lookAgainAtMs = isSecondBest ? clock.monotonicMs() + LOOK_AGAIN_MS : Number.POSITIVE_INFINITY
    return link
  }
}

/** Failures that another back end would not share. */
function mayHelpToChoose(error: unknown): boolean {
  if (!(error instanceof GatewayError)) return false
  const step = error.details['step']
  return error.code === 'E_NO_POST_QUANTUM' || step === INNER_STEP || step === 'ssh'
}
