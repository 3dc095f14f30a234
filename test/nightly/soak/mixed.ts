/**
 * The comparison for one C++ and one Java SiteAgent: the keys of a Java session are an unbroken run of the C++ site's,
 * wherever it begins there; at its end one of the two may be whole batches ahead. What a Java site is owed comes first in
 * its next session, also where the C++ store was renewed since: those keys are then in no other store any more.
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
  /** Keys that the Java site was owed when this session began. */
  #owedToJava = 0
  /** The C++ store has been emptied since a session last began with a key of it. */
  #cppIsNew = false

  constructor(
    private readonly cpp: ComparedStore,
    private readonly java: () => ComparedSession,
    private readonly names: { readonly cpp: SiteName; readonly java: SiteName },
  ) {}

  get keys(): number {
    return this.#compared
  }

  begin(owed: Readonly<Record<SiteName, number>>): void {
    this.#readerBefore = this.java().reader
    this.#renewed = false
    this.#owedToJava = owed[this.names.java]
  }

  renewed(name: SiteName): void {
    this.#renewed = true
    if (name === this.names.cpp) this.#cppIsNew = true
  }

  bothRenewed(): void {
    this.#renewed = true
    this.#cppIsNew = true
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
    const { java: first, cpp: from } = await this.#beginning(session, keysJava, keysCpp)
    const common = Math.min(keysJava - first, keysCpp - from)
    if (common > 0) {
      const [one, other] = await Promise.all([session.digest(first, common), this.cpp.digest(from, common)])
      if (one !== other) {
        return { found: 'different', text: `the Java session's first ${common} keys are no run of the C++ site's` }
      }
    }
    this.#compared += common
    const javaIsAhead = keysJava - first > common
    const owedKeys = javaIsAhead ? keysJava - first - common : keysCpp - from - common
    if (owedKeys === 0) return { found: 'equal', keys: this.keys }
    const ahead = javaIsAhead ? session.batches : this.cpp.batches
    const batches = wholeBatches(ahead, owedKeys)
    const to = javaIsAhead ? this.names.cpp : this.names.java
    if (batches !== undefined) return { found: 'owed', to, owedKeys, batches, keys: this.keys }
    const text = `${to} lacks ${owedKeys} keys, the other one's last batches are ${ahead.join(', ')}`
    return { found: 'different', text }
  }

  /** Key of the session and key of the C++ store from which on they must be equal. */
  async #beginning(
    session: ComparedSession,
    keysJava: number,
    keysCpp: number,
  ): Promise<{ readonly java: number; readonly cpp: number }> {
    const from = await this.#find(await session.digest(0, 1), keysCpp)
    if (from !== undefined) {
      this.#cppIsNew = false
      return { java: 0, cpp: from }
    }
    // Not there at all: owed from before the C++ store was renewed, or the C++ site is owed all of it.
    const owedBefore = this.#cppIsNew ? Math.min(this.#owedToJava, keysJava) : 0
    if (keysCpp === 0) return { java: owedBefore, cpp: 0 }
    const firstOfCpp = await this.cpp.digest(0, 1)
    for (let java = 1; java <= owedBefore; java += 1) {
      if (java === keysJava || (await session.digest(java, 1)) === firstOfCpp) return { java, cpp: 0 }
    }
    return { java: 0, cpp: keysCpp }
  }

  /** Where the C++ store holds the key, the last place first. */
  async #find(digest: string, keys: number): Promise<number | undefined> {
    for (let from = keys - 1; from >= Math.max(0, keys - searched); from -= 1) {
      if ((await this.cpp.digest(from, 1)) === digest) return from
    }
    return undefined
  }
}
