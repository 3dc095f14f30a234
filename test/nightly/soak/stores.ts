/**
 * What the two SiteAgents hold, compared after each cycle. The sequences must be equal from a common beginning on: the
 * first keys of two new stores, or where the two stood when an operator accepted that they had parted.
 */
import type { SiteName } from '../../../src/demo/site.js'

/** What the comparison asks of a SiteAgent. */
export interface ComparedStore {
  keys(): Promise<number>
  /** SHA-256 over `count` keys behind the first `from`. */
  digest(from: number, count: number): Promise<string>
  /** Sizes of the last batches that arrived, oldest first. */
  readonly batches: readonly number[]
}

export type Finding =
  | { readonly found: 'equal'; readonly keys: number }
  /** One site has whole batches more, nearly always one. */
  | {
      readonly found: 'owed'
      readonly to: SiteName
      readonly owedKeys: number
      readonly batches: number
      readonly keys: number
    }
  /** One store is new, the other is not, and nothing was put on top of that. */
  | { readonly found: 'oneRenewed' }
  /** They differ although nobody accepted that: loud or silent is for the gateways to tell. */
  | { readonly found: 'different'; readonly text: string }

/** What the soak knows of both stores. */
export interface StoreLedger {
  /** Keys found equal in value and order at both sites, over all lives of the stores. */
  readonly keys: number
  /** StartNode is about to be called; `owed`: keys that each site is owed then, as the gateways say. */
  begin(owed: Readonly<Record<SiteName, number>>): void
  /** One store, that of `name`, was emptied by a restart. */
  renewed(name: SiteName): void
  /** Both were. */
  bothRenewed(): void
  /** The operator accepts what is: from here on they must be equal again. */
  accepted(): Promise<void>
  /** Compares what is new. Nothing must be on its way. */
  compare(): Promise<Finding>
  /** Whether keys below `number`, counted from 1 as the SiteAgents do, are equal at both sites and that key is not. */
  isFirstDifferent(number: number): Promise<boolean>
}

export class Stores implements StoreLedger {
  #base: Readonly<Record<SiteName, number>> = { A: 0, B: 0 }
  #compared = 0
  #earlierKeys = 0
  /** One store was emptied and the other was not: the gateways have to find out. */
  #oneRenewed = false
  /** Numbers at the two sites mean the same key. */
  #sameNumbers = true

  constructor(private readonly stores: Readonly<Record<SiteName, ComparedStore>>) {}

  get keys(): number {
    return this.#earlierKeys + this.#compared
  }

  begin(): void {}

  renewed(): void {
    this.#begin({ A: 0, B: 0 })
    this.#oneRenewed = true
    this.#sameNumbers = true
  }

  bothRenewed(): void {
    this.#begin({ A: 0, B: 0 })
    this.#oneRenewed = false
    this.#sameNumbers = true
  }

  async accepted(): Promise<void> {
    const { A, B } = this.stores
    this.#begin({ A: await A.keys(), B: await B.keys() })
    this.#oneRenewed = false
    this.#sameNumbers = this.#base.A === this.#base.B
  }

  #begin(base: Readonly<Record<SiteName, number>>): void {
    this.#earlierKeys += this.#compared
    this.#compared = 0
    this.#base = base
  }

  async compare(): Promise<Finding> {
    const { A, B } = this.stores
    const a = (await A.keys()) - this.#base.A
    const b = (await B.keys()) - this.#base.B
    const common = Math.min(a, b)
    if (this.#oneRenewed && common === 0) return { found: 'oneRenewed' }
    if (common < this.#compared) {
      return { found: 'different', text: `a store lost keys: ${this.#compared} were compared, A has ${a}, B ${b}` }
    }
    if (!(await this.#equal(this.#compared, common - this.#compared))) {
      const first = await this.#firstDifferent(this.#compared, common)
      return { found: 'different', text: `key ${first} and later differ (A has ${a}, B ${b} since the beginning)` }
    }
    this.#compared = common
    if (a === b) return { found: 'equal', keys: this.keys }
    const [ahead, to]: [SiteName, SiteName] = a > b ? ['A', 'B'] : ['B', 'A']
    const owedKeys = Math.abs(a - b)
    const batches = wholeBatches(this.stores[ahead].batches, owedKeys)
    if (batches !== undefined) return { found: 'owed', to, owedKeys, batches, keys: this.keys }
    const text = `${ahead} has ${owedKeys} keys more, its last batches are ${this.stores[ahead].batches.join(', ')}`
    return { found: 'different', text }
  }

  async isFirstDifferent(number: number): Promise<boolean> {
    // After an accepted difference the two sites number the same key differently, and the beginning is what was accepted.
    if (!this.#sameNumbers) return true
    const { A, B } = this.stores
    const common = Math.min(await A.keys(), await B.keys()) - this.#base.A
    return this.#base.A + (await this.#firstDifferent(0, common)) === number
  }

  async #equal(from: number, count: number): Promise<boolean> {
    if (count <= 0) return true
    const [a, b] = await Promise.all([
      this.stores.A.digest(this.#base.A + from, count),
      this.stores.B.digest(this.#base.B + from, count),
    ])
    return a === b
  }

  /** Number of the first key since the beginning, from 1, that is not at both sites alike; up to `upTo` + 1. */
  async #firstDifferent(from: number, upTo: number): Promise<number> {
    let equal = from
    let different = upTo + 1
    while (different - equal > 1) {
      const middle = Math.floor((equal + different) / 2)
      if (await this.#equal(equal, middle - equal)) equal = middle
      else different = middle
    }
    return different
  }
}

/** How many of the last batches make up exactly so many keys. */
export function wholeBatches(batches: readonly number[], keys: number): number | undefined {
  let sum = 0
  for (let count = 1; count <= batches.length; count += 1) {
    sum += batches.at(-count) ?? 0
    if (sum === keys) return count
  }
  return undefined
}
