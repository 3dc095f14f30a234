/** Starts and stops of a link without a fault, one after the other: the same keys at both sites, and memory that stays. */
import { readFileSync } from 'node:fs'
import type { SiteName } from '../../../src/demo/site.js'
import { Bed, type BedOptions } from './bed.js'
import { between, seededRandom } from './seeded.js'
import { memoryTrend, type MemoryTrend } from './memory.js'
import { pause, Stuck } from './waiting.js'

export interface CyclesOptions extends BedOptions {
  readonly cycles: number
  readonly progress: (text: string) => void
}

export interface CyclesResult {
  program: string
  cycles: number
  /** Keys found equal in value and order at both sites. */
  keys: number
  mismatches: number
  /** Which of the racing calls came first to the right device: steps 7 and 6. */
  runSessionFirst: number
  waitForSessionFirst: number
  /** Resident memory of each gateway, KiB. */
  memory: Record<SiteName, MemoryTrend>
}

const keysTimeoutMs = 45_000
const compareEvery = 20
const sampleEvery = 5

export class Cycles {
  readonly #bed: Bed
  readonly #random
  readonly #order: string[] = []
  readonly #samples: Record<SiteName, { cycle: number; kib: number }[]> = { A: [], B: [] }
  #runFirst = 0
  #waitFirst = 0
  #mismatches = 0
  #done = 0

  constructor(private readonly options: CyclesOptions) {
    this.#bed = new Bed(options)
    this.#random = seededRandom(options.seed)
  }

  /** Runs to the end; no process and no file of it is left afterwards. Throws `Stuck`. */
  async run(): Promise<CyclesResult> {
    const bed = this.#bed
    try {
      await bed.start()
      await bed.ready()
      bed.sites.B.part('site-agent').onLine((line) => {
        const name = line['event'] === 'step' ? line['name'] : undefined
        if (name === 'RunSession' || name === 'WaitForSession') this.#order.push(name)
      })
      for (let cycle = 1; cycle <= this.options.cycles; cycle += 1) await this.#cycle(cycle)
      return this.#result()
    } finally {
      await bed.stop()
    }
  }

  #result(): CyclesResult {
    return {
      program: this.options.program,
      cycles: this.#done,
      keys: this.#bed.stores.keys,
      mismatches: this.#mismatches,
      runSessionFirst: this.#runFirst,
      waitForSessionFirst: this.#waitFirst,
      memory: { A: memoryTrend(this.#samples.A), B: memoryTrend(this.#samples.B) },
    }
  }

  async #cycle(cycle: number): Promise<void> {
    const bed = this.#bed
    this.#order.length = 0
    const before = bed.counts()
    const starting = bed.startLink()
    const come = await bed.keysCome(before, keysTimeoutMs)
    if (!come) throw new Stuck(`no keys at both sites within ${keysTimeoutMs} ms\n${await bed.account()}`)
    if (this.#order[0] === 'RunSession') this.#runFirst += 1
    else this.#waitFirst += 1
    await pause(between(this.#random, 0, 60), bed.signal)
    // A Java site's StartNode is never answered, and its readers are what a stop would take away.
    if (this.options.program !== 'java') {
      await starting
      await bed.operator.end('A')
    }
    const last = cycle === this.options.cycles
    if (this.options.program === 'java' || cycle % compareEvery === 0 || last) await this.#compare(cycle, last)
    this.#done = cycle
    if (cycle % sampleEvery === 0) this.#sample(cycle)
  }

  async #compare(cycle: number, last: boolean): Promise<void> {
    if (last) await this.#bed.stopInOrder()
    else await this.#bed.quiet()
    const finding = await this.#bed.stores.compare()
    const parted = await this.#bed.said()
    // Two Java sites begin anew with each session: what one lacks of the last batch is owed to nobody.
    const carriesOver = this.options.program !== 'java'
    const wrong =
      finding.found === 'different'
        ? finding.text
        : parted !== undefined
          ? `parted without a fault, says ${parted.by}: ${parted.reason}`
          : last && carriesOver && finding.found !== 'equal'
            ? 'still not equal after the last stop'
            : undefined
    if (wrong !== undefined) {
      this.#mismatches += 1
      this.options.progress(`MISMATCH after ${cycle} cycles: ${wrong}`)
    } else if (cycle % compareEvery === 0) {
      const memory = (['A', 'B'] as const).map((name) => this.#samples[name].at(-1)?.kib ?? 0)
      this.options.progress(
        `${this.options.program}  ${cycle}/${this.options.cycles}  ${this.#bed.stores.keys} keys equal, gateways ${memory.join(' and ')} KiB`,
      )
    }
  }

  #sample(cycle: number): void {
    for (const site of this.#bed.both) {
      const kib = residentKib(site.part('gateway').pid)
      if (kib !== undefined) this.#samples[site.name].push({ cycle, kib })
    }
  }
}

/** Resident memory of a process; undefined where the system does not tell this way. */
function residentKib(pid: number | undefined): number | undefined {
  try {
    const found = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid ?? 0}/status`, 'utf8'))
    return found === null ? undefined : Number(found[1])
  } catch {
    return undefined
  }
}
