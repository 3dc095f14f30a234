/** Starts and stops of a link between two sites of real processes, with something dying at random moments. */
import type { SiteName } from '../../../src/demo/site.js'
import type { Random } from '../../../src/base/random.js'
import { Bed, type BedOptions, hasJava } from './bed.js'
import { chooseEnding, describeEnding, type Ending } from './endings.js'
import { type GatewayFigures, unreadKeys } from './figures.js'
import { chooseMoment, type Moment } from './moments.js'
import type { Said } from './said.js'
import { between, seededRandom } from './seeded.js'
import type { Finding } from './stores.js'
import { pause, Stuck } from './waiting.js'

export interface SoakOptions extends BedOptions {
  readonly cycles: number
  readonly progress: (text: string) => void
}

export interface SoakResult {
  /** Completed starts, each with a stop or something that died. */
  cycles: number
  /** Keys found equal in value and order at both SiteAgents. */
  keys: number
  /** Differences that no gateway told of. */
  mismatches: number
  /** Cycles that ended with a batch at one site only. */
  owed: number
  /** Partings of the stores that the gateways told of, the key named. */
  divergedAndSaid: number
  /** Times that keys came to both sites again after something had died or the stores had parted. */
  recoveries: number
}

type Figures = Readonly<Record<SiteName, GatewayFigures>>

const flowTimeoutMs = 45_000
/** Two new stores that are known to be new go on at once. */
const renewalTimeoutMs = 8_000
/** Sessions that are tried at the end until nothing is owed any more. */
const lastSessions = 6
const noSlowness = { readDelayMs: 0, storeDelayMs: 0 }

export class Soak {
  readonly result: SoakResult = { cycles: 0, keys: 0, mismatches: 0, owed: 0, divergedAndSaid: 0, recoveries: 0 }
  readonly #random: Random
  readonly #bed: Bed
  /** Something died or the stores parted since keys last came to both sites. */
  #broken = false

  constructor(private readonly options: SoakOptions) {
    this.#random = seededRandom(options.seed)
    this.#bed = new Bed(options)
  }

  /** Runs to the end; no process and no file of it is left afterwards. Throws `Stuck`. */
  async run(): Promise<SoakResult> {
    try {
      await this.#bed.start()
      for (let cycle = 1; cycle <= this.options.cycles; cycle += 1) await this.#cycle(cycle)
      await this.#settleAtTheEnd()
      return this.result
    } finally {
      this.result.keys = this.#bed.stores.keys
      await this.#bed.stop()
    }
  }

  async #cycle(cycle: number): Promise<void> {
    const bed = this.#bed
    const startedAtMs = performance.now()
    const ending = chooseEnding(this.#random, this.options.program)
    const moment = chooseMoment(this.#random)
    await bed.ready()
    this.#slow(moment.slowness)
    const before = bed.counts()
    const figures = await bed.figures()
    const starting = bed.startLink()
    const flowed = moment.afterKeys ? await this.#untilKeys(before) : false
    await pause(moment.delayMs, bed.signal)
    this.options.trace(`--- ${describeEnding(ending)}`)
    await this.#end(ending)
    await starting
    await bed.quiet()
    const verdict = await this.#judge(figures)
    this.result.cycles = cycle
    const when = `${flowed ? 'with keys' : 'at the start'} + ${moment.delayMs} ms`
    const took = `${((performance.now() - startedAtMs) / 1_000).toFixed(1)} s`
    this.options.progress(`${cycle}/${this.options.cycles}  ${describeEnding(ending)} ${when}: ${verdict}  (${took})`)
  }

  #slow(slowness: Moment['slowness']): void {
    for (const site of this.#bed.both) {
      site.setFault('readDelayMs', slowness[site.name].readDelayMs)
      site.setFault('storeDelayMs', slowness[site.name].storeDelayMs)
    }
  }

  /** Until keys came to both sites, or a gateway says that the stores have parted (false). Throws `Stuck`. */
  async #untilKeys(before: Readonly<Record<SiteName, number>>): Promise<boolean> {
    const parted = async (): Promise<boolean> => (await this.#bed.said()) !== undefined
    const giveUpAtMs = performance.now() + flowTimeoutMs
    while (!(await this.#bed.keysCome(before, Math.max(0, giveUpAtMs - performance.now()), parted))) {
      if (await parted()) return false
      // Over as soon as it was said: the restart of one SiteAgent was noticed before that of the other.
      if (performance.now() < giveUpAtMs) continue
      throw new Stuck(`no keys at both sites within ${flowTimeoutMs} ms\n${await this.#bed.account()}`)
    }
    if (this.#broken) this.result.recoveries += 1
    this.#broken = false
    return true
  }

  async #end(ending: Ending): Promise<void> {
    const { sites, operator, signal } = this.#bed
    if (ending.kind !== 'stop' && ending.kind !== 'startAgain') this.#broken = true
    switch (ending.kind) {
      case 'stop':
        await operator.end(ending.at)
        return
      case 'startAgain':
        return this.#bed.startLink()
      case 'killGateway':
        return sites[ending.at].restart('gateway', ending.pauseMs)
      case 'endGateway': {
        const code = await sites[ending.at].restartGatewayInOrder(ending.pauseMs)
        this.options.trace(`gateway ${ending.at} ended with ${code}`)
        return
      }
      case 'killSiteAgent':
        return this.#bed.renew(ending.both ? ['A', 'B'] : [ending.at], ending.pauseMs)
      case 'cutStreams':
        sites[ending.at].part('site-agent').send('kill-streams')
        return
      case 'cutTunnel':
        sites[ending.at].part('sshd').send('cut')
        return
      case 'unplug':
        sites[ending.at].part('emulator').send(`unplug ${ending.forMs} now`)
        return pause(ending.forMs + 50, signal)
    }
  }

  /** Compares the stores, and does what the gateways ask for where they have parted. `before`: as the session began. */
  async #judge(before: Figures): Promise<string> {
    const finding = await this.#bed.stores.compare()
    const news = await this.#bed.said()
    if (news !== undefined) return this.#parted(news)
    switch (finding.found) {
      case 'equal':
        return `equal, ${finding.keys} keys`
      case 'oneRenewed':
        return 'one store is new, nothing delivered since'
      case 'owed':
        if (finding.batches > 1 && !(await this.#owns(finding, before))) {
          return this.#mismatch(`${finding.owedKeys} keys in ${finding.batches} batches never came to ${finding.to}`)
        }
        this.result.owed += 1
        return `${finding.owedKeys} keys owed to ${finding.to}, ${finding.keys} keys equal`
      case 'different':
        return this.#mismatch(finding.text)
    }
  }

  /**
   * More than one batch is ahead only where a gateway died while one was in doubt: the next one had to be sent to learn
   * what became of it. The gateway of the site that is ahead shows all of it, but for what a Java site did not read.
   */
  async #owns({ to, owedKeys }: Finding & { readonly found: 'owed' }, before: Figures): Promise<boolean> {
    const bed = this.#bed
    await bed.ready()
    const now = await bed.figures()
    const { owedThere, inDoubt } = now[to === 'A' ? 'B' : 'A']
    const unread = bed.sites[to].program === 'java' ? unreadKeys(before[to], now[to]) : 0
    return owedThere + inDoubt + unread >= owedKeys
  }

  async #mismatch(text: string): Promise<string> {
    this.result.mismatches += 1
    this.options.progress(`MISMATCH: ${text}, and no gateway says so\n${await this.#bed.account()}`)
    await this.#bed.renew(['A', 'B'], 0)
    this.#broken = true
    return `MISMATCH: ${text}`
  }

  async #parted(news: Said): Promise<string> {
    this.result.divergedAndSaid += 1
    this.#broken = true
    const right = await this.#bed.stores.isFirstDifferent(news.firstDifferingKey)
    const accepts = this.#random.fraction() < 0.5
    if (accepts) await this.#accept(news.by)
    else await this.#bed.renew(['A', 'B'], between(this.#random, 0, 200))
    await this.#untilResumed(!accepts)
    const wrong = right ? '' : ' (NOT the first that differs)'
    const done = accepts ? 'accepted' : 'both stores renewed'
    return `parted at key ${news.firstDifferingKey}${wrong}, says ${news.by}: ${news.reason}; ${done}`
  }

  async #accept(by: SiteName): Promise<void> {
    await this.#bed.ready()
    await this.#bed.sites[by].acceptDivergence()
    await this.#bed.stores.accepted()
  }

  /** After what the gateways asked for was done they go on with the next session, and keys come again. */
  async #untilResumed(renewed: boolean): Promise<void> {
    if (!(await this.#resumes(renewed ? renewalTimeoutMs : flowTimeoutMs))) {
      const news = renewed ? await this.#bed.said() : undefined
      if (news === undefined) {
        throw new Stuck(`the link did not resume within ${flowTimeoutMs} ms\n${await this.#bed.account()}`)
      }
      this.options.progress(`renewing both stores did not help, says ${news.by}: ${news.reason}; accepted`)
      await this.#accept(news.by)
      return this.#untilResumed(false)
    }
    this.#broken = false
    this.result.recoveries += 1
    const finding = await this.#bed.stores.compare()
    if (finding.found === 'different' && (await this.#bed.said()) === undefined) await this.#mismatch(finding.text)
  }

  /** Whether a session brings keys to both sites. */
  async #resumes(timeoutMs: number): Promise<boolean> {
    await this.#bed.ready()
    const before = this.#bed.counts()
    const starting = this.#bed.startLink()
    const come = await this.#bed.keysCome(before, timeoutMs)
    await starting
    await this.#bed.quiet()
    return come
  }

  /** What is owed after the last cycle must be paid, or said to be lost. */
  async #settleAtTheEnd(): Promise<void> {
    const bed = this.#bed
    const owed = this.result.owed
    for (let session = 1; session <= lastSessions; session += 1) {
      await bed.ready()
      this.#slow({ A: noSlowness, B: noSlowness })
      const before = bed.counts()
      const figures = await bed.figures()
      const starting = bed.startLink()
      await this.#untilKeys(before)
      await starting
      await bed.stopInOrder()
      const mismatches = this.result.mismatches
      const verdict = await this.#judge(figures)
      this.result.owed = owed
      this.options.progress(`at the end: ${verdict}`)
      // A Java site begins anew with each session: what one lacks of the last batch is owed to nobody.
      const settled = verdict.startsWith('equal') || hasJava(this.options.program)
      if (settled || this.result.mismatches > mismatches) return
    }
    this.result.mismatches += 1
    this.options.progress(
      `MISMATCH: a batch is still owed after ${lastSessions} sessions without a fault\n${await bed.account()}`,
    )
  }
}
