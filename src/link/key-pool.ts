/**
 * Keys that wait to be agreed on: one sorted store of ids, key bytes and arrival times, bounded by its owner. Key bytes
 * are copied in and wiped as they leave.
 */
import { wipe } from '../base/wipe.js'
import { IdList } from './id-list.js'

export class KeyPool {
  readonly #ids = new IdList()
  #keys: Uint8Array
  #atMs: Float64Array
  /** Keys in front that have left already; the room is used again when the store grows or empties. */
  #head = 0

  constructor(readonly keyBytes: number) {
    this.#keys = new Uint8Array(64 * keyBytes)
    this.#atMs = new Float64Array(64)
  }

  get size(): number {
    return this.#ids.length
  }

  get ids(): Pick<IdList, 'at' | 'has' | 'last' | 'length' | 'lowerBound' | 'slice'> {
    return this.#ids
  }

  /** Arrival time, as given to `add`, of the oldest key in front; undefined where there is none. */
  oldestMs(): number | undefined {
    return this.size === 0 ? undefined : this.#atMs[this.#head]
  }

  atMs(index: number): number {
    return this.#atMs[this.#head + index] ?? 0
  }

  /** Copies `key` in; false where the id is there already. */
  add(id: bigint, key: Uint8Array, atMs: number): boolean {
    const index = this.#ids.insert(id)
    if (index < 0) return false
    const sizeBefore = this.size - 1
    if (this.#head + sizeBefore === this.#atMs.length) this.#makeRoom(sizeBefore)
    const at = this.#head + index
    const end = this.#head + sizeBefore
    if (at < end) {
      this.#keys.copyWithin((at + 1) * this.keyBytes, at * this.keyBytes, end * this.keyBytes)
      this.#atMs.copyWithin(at + 1, at, end)
    }
    this.#keys.set(key, at * this.keyBytes)
    this.#atMs[at] = atMs
    return true
  }

  /** Puts keys back whose ids are all below the first one; they count as arrived at `atMs`, one time for all or each its own. */
  prepend(ids: BigUint64Array, keys: Uint8Array, atMs: number | Float64Array): void {
    const size = this.size
    if (this.#head < ids.length) this.#move((size + ids.length) * 2, ids.length, size)
    this.#head -= ids.length
    this.#keys.set(keys, this.#head * this.keyBytes)
    if (typeof atMs === 'number') this.#atMs.fill(atMs, this.#head, this.#head + ids.length)
    else this.#atMs.set(atMs, this.#head)
    this.#ids.prepend(ids)
  }

  /** The key at `index`: a view that is valid until the next change. */
  keyAt(index: number): Uint8Array {
    return this.#keys.subarray((this.#head + index) * this.keyBytes, (this.#head + index + 1) * this.keyBytes)
  }

  /** Wipes the `count` oldest keys (lowest ids). */
  dropFront(count: number): void {
    const dropped = Math.min(count, this.size)
    wipe(this.#keys.subarray(this.#head * this.keyBytes, (this.#head + dropped) * this.keyBytes))
    this.#head += dropped
    this.#ids.dropFront(dropped)
    if (this.size === 0) this.#head = 0
  }

  clear(): void {
    this.dropFront(this.size)
  }

  #makeRoom(size: number): void {
    const capacity = this.#atMs.length
    this.#move(size * 2 > capacity ? capacity * 2 : capacity, 0, size)
  }

  #move(capacity: number, head: number, size: number): void {
    const keys = new Uint8Array(capacity * this.keyBytes)
    const atMs = new Float64Array(capacity)
    keys.set(this.#keys.subarray(this.#head * this.keyBytes, (this.#head + size) * this.keyBytes), head * this.keyBytes)
    atMs.set(this.#atMs.subarray(this.#head, this.#head + size), head)
    wipe(this.#keys)
    this.#keys = keys
    this.#atMs = atMs
    this.#head = head
  }
}
