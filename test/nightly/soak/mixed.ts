/**
 * The comparison for one C++ and one Java SiteAgent: the keys of a Java session are an unbroken run of the C++ site's,
 * wherever it begins there; at its end one of the two may be whole batches ahead.
 */
import type { SiteName } from '../../../src/demo/site.js'
import type { ComparedSession } from './sessions.js'
import { type ComparedStore, type Finding, type StoreLedger, wholeBatches } from './stores.js'

/** Keys of the C++ store, from its end, in which a session's beginning is looked for. */
const searched = 3_000

export class MixedStores implements StoreLedger {
  #compared = 0
  #readerBefore = 0
  #renewed = false

  constructor(
    private readonly cpp: ComparedStore,
    private readonly java: () => ComparedSession,
    private readonly names: { readonly cpp: SiteName; readonly java: SiteName },
  ) {}

  get keys(): number {
    return this.#compared
  }

  begin(): void {
    this.#readerBefore = this.java().reader
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
    // The two number the same key differently.
    return true
  }

  async compare(): Promise<Finding> {
    // What came in this session went with the restarted process.
    if (this.#renewed) return { found: 'oneRenewed' }
    const session = this.java()
    const keysJava = session.reader > this.#readerBefore ? session.keys : 0
    if (keysJava === 0) return { found: 'equal', keys: this.keys }
    const keysCpp = await this.cpp.keys()
    const from = await this.#beginning(await session.digest(0, 1), keysCpp)
    // Not there at all: only right if the C++ site is owed all of it.
    const common = from === undefined ? 0 : Math.min(keysJava, keysCpp - from)
    if (from !== undefined && common > 0) {
      const [one, other] = await Promise.all([session.digest(0, common), this.cpp.digest(from, common)])
      if (one !== other) {
        return { found: 'different', text: `the Java session's first ${common} keys are no run of the C++ site's` }
      }
    }
    this.#compared += common
    const ahead = keysJava > common ? session.batches : this.cpp.batches
    const owedKeys = keysJava > common ? keysJava - common : keysCpp - (from ?? 0) - common
    if (owedKeys === 0) return { found: 'equal', keys: this.keys }
    const batches = wholeBatches(ahead, owedKeys)
    const to = keysJava > common ? this.names.cpp : this.names.java
    if (batches !== undefined) return { found: 'owed', to, owedKeys, batches, keys: this.keys }
    const text = `${to} lacks ${owedKeys} keys, the other one's last batches are ${ahead.join(', ')}`
    return { found: 'different', text }
  }

  /** Where the C++ store holds the key, the last place first. */
  async #beginning(digest: string, keys: number): Promise<number | undefined> {
    for (let from = keys - 1; from >= Math.max(0, keys - searched); from -= 1) {
      if ((await this.cpp.digest(from, 1)) === digest) return from
    }
    return undefined
  }
}
