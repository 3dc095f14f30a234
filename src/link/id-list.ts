/** Ascending ids, appended mostly at the end and taken away from the front. */
export class IdList {
  #ids = new BigUint64Array(64)
  #head = 0
  #tail = 0

  get length(): number {
    return this.#tail - this.#head
  }

  at(index: number): bigint | undefined {
    return index < this.length ? this.#ids[this.#head + index] : undefined
  }

  last(): bigint | undefined {
    return this.length === 0 ? undefined : this.#ids[this.#tail - 1]
  }

  /** The index of the first id that is not below `id`. */
  lowerBound(id: bigint): number {
    let low = this.#head
    let high = this.#tail
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#ids[middle] ?? 0n) < id) low = middle + 1
      else high = middle
    }
    return low - this.#head
  }

  has(id: bigint): boolean {
    return this.at(this.lowerBound(id)) === id
  }

  /** Inserts; returns the index, or −1 where the id is there already. */
  insert(id: bigint): number {
    if (this.#tail === this.#ids.length) this.#makeRoom()
    const last = this.last()
    const index = last === undefined || last < id ? this.length : this.lowerBound(id)
    if (this.at(index) === id) return -1
    const at = this.#head + index
    this.#ids.copyWithin(at + 1, at, this.#tail)
    this.#ids[at] = id
    this.#tail += 1
    return index
  }

  /** Inserts ascending ids; those that are there already change nothing. Takes no longer than reading both lists once. */
  insertAll(ids: BigUint64Array): void {
    const [first] = ids
    const last = this.last()
    if (first === undefined || last === undefined || last < first) {
      for (const id of ids) this.insert(id)
      return
    }
    const merged = new BigUint64Array(this.length + ids.length)
    let mine = this.#head
    let theirs = 0
    let length = 0
    while (mine < this.#tail || theirs < ids.length) {
      const own = mine < this.#tail ? this.#ids[mine] : undefined
      const other = ids[theirs]
      const takesOwn = own !== undefined && (other === undefined || own <= other)
      if (own !== undefined && own === other) theirs += 1
      merged[length] = (takesOwn ? own : other) ?? 0n
      length += 1
      if (takesOwn) mine += 1
      else theirs += 1
    }
    this.#ids = merged
    this.#head = 0
    this.#tail = length
  }

  /** Puts ids that are all below the first one in front. */
  prepend(ids: BigUint64Array): void {
    if (this.#head < ids.length) {
      const target = new BigUint64Array((this.length + ids.length) * 2)
      target.set(this.#ids.subarray(this.#head, this.#tail), ids.length)
      this.#tail = ids.length + this.length
      this.#head = ids.length
      this.#ids = target
    }
    this.#head -= ids.length
    this.#ids.set(ids, this.#head)
  }

  /** Takes `count` ids away from the front. */
  dropFront(count: number): void {
    this.#head = Math.min(this.#tail, this.#head + count)
    if (this.#head === this.#tail) this.clear()
  }

  slice(from: number, to: number): BigUint64Array {
    return this.#ids.slice(this.#head + from, this.#head + Math.min(to, this.length))
  }

  clear(): void {
    this.#head = 0
    this.#tail = 0
  }

  #makeRoom(): void {
    const target = this.length * 2 > this.#ids.length ? new BigUint64Array(this.#ids.length * 2) : this.#ids
    target.set(this.#ids.subarray(this.#head, this.#tail))
    this.#tail -= this.#head
    this.#head = 0
    this.#ids = target
  }
}
