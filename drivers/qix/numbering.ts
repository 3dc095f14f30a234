import { createHash } from 'node:crypto'

/** What an id says about the frame that carries it. */
export type Numbering = 'next' | 'repeated' | 'late' | 'restarted'

const REMEMBERED = 256

/**
 * Watches the ids of one unit. Ids need not begin at 1 nor be contiguous, but they rise: one that goes back means that
 * the unit began to number anew, except where the same id came with the same key before (a repetition), or where it
 * fills a hole among those just seen (a frame that came late).
 */
export class IdWatch {
  /** Fingerprints of the last keys by id, in order of arrival; never the keys. */
  readonly #seen = new Map<bigint, string>()
  #last: bigint | undefined
  #lowest = 0n

  note(id: bigint, key: Uint8Array): Numbering {
    const fingerprint = createHash('sha256').update(key).digest('base64').slice(0, 16)
    const before = this.#seen.get(id)
    if (before === fingerprint) return 'repeated'
    if (this.#last === undefined || id > this.#last) {
      this.#remember(id, fingerprint)
      return 'next'
    }
    if (before === undefined && id > this.#lowest) return 'late'
    this.#seen.clear()
    this.#remember(id, fingerprint)
    return 'restarted'
  }

  #remember(id: bigint, fingerprint: string): void {
    this.#last = id
    this.#seen.set(id, fingerprint)
    if (this.#seen.size > REMEMBERED) {
      const [oldest] = this.#seen.keys()
      if (oldest !== undefined) this.#seen.delete(oldest)
    }
    this.#lowest = this.#seen.keys().next().value ?? id
  }
}
