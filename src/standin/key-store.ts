/**
 * The key store of a C++ SiteAgent: numbers keys by arrival, keeps unused and reserved ones apart, and agrees with the
 * store of the other site only on which ids are taken, never on what they hold.
 */
import { createHash } from 'node:crypto'
import type { Clock, Timer } from '../base/clock.js'

/** Why a key was not handed out; the service turns it into a gRPC status. */
export type KeyStoreRefusal = 'exhausted' | 'not-found' | 'unavailable'

export type KeyStoreAnswer<T> = { ok: true; value: T } | { ok: false; refusal: KeyStoreRefusal }

export interface StoredKey {
  readonly id: bigint
  /** Empty for a placeholder: the id was reserved before the key came. */
  readonly key: Uint8Array
}

export interface KeptKeys {
  /** Number of the next key. */
  readonly nextId: bigint
  readonly unused: ReadonlyMap<bigint, Uint8Array>
}

export interface KeyStoreOptions {
  /** The other site as the path spells it; the store's calls to the other site go there. */
  readonly destination: string
  readonly clock: Clock
  /** How long an id that has not come yet is waited for; 30 s in the original. */
  readonly waitMs: number
  /** What a backing store holds of earlier runs. */
  readonly kept?: KeptKeys
  /** Tells the other site which id is taken; resolves with the id to use, which may be another one. */
  readonly markAtOtherSite: (id: bigint) => Promise<KeyStoreAnswer<bigint>>
  /** Called after each change of a figure. */
  readonly onChange: (change: { generated?: number; used?: number }) => void
}

const emptyKey = new Uint8Array(0)

export class StandinKeyStore {
  readonly destination: string
  /** Ascending by id: keys are only ever added at the end. */
  readonly #unused = new Map<bigint, Uint8Array>()
  readonly #reserved = new Map<bigint, Uint8Array>()
  readonly #received: Uint8Array[] = []
  readonly #runningHash = createHash('sha256')
  readonly #waiters = new Set<() => void>()
  #nextId: bigint
  #generatedTotal = 0n
  #closed = false

  constructor(private readonly options: KeyStoreOptions) {
    this.destination = options.destination
    this.#nextId = options.kept?.nextId ?? 1n
    for (const [id, key] of options.kept?.unused ?? []) this.#unused.set(id, key)
  }

  /** Keys received in order of arrival since this store was made. Test material: stand-ins never hold secrets. */
  get received(): readonly Uint8Array[] {
    return this.#received
  }

  /** Keys received over all sessions, and those that relaying over several hops added: the figure `Key Generated`. */
  get generatedTotal(): bigint {
    return this.#generatedTotal
  }

  /** What a backing store would hold now: keys that are reserved were handed out or are being so. */
  kept(): KeptKeys {
    return { nextId: this.#nextId, unused: new Map(this.#unused) }
  }

  get nextId(): bigint {
    return this.#nextId
  }

  get unusedCount(): number {
    return this.#unused.size
  }

  get reservedCount(): number {
    return this.#reserved.size
  }

  /** SHA-256 (hex) over the bytes of the first `count` keys in order of arrival; undefined while fewer came. */
  digest(count = this.#received.length): string | undefined {
    if (count > this.#received.length) return undefined
    if (count === this.#received.length) return this.#runningHash.copy().digest('hex')
    const hash = createHash('sha256')
    for (const key of this.#received.slice(0, count)) hash.update(key)
    return hash.digest('hex')
  }

  /** A batch from a device, taken in whole. */
  onKeys(keys: readonly Uint8Array[]): void {
    for (const key of keys) {
      this.#received.push(key)
      this.#runningHash.update(key)
      const id = this.#nextId
      this.#nextId += 1n
      if (this.#reserved.has(id)) this.#reserved.set(id, key)
      else this.#unused.set(id, key)
    }
    this.#generatedTotal += BigInt(keys.length)
    this.options.onChange({ generated: keys.length })
    this.#wake()
  }

  /** A key that nobody has used, reserved at the other site as well. Without one it refuses at once. */
  async takeNew(): Promise<KeyStoreAnswer<StoredKey>> {
    const id = this.#reserveFirst()
    if (id === undefined) return { ok: false, refusal: 'exhausted' }
    this.options.onChange({ used: 1 })
    const marked = await this.options.markAtOtherSite(id)
    if (!marked.ok) return { ok: false, refusal: 'exhausted' }
    if (marked.value === id) {
      const key = this.#reserved.get(id) ?? emptyKey
      this.#reserved.delete(id)
      return { ok: true, value: { id, key } }
    }
    const alternative = marked.value
    const key = await this.#until(() => this.#unused.get(alternative))
    if (key === undefined) return { ok: false, refusal: 'exhausted' }
    this.#unused.delete(alternative)
    return { ok: true, value: { id: alternative, key } }
  }

  /** The key of an id that the other site took; waits for it. A placeholder is handed out as an empty key. */
  async takeExisting(id: bigint): Promise<KeyStoreAnswer<StoredKey>> {
    const key = await this.#until(() => this.#reserved.get(id))
    if (key === undefined) return { ok: false, refusal: 'not-found' }
    this.#reserved.delete(id)
    return { ok: true, value: { id, key } }
  }

  /** The other site takes `id`. Where it is not here yet it is reserved as a placeholder at once. */
  async markInUse(id: bigint): Promise<KeyStoreAnswer<bigint>> {
    if (!this.#reserved.has(id)) {
      this.#reserved.set(id, this.#unused.get(id) ?? emptyKey)
      this.#unused.delete(id)
      this.#wake()
      return { ok: true, value: id }
    }
    // Both sites took the same id at the same time: another one is agreed on.
    const alternative = await this.#until(() => this.#reserveFirst())
    return alternative === undefined ? { ok: false, refusal: 'unavailable' } : { ok: true, value: alternative }
  }

  /** The program ends: nobody waits any longer. */
  close(): void {
    this.#closed = true
    this.#wake()
  }

  #reserveFirst(): bigint | undefined {
    for (const [id, key] of this.#unused) {
      this.#unused.delete(id)
      this.#reserved.set(id, key)
      return id
    }
    return undefined
  }

  #wake(): void {
    for (const waiter of [...this.#waiters]) waiter()
  }

  #until<T>(look: () => T | undefined): Promise<T | undefined> {
    const now = look()
    if (now !== undefined) return Promise.resolve(now)
    return new Promise((resolve) => {
      const settle = (value: T | undefined): void => {
        timer.cancel()
        this.#waiters.delete(waiter)
        resolve(value)
      }
      const waiter = (): void => {
        const value = look()
        if (value !== undefined || this.#closed) settle(value)
      }
      const timer: Timer = this.options.clock.after(this.options.waitMs, () => settle(undefined))
      this.#waiters.add(waiter)
    })
  }
}
