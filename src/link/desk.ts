/**
 * The keys of one gateway: the pool of those that wait, the batches that were taken out of it, what the other site has
 * announced, and the count of each. It knows ids and bytes; which batch is sent when is the agreement's business.
 */
import { wipe } from '../base/wipe.js'
import type { LinkCounts } from './contract.js'
import { type DropReason, Ledger } from './counts.js'
import { IdList } from './id-list.js'
import { KeyPool } from './key-pool.js'
import { select } from './selection.js'
import { batchTag, type BatchKeys, equalBytes, oneTimeKey, sacrificedKeys } from './verification.js'

export interface DeskLimits {
  /** Most keys that may wait. */
  readonly maxHeldKeys: number
  /** Longest time that a key may wait, ms. */
  readonly maxHeldMs: number
  /** How long an id that only one site holds is waited for once the other site's device has passed it, ms. */
  readonly gapWaitMs: number
}

/** A batch whose keys are in memory here. */
export interface DeskBatch extends BatchKeys {
  readonly serial: number
  /** Ids of the sacrificed keys, which come first in the proposal. */
  readonly sacrificedIds: BigUint64Array
  /** All ids up to this one are settled by the batch. */
  readonly through: bigint
}

/** A batch as the left side proposes it. */
export interface Proposal {
  readonly batch: DeskBatch
  readonly tag: Uint8Array
  /** What the other side must answer with; wiped by the desk. */
  readonly point: Uint8Array
}

export type PrepareResult =
  | { readonly outcome: 'equal'; readonly batch: DeskBatch; readonly point: Uint8Array }
  | { readonly outcome: 'mismatch' }
  | { readonly outcome: 'missing' }

export interface FormRequest {
  readonly serial: number
  /** Most keys to deliver in one batch. */
  readonly maxKeys: number
  /** Fewest keys to deliver, unless the oldest has waited for `maxWaitMs`. */
  readonly minKeys: number
  readonly maxWaitMs: number
  /** Numbers of keys that the batch must not have, so that totals can be told apart. */
  readonly avoidCounts: readonly number[]
  readonly nowMs: number
}

export class Desk {
  readonly #pool: KeyPool
  readonly #batches = new Map<number, DeskBatch>()
  #theirs = new IdList()
  /** When the other site was first known to hold an id at least as high; ascending in both. */
  #announcements: { lastId: bigint; atMs: number }[] = []
  /** Ids up to here are settled: what comes later with such an id is late. */
  #watermark = -1n
  /** Ids up to here were announced to the other site on this connection. */
  readonly #unannounced = new IdList()

  constructor(
    readonly keyBytes: number,
    private readonly limits: DeskLimits,
    private readonly ledger = new Ledger(),
  ) {
    this.#pool = new KeyPool(keyBytes)
  }

  get waiting(): number {
    return this.#pool.size
  }

  counts(): LinkCounts {
    let held = this.#pool.size
    for (const batch of this.#batches.values()) held += batch.ids.length
    return this.ledger.counts(held)
  }

  batch(serial: number): DeskBatch | undefined {
    return this.#batches.get(serial)
  }

  /** A key from the device, which is wiped here. */
  offer(id: bigint, key: Uint8Array, nowMs: number): void {
    this.ledger.receive()
    if (key.length !== this.keyBytes) this.ledger.drop('wrongLength', 1)
    else if (id <= this.#watermark) this.ledger.drop('late', 1)
    else if (!this.#pool.add(id, key, nowMs)) this.ledger.drop('repeated', 1)
    else this.#unannounced.insert(id)
    wipe(key)
  }

  /** The device numbers anew: what waits means nothing any more. */
  renumbered(): void {
    this.#dropFront(this.#pool.size, 'renumbered')
    this.#unannounced.clear()
    this.#watermark = -1n
  }

  /** Ids not announced yet, at most `maxIds` of them; they count as announced from here. */
  takeUnannounced(maxIds: number): BigUint64Array {
    const ids = this.#unannounced.slice(0, maxIds)
    this.#unannounced.dropFront(ids.length)
    return ids
  }

  get hasUnannounced(): boolean {
    return this.#unannounced.length > 0
  }

  /** A new connection: nothing is known of the other site, and it knows nothing of us. */
  reconnected(): void {
    this.#theirs.clear()
    this.#announcements = []
    this.announceAgain()
  }

  /** Everything that waits is to be announced (again). */
  announceAgain(): void {
    this.#unannounced.clear()
    for (const id of this.#pool.ids.slice(0, this.#pool.size)) this.#unannounced.insert(id)
  }

  /** The other site holds these ids. Returns false where it announces more than it may hold. */
  announced(ids: BigUint64Array, anew: boolean, nowMs: number): boolean {
    if (anew) {
      this.#theirs.clear()
      this.#announcements = []
    }
    const last = ids.at(-1)
    if (last === undefined) return true
    if (this.#theirs.length + ids.length > this.limits.maxHeldKeys * 2) return false
    this.#theirs.insertAll(ids)
    const lastAnnounced = this.#announcements.at(-1)
    if (lastAnnounced === undefined || lastAnnounced.lastId < last) {
      // An announcement a millisecond is exact enough, and bounds the list.
      if (lastAnnounced !== undefined && nowMs - lastAnnounced.atMs < 1) lastAnnounced.lastId = last
      else this.#announcements.push({ lastId: last, atMs: nowMs })
    }
    return true
  }

  /** Forms a batch of what both hold. `retryAtMs`: when it is worth asking again without news. */
  form(request: FormRequest): { proposal: Proposal } | { retryAtMs: number | undefined } {
    const sacrificed = sacrificedKeys(this.keyBytes)
    const { ids, oldestMs, blockedUntilMs } = select({
      mine: this.#pool.ids,
      theirs: this.#theirs,
      mineAtMs: (index) => this.#pool.atMs(index),
      theirsPassedAtMs: (id) => this.#theirsPassedAtMs(id),
      nowMs: request.nowMs,
      gapWaitMs: this.limits.gapWaitMs,
      maxKeys: request.maxKeys + sacrificed,
    })
    let count = ids.length - sacrificed
    while (request.avoidCounts.includes(count)) count -= 1
    if (count < 1) return { retryAtMs: blockedUntilMs }
    const dueAtMs = oldestMs + request.maxWaitMs
    if (count < request.minKeys && request.nowMs < dueAtMs) {
      return { retryAtMs: Math.min(dueAtMs, blockedUntilMs ?? dueAtMs) }
    }
    const batch = this.#extract(request.serial, BigUint64Array.from(ids.slice(0, count + sacrificed)), sacrificed)
    const secret = oneTimeKey(batch.sacrificed)
    const tag = batchTag(request.serial, sacrificed, { ids: batch.allIds, keys: batch.desk.keys }, secret)
    const point = secret.point.slice()
    wipe(batch.sacrificed)
    this.ledger.sacrifice(sacrificed)
    this.#batches.set(request.serial, batch.desk)
    // Not candidates any more; if the batch comes to nothing the other site announces them again.
    this.#theirs.dropFront(this.#theirs.lowerBound(batch.desk.through + 1n))
    return { proposal: { batch: batch.desk, tag, point } }
  }

  /** The other site proposes a batch: do we hold the same? */
  prepare(serial: number, ids: BigUint64Array, sacrificed: number, tag: Uint8Array): PrepareResult {
    for (const id of ids) if (!this.#pool.ids.has(id)) return { outcome: 'missing' }
    const batch = this.#extract(serial, ids, sacrificed)
    const secret = oneTimeKey(batch.sacrificed)
    const expected = batchTag(serial, sacrificed, { ids, keys: batch.desk.keys }, secret)
    const equal = equalBytes(expected, tag)
    const point = secret.point.slice()
    wipe(batch.sacrificed)
    this.ledger.sacrifice(sacrificed)
    this.#batches.set(serial, batch.desk)
    if (!equal) {
      wipe(point)
      return { outcome: 'mismatch' }
    }
    return { outcome: 'equal', batch: batch.desk, point }
  }

  /** The batch is verified at both: what only one site holds below it is dropped, and later arrivals are late. */
  commit(serial: number): void {
    const batch = this.#batches.get(serial)
    if (batch === undefined) return
    this.#dropFront(this.#pool.ids.lowerBound(batch.through + 1n), 'missing')
    this.#unannounced.dropFront(this.#unannounced.lowerBound(batch.through + 1n))
    const kept = this.#announcements.findIndex(({ lastId }) => lastId > batch.through)
    this.#announcements = kept < 0 ? [] : this.#announcements.slice(kept)
    if (batch.through > this.#watermark) this.#watermark = batch.through
  }

  /** The SiteAgent at this end has the batch. */
  delivered(serial: number): void {
    const batch = this.#forget(serial)
    if (batch !== undefined) this.ledger.deliver(batch.ids.length)
  }

  drop(serial: number, reason: DropReason): void {
    const batch = this.#forget(serial)
    if (batch !== undefined) this.ledger.drop(reason, batch.ids.length)
  }

  /** The batch was not sent anywhere: its keys wait again. */
  restore(serial: number, nowMs: number): void {
    const batch = this.#batches.get(serial)
    if (batch === undefined) return
    this.#batches.delete(serial)
    const first = this.#pool.ids.at(0)
    if (first === undefined || batch.through < first) {
      this.#pool.prepend(batch.ids, batch.keys, nowMs)
      this.announceAgain()
      wipe(batch.keys)
      return
    }
    batch.ids.forEach((id, index) => {
      const key = batch.keys.subarray(index * this.keyBytes, (index + 1) * this.keyBytes)
      if (this.#pool.add(id, key, nowMs)) this.#unannounced.insert(id)
      else this.ledger.drop('repeated', 1)
    })
    wipe(batch.keys)
  }

  /** Drops what exceeds the bounds, the lowest ids first; says up to which id, so that the other site does the same. */
  enforceLimits(nowMs: number): { through: bigint; reason: DropReason } | undefined {
    let expired = 0
    while (expired < this.#pool.size && nowMs - this.#pool.atMs(expired) > this.limits.maxHeldMs) expired += 1
    const excess = Math.max(0, this.#pool.size - this.limits.maxHeldKeys)
    const count = Math.max(expired, excess)
    const through = this.#pool.ids.at(count - 1)
    if (count === 0 || through === undefined) return undefined
    const reason = expired >= excess ? 'expired' : 'overflow'
    this.#dropThrough(through, reason)
    return { through, reason }
  }

  /** The other site dropped these. */
  droppedByPeer(through: bigint): void {
    this.#dropThrough(through, 'peerLimit')
  }

  /** Drops everything that waits, for one reason. */
  dropWaiting(reason: DropReason): void {
    this.#dropFront(this.#pool.size, reason)
    this.#unannounced.clear()
  }

  /** Counts keys that went another way than through batches. */
  get books(): Ledger {
    return this.ledger
  }

  /** Wipes everything that is held. */
  close(): void {
    this.dropWaiting('stopped')
    for (const serial of [...this.#batches.keys()]) this.drop(serial, 'stopped')
  }

  #theirsPassedAtMs(id: bigint): number | undefined {
    let low = 0
    let high = this.#announcements.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#announcements[middle]?.lastId ?? 0n) <= id) low = middle + 1
      else high = middle
    }
    return this.#announcements[low]?.atMs
  }

  #dropThrough(through: bigint, reason: DropReason): void {
    this.#dropFront(this.#pool.ids.lowerBound(through + 1n), reason)
    this.#unannounced.dropFront(this.#unannounced.lowerBound(through + 1n))
    this.#theirs.dropFront(this.#theirs.lowerBound(through + 1n))
    if (through > this.#watermark) this.#watermark = through
  }

  #dropFront(count: number, reason: DropReason): void {
    this.#pool.dropFront(count)
    this.ledger.drop(reason, count)
  }

  #forget(serial: number): DeskBatch | undefined {
    const batch = this.#batches.get(serial)
    this.#batches.delete(serial)
    if (batch !== undefined) wipe(batch.keys)
    return batch
  }

  /** Moves the listed keys, all of which are in the pool, out of it. */
  #extract(
    serial: number,
    ids: BigUint64Array,
    sacrificedCount: number,
  ): { desk: DeskBatch; allIds: BigUint64Array; sacrificed: Uint8Array } {
    const bytes = new Uint8Array(ids.length * this.keyBytes)
    const through = ids.at(-1) ?? 0n
    const prefix = this.#pool.ids.lowerBound(through + 1n)
    const leftCount = prefix - ids.length
    const left = {
      ids: new BigUint64Array(leftCount),
      keys: new Uint8Array(leftCount * this.keyBytes),
      atMs: new Float64Array(leftCount),
    }
    let taken = 0
    for (let index = 0; index < prefix; index += 1) {
      const id = this.#pool.ids.at(index) ?? 0n
      if (id === ids[taken]) {
        bytes.set(this.#pool.keyAt(index), taken * this.keyBytes)
        taken += 1
      } else {
        const at = index - taken
        left.ids[at] = id
        left.keys.set(this.#pool.keyAt(index), at * this.keyBytes)
        left.atMs[at] = this.#pool.atMs(index)
      }
    }
    this.#pool.dropFront(prefix)
    // All at once: putting them back one by one would move the whole store each time.
    this.#pool.prepend(left.ids, left.keys, left.atMs)
    wipe(left.keys)
    const split = sacrificedCount * this.keyBytes
    const sacrificed = bytes.slice(0, split)
    const keys = bytes.slice(split)
    wipe(bytes)
    const desk: DeskBatch = {
      serial,
      sacrificedIds: ids.slice(0, sacrificedCount),
      ids: ids.slice(sacrificedCount),
      keys,
      through,
    }
    return { desk, allIds: ids, sacrificed }
  }
}
