/** Starts and stops of a link between two sites of real processes, with something dying at random moments. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateSshKey } from '../../../src/standin/sshd.js'
import type { SiteName } from '../../../src/demo/site.js'
import { chooseEnding, describeEnding, type Ending } from './endings.js'
import { chooseMoment, longestSlownessMs, type Moment } from './moments.js'
import { Operator } from './operator.js'
import { said, type Said } from './said.js'
import { between, seededRandom } from './seeded.js'
import { SoakSite, type SiteProgram } from './site.js'
import { Sessions, type ComparedSession } from './sessions.js'
import { Stores, type ComparedStore, type Finding, type StoreLedger } from './stores.js'
import { pause, poll, Stuck } from './waiting.js'

export interface SoakOptions {
  readonly cycles: number
  readonly seed: number
  readonly program: SiteProgram
  readonly keysPerSecond: number
  /** Arguments of Node that start the command line under test. */
  readonly command: readonly string[]
  readonly signal: AbortSignal
  readonly progress: (text: string) => void
  /** What the processes say, line by line; for those who look for a fault. */
  readonly trace: (text: string) => void
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

const flowTimeoutMs = 45_000
/** Two new stores that are known to be new go on at once. */
const renewalTimeoutMs = 8_000
/** Sessions that are tried at the end until nothing is owed any more. */
const lastSessions = 6
/** Long enough for the last batch to form, to be taken in and to be believed. */
const silenceMs = 2_500
const stopGraceMs = 4_000

export class Soak {
  readonly result: SoakResult = { cycles: 0, keys: 0, mismatches: 0, owed: 0, divergedAndSaid: 0, recoveries: 0 }
  readonly #folder = mkdtempSync(join(tmpdir(), 'qkd-gw-soak-'))
  readonly #random
  readonly #sites: Readonly<Record<SiteName, SoakSite>>
  readonly #stores: StoreLedger
  readonly #ended = new AbortController()
  readonly #signal: AbortSignal
  #operator: Operator | undefined
  /** Something died or the stores parted since keys last came to both sites. */
  #broken = false

  constructor(private readonly options: SoakOptions) {
    this.#random = seededRandom(options.seed)
    this.#signal = AbortSignal.any([options.signal, this.#ended.signal])
    const clientKey = generateSshKey('soak')
    const clientKeyFile = join(this.#folder, 'id_ed25519')
    const authorizedKeysFile = join(this.#folder, 'authorized_keys')
    writeFileSync(clientKeyFile, clientKey.privateKey, { mode: 0o600 })
    writeFileSync(authorizedKeysFile, `${clientKey.publicKey}\n`, { mode: 0o600 })
    const tag = `S${process.pid.toString(36)}`
    const site = (name: SiteName): SoakSite =>
      new SoakSite(name, {
        ...{ program: options.program, command: options.command, keysPerSecond: options.keysPerSecond },
        ...{ pairSeed: `soak ${options.seed}`, tag, folder: this.#folder, clientKeyFile, authorizedKeysFile },
        signal: this.#signal,
        onLog: (at, text) => options.trace(`${at}  ${text}`),
      })
    this.#sites = { A: site('A'), B: site('B') }
    this.#stores = options.program === 'java' ? sessionsOf(this.#sites) : storesOf(this.#sites)
  }

  get sites(): Readonly<Record<SiteName, SoakSite>> {
    return this.#sites
  }

  /** Runs to the end; no process and no file of it is left afterwards. Throws `Stuck`. */
  async run(): Promise<SoakResult> {
    try {
      await Promise.all([this.#sites.A.start(), this.#sites.B.start()])
      this.#operator = new Operator(this.#sites, this.#signal, (text) => this.options.trace(`operator  ${text}`))
      for (let cycle = 1; cycle <= this.options.cycles; cycle += 1) await this.#cycle(cycle)
      await this.#settleAtTheEnd()
      return this.result
    } finally {
      this.result.keys = this.#stores.keys
      this.#ended.abort()
      await this.#cleanUp()
    }
  }

  async #cleanUp(): Promise<void> {
    const sites = Object.values(this.#sites)
    const timer = setTimeout(() => sites.forEach((site) => site.kill()), stopGraceMs)
    await Promise.all(sites.map((site) => site.stop(stopGraceMs - 1_000)))
    clearTimeout(timer)
    await this.#operator?.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  get #both(): readonly SoakSite[] {
    return [this.#sites.A, this.#sites.B]
  }

  #startLink(): Promise<void> {
    this.#stores.begin()
    return this.#link().start()
  }

  #link(): Operator {
    if (this.#operator === undefined) throw new Error('the sites were not started')
    return this.#operator
  }

  async #cycle(cycle: number): Promise<void> {
    const startedAtMs = performance.now()
    const ending = chooseEnding(this.#random, this.options.program)
    const moment = chooseMoment(this.#random)
    await Promise.all(this.#both.map((site) => site.ready()))
    this.#slow(moment)
    const before = this.#counts()
    const starting = this.#startLink()
    const flowed = moment.afterKeys ? await this.#untilKeys(before) : false
    await pause(moment.delayMs, this.#signal)
    this.options.trace(`--- ${describeEnding(ending)}`)
    await this.#end(ending)
    await starting
    await this.#quiet()
    const finding = await this.#judge()
    this.result.cycles = cycle
    const took = ((performance.now() - startedAtMs) / 1_000).toFixed(1)
    const when = flowed ? 'with keys' : 'at the start'
    this.options.progress(
      `${cycle}/${this.options.cycles}  ${describeEnding(ending)} ${when} + ${moment.delayMs} ms: ${finding}  (${took} s)`,
    )
  }

  #slow({ slowness }: Moment): void {
    for (const site of this.#both) {
      site.setFault('readDelayMs', slowness[site.name].readDelayMs)
      site.setFault('storeDelayMs', slowness[site.name].storeDelayMs)
    }
  }

  /** Batches' keys since a site began to ask; a Java site's file does not grow with each. */
  #counts(): Readonly<Record<SiteName, number>> {
    const { A, B } = this.#sites
    return { A: A.arrivals.everCame, B: B.arrivals.everCame }
  }

  /** Until keys came to both sites, or a gateway says that the stores have parted (false). Throws `Stuck`. */
  async #untilKeys(before: Readonly<Record<SiteName, number>>): Promise<boolean> {
    let looks = 0
    const flowing = await poll(
      async () => {
        const now = this.#counts()
        if (now.A > before.A && now.B > before.B) return true
        looks += 1
        // The status costs more than the counts.
        if (looks % 10 === 0 && (await this.#said()) !== undefined) return false
        return undefined
      },
      20,
      flowTimeoutMs,
      this.#signal,
    )
    if (flowing === undefined)
      throw new Stuck(`no keys at both sites within ${flowTimeoutMs} ms\n${await this.#account()}`)
    if (flowing && this.#broken) {
      this.#broken = false
      this.result.recoveries += 1
    }
    return flowing
  }

  async #account(): Promise<string> {
    const statuses = await Promise.all(this.#both.map((site) => site.status()))
    return JSON.stringify({ counts: this.#counts(), statuses: statuses.map((status) => status?.parts) }, undefined, 1)
  }

  async #end(ending: Ending): Promise<void> {
    if (ending.kind !== 'stop' && ending.kind !== 'startAgain') this.#broken = true
    switch (ending.kind) {
      case 'stop':
        await this.#link().end(ending.at)
        return
      case 'startAgain':
        return this.#startLink()
      case 'killGateway':
        return this.#sites[ending.at].restart('gateway', ending.pauseMs)
      case 'endGateway': {
        const code = await this.#sites[ending.at].restartGatewayInOrder(ending.pauseMs)
        this.options.trace(`gateway ${ending.at} ended with ${code}`)
        return
      }
      case 'killSiteAgent':
        await this.#renew(ending.both ? ['A', 'B'] : [ending.at], ending.pauseMs)
        return
      case 'cutStreams':
        this.#sites[ending.at].part('site-agent').send('kill-streams')
        return
      case 'cutTunnel':
        this.#sites[ending.at].part('sshd').send('cut')
        return
      case 'unplug':
        this.#sites[ending.at].part('emulator').send(`unplug ${ending.forMs} now`)
        return pause(ending.forMs + 50, this.#signal)
    }
  }

  /** Kills SiteAgents; their stores are new afterwards. */
  async #renew(names: readonly SiteName[], pauseMs: number): Promise<void> {
    await Promise.all(names.map((name) => this.#sites[name].restart('site-agent', pauseMs)))
    for (const name of names) this.#link().renew(name)
    if (names.length === 2) this.#stores.bothRenewed()
    else this.#stores.renewed()
  }

  /** Nothing is on its way to a SiteAgent any more. */
  async #quiet(): Promise<void> {
    if (this.options.program === 'java') this.#both.forEach((site) => site.part('site-agent').send('kill-streams'))
    else await this.#link().endBoth()
    await pause(longestSlownessMs + 40, this.#signal)
  }

  /** A stop that leaves nothing owed. */
  async #stopKeys(): Promise<void> {
    if (this.options.program !== 'java') {
      await this.#link().end('A')
      return
    }
    // A Java SiteAgent never stops a link: the devices fall silent, and what is under way arrives.
    this.#both.forEach((site) => site.part('emulator').send(`hang ${silenceMs}`))
    await pause(silenceMs - 500, this.#signal)
  }

  async #said(): Promise<Said | undefined> {
    const statuses = await Promise.all(this.#both.map((site) => site.status()))
    return said(statuses[0], statuses[1])
  }

  /** Compares the stores, and does what the gateways ask for where they have parted. */
  async #judge(): Promise<string> {
    const finding = await this.#stores.compare()
    const news = await this.#said()
    if (news !== undefined) return this.#parted(news)
    switch (finding.found) {
      case 'equal':
        return `equal, ${finding.keys} keys`
      case 'oneRenewed':
        return 'one store is new, nothing delivered since'
      case 'owed':
        if (finding.batches > 1 && !(await this.#owns(finding))) {
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
   * what became of it. The gateway of the site that is ahead shows all of it.
   */
  async #owns({ to, owedKeys }: Finding & { readonly found: 'owed' }): Promise<boolean> {
    const ahead = this.#sites[to === 'A' ? 'B' : 'A']
    await ahead.ready()
    const facts = (await ahead.status())?.parts['link']?.facts
    return Number(facts?.['owedThere']) + Number(facts?.['inDoubt']) >= owedKeys
  }

  async #mismatch(text: string): Promise<string> {
    this.result.mismatches += 1
    this.options.progress(`MISMATCH: ${text}, and no gateway says so\n${await this.#account()}`)
    await this.#renew(['A', 'B'], 0)
    this.#broken = true
    return `MISMATCH: ${text}`
  }

  async #parted(news: Said): Promise<string> {
    this.result.divergedAndSaid += 1
    this.#broken = true
    const right = await this.#stores.isFirstDifferent(news.firstDifferingKey)
    const accepts = this.#random.fraction() < 0.5
    if (accepts) await this.#accept(news.by)
    else await this.#renew(['A', 'B'], between(this.#random, 0, 200))
    await this.#untilResumed(!accepts)
    const wrong = right ? '' : ' (NOT the first that differs)'
    const done = accepts ? 'accepted' : 'both stores renewed'
    return `parted at key ${news.firstDifferingKey}${wrong}, says ${news.by}: ${news.reason}; ${done}`
  }

  async #accept(by: SiteName): Promise<void> {
    await Promise.all(this.#both.map((site) => site.ready()))
    await this.#sites[by].acceptDivergence()
    await this.#stores.accepted()
  }

  /** After what the gateways asked for was done they go on with the next session, and keys come again. */
  async #untilResumed(renewed: boolean): Promise<void> {
    if (!(await this.#resumes(renewed ? renewalTimeoutMs : flowTimeoutMs))) {
      const news = renewed ? await this.#said() : undefined
      if (news === undefined) {
        throw new Stuck(`the link did not resume within ${flowTimeoutMs} ms\n${await this.#account()}`)
      }
      this.options.progress(`renewing both stores did not help, says ${news.by}: ${news.reason}; accepted`)
      await this.#accept(news.by)
      return this.#untilResumed(false)
    }
    this.#broken = false
    this.result.recoveries += 1
    const finding = await this.#stores.compare()
    if (finding.found === 'different' && (await this.#said()) === undefined) await this.#mismatch(finding.text)
  }

  /** Whether a session brings keys to both sites. */
  async #resumes(timeoutMs: number): Promise<boolean> {
    await Promise.all(this.#both.map((site) => site.ready()))
    const before = this.#counts()
    const starting = this.#startLink()
    const flowing = await poll(
      () => {
        const now = this.#counts()
        return now.A > before.A && now.B > before.B ? true : undefined
      },
      20,
      timeoutMs,
      this.#signal,
    )
    await starting
    await this.#quiet()
    return flowing === true
  }

  /** What is owed after the last cycle must be paid, or said to be lost. */
  async #settleAtTheEnd(): Promise<void> {
    for (let session = 1; session <= lastSessions; session += 1) {
      await Promise.all(this.#both.map((site) => site.ready()))
      this.#slow({ afterKeys: true, delayMs: 0, slowness: { A: noSlowness, B: noSlowness } })
      const starting = this.#startLink()
      await this.#untilKeys(this.#counts())
      await this.#stopKeys()
      await starting
      await this.#quiet()
      const before = { ...this.result }
      const verdict = await this.#judge()
      this.result.owed = before.owed
      this.options.progress(`at the end: ${verdict}`)
      if (verdict.startsWith('equal') || this.result.mismatches > before.mismatches) return
    }
    this.result.mismatches += 1
    this.options.progress(
      `MISMATCH: a batch is still owed after ${lastSessions} sessions without a fault\n${await this.#account()}`,
    )
  }
}

const noSlowness = { readDelayMs: 0, storeDelayMs: 0 }

function storesOf({ A, B }: Readonly<Record<SiteName, SoakSite>>): StoreLedger {
  const store = (site: SoakSite): ComparedStore => ({
    keys: () => site.keys(),
    digest: (from, count) => site.digest(from, count),
    get batches() {
      return site.arrivals.batches
    },
  })
  return new Stores({ A: store(A), B: store(B) })
}

function sessionsOf({ A, B }: Readonly<Record<SiteName, SoakSite>>): StoreLedger {
  const session = (site: SoakSite): ComparedSession => {
    const { reader, ofReader, batches } = site.arrivals
    const digest = (from: number, count: number): Promise<string> => site.digest(from, count)
    return { reader, keys: ofReader, batches, digest }
  }
  return new Sessions({ A: () => session(A), B: () => session(B) })
}
