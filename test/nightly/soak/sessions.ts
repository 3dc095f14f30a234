/**
 * The comparison for two Java SiteAgents, which number keys from 1 with each WaitForSession and write over what was there:
 * within one session both must hold the same keys under the same numbers.
 */
import type { SiteName } from '../../../src/demo/site.js'
import { type Finding, type StoreLedger, wholeBatches } from './stores.js'

/** What the newest reader of a Java SiteAgent has. */
export interface ComparedSession {
  /** How many readers there were, this one included. */
  readonly reader: number
  /** Keys of the newest. */
  readonly keys: number
  /** Sizes of its last batches, oldest first. */
  readonly batches: readonly number[]
  digest(from: number, count: number): Promise<string>
}

export class Sessions implements StoreLedger {
  #compared = 0
  #marks: Readonly<Record<SiteName, number>> = { A: 0, B: 0 }
  #renewed = false

  constructor(private readonly sessions: Readonly<Record<SiteName, () => ComparedSession>>) {}

  get keys(): number {
    return this.#compared
  }

  begin(): void {
    this.#marks = { A: this.sessions.A().reader, B: this.sessions.B().reader }
    this.#renewed = false
  }

  renewed(): void {
    this.#renewed = true
  }

  bothRenewed(): void {
    this.#renewed = true
  }

  async accepted(): Promise<void> {}

  async isFirstDifferent(): Promise<boolean> {
    // Such sites cannot part: every session begins anew at both.
    return false
  }

  async compare(): Promise<Finding> {
    // What came in this session went with the restarted process.
    if (this.#renewed) return { found: 'oneRenewed' }
    const a = this.sessions.A()
    const b = this.sessions.B()
    const begun = { A: a.reader > this.#marks.A, B: b.reader > this.#marks.B }
    const keysA = begun.A ? a.keys : 0
    const keysB = begun.B ? b.keys : 0
    const common = Math.min(keysA, keysB)
    if (common > 0) {
      const [digestA, digestB] = await Promise.all([a.digest(0, common), b.digest(0, common)])
      if (digestA !== digestB) return { found: 'different', text: `the first ${common} keys of this session differ` }
    }
    this.#compared += common
    if (keysA === keysB) return { found: 'equal', keys: this.keys }
    const [ahead, to] = keysA > keysB ? ([a, 'B'] as const) : ([b, 'A'] as const)
    const owedKeys = Math.abs(keysA - keysB)
    const batches = wholeBatches(ahead.batches, owedKeys)
    if (batches !== undefined) return { found: 'owed', to, owedKeys, batches, keys: this.keys }
    return {
      found: 'different',
      text: `A has ${keysA} keys of this session and B ${keysB}, which are no whole batches apart`,
    }
  }
}
