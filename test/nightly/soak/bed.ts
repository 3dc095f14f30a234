/** Two sites of real processes on this machine, the operator who links them, and what is known of their stores. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateSshKey } from '../../../src/standin/sshd.js'
import type { SiteName } from '../../../src/demo/site.js'
import { figuresOf, type GatewayFigures } from './figures.js'
import { longestSlownessMs } from './moments.js'
import { Operator } from './operator.js'
import { said, type Said } from './said.js'
import { Sessions, type ComparedSession } from './sessions.js'
import { MixedStores } from './mixed.js'
import { SoakSite, type SiteProgram } from './site.js'
import { Stores, type ComparedStore, type StoreLedger } from './stores.js'
import { pause, poll } from './waiting.js'

/** The same SiteAgent at both sites, or the left one's + the right one's. */
export type BedProgram = SiteProgram | 'cpp+java' | 'java+cpp'

export function programAt(program: BedProgram, name: SiteName): SiteProgram {
  switch (program) {
    case 'cpp+java':
      return name === 'A' ? 'cpp' : 'java'
    case 'java+cpp':
      return name === 'A' ? 'java' : 'cpp'
    default:
      return program
  }
}

/** A Java site begins to number anew with each session and never stops a link. */
export function hasJava(program: BedProgram): boolean {
  return programAt(program, 'A') === 'java' || programAt(program, 'B') === 'java'
}

export interface BedOptions {
  readonly program: BedProgram
  readonly seed: number
  readonly keysPerSecond: number
  /** Arguments of Node that start the command line under test. */
  readonly command: readonly string[]
  readonly signal: AbortSignal
  /** What the processes say, line by line; for those who look for a fault. */
  readonly trace: (text: string) => void
}

/** Long enough for the last batch to form, to be taken in and to be believed. */
const silenceMs = 2_500
const stopGraceMs = 4_000

export class Bed {
  readonly sites: Readonly<Record<SiteName, SoakSite>>
  readonly stores: StoreLedger
  /** Aborts when the run is to end or has ended. */
  readonly signal: AbortSignal
  readonly #folder = mkdtempSync(join(tmpdir(), 'qkd-gw-soak-'))
  readonly #ended = new AbortController()
  #operator: Operator | undefined

  constructor(readonly options: BedOptions) {
    const { program, command, keysPerSecond, seed } = options
    this.signal = AbortSignal.any([options.signal, this.#ended.signal])
    const clientKey = generateSshKey('soak')
    const clientKeyFile = join(this.#folder, 'id_ed25519')
    const authorizedKeysFile = join(this.#folder, 'authorized_keys')
    writeFileSync(clientKeyFile, clientKey.privateKey, { mode: 0o600 })
    writeFileSync(authorizedKeysFile, `${clientKey.publicKey}\n`, { mode: 0o600 })
    const tag = `S${process.pid.toString(36)}`
    const site = (name: SiteName): SoakSite =>
      new SoakSite(name, {
        ...{ program: programAt(program, name), command, keysPerSecond, tag, clientKeyFile, authorizedKeysFile },
        pairSeed: `soak ${seed}`,
        folder: this.#folder,
        signal: this.signal,
        onLog: (at, text) => options.trace(`${at}  ${text}`),
      })
    this.sites = { A: site('A'), B: site('B') }
    this.stores =
      program === 'java' ? sessionsOf(this.sites) : hasJava(program) ? mixedOf(this.sites) : storesOf(this.sites)
  }

  async start(): Promise<void> {
    await Promise.all(this.both.map((site) => site.start()))
    this.#operator = new Operator(this.sites, this.signal, (text) => this.options.trace(`operator  ${text}`))
  }

  /** No process and no file of it is left afterwards. */
  async stop(): Promise<void> {
    this.#ended.abort()
    const timer = setTimeout(() => this.both.forEach((site) => site.kill()), stopGraceMs)
    await Promise.all(this.both.map((site) => site.stop(stopGraceMs - 1_000)))
    clearTimeout(timer)
    await this.#operator?.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  get both(): readonly SoakSite[] {
    return [this.sites.A, this.sites.B]
  }

  get operator(): Operator {
    if (this.#operator === undefined) throw new Error('the sites were not started')
    return this.#operator
  }

  /** Both chains stand up to the registration. Throws `Stuck`. */
  async ready(): Promise<void> {
    await Promise.all(this.both.map((site) => site.ready()))
  }

  async startLink(): Promise<void> {
    const { A, B } = await this.figures()
    this.stores.begin({ A: Math.max(A.owedHere, B.owedThere), B: Math.max(B.owedHere, A.owedThere) })
    return this.operator.start()
  }

  async figures(): Promise<Readonly<Record<SiteName, GatewayFigures>>> {
    const [A, B] = await Promise.all([this.sites.A.status(), this.sites.B.status()])
    return { A: figuresOf(A), B: figuresOf(B) }
  }

  /** Keys that came to each site since its SiteAgent was started. */
  counts(): Readonly<Record<SiteName, number>> {
    const { A, B } = this.sites
    return { A: A.arrivals.everCame, B: B.arrivals.everCame }
  }

  /** Until keys came to both sites: true. False where they did not in time, or `giveUp` says so, asked now and then. */
  async keysCome(
    before: Readonly<Record<SiteName, number>>,
    timeoutMs: number,
    giveUp: () => Promise<boolean> = () => Promise.resolve(false),
  ): Promise<boolean> {
    let looks = 0
    const come = await poll(
      async () => {
        const now = this.counts()
        if (now.A > before.A && now.B > before.B) return true
        looks += 1
        return looks % 10 === 0 && (await giveUp()) ? false : undefined
      },
      20,
      timeoutMs,
      this.signal,
    )
    return come === true
  }

  /** Nothing is on its way to a SiteAgent any more. */
  async quiet(): Promise<void> {
    this.operator.rest()
    // A Java SiteAgent never stops a link: it loses its streams.
    for (const site of this.both) if (site.program === 'java') site.part('site-agent').send('kill-streams')
    for (const site of this.both) if (site.program !== 'java') await this.operator.end(site.name)
    await pause(longestSlownessMs + 40, this.signal)
  }

  /** A stop after which nothing is owed, as long as nothing dies. */
  async stopInOrder(): Promise<void> {
    if (hasJava(this.options.program)) {
      // The devices fall silent, and what is under way arrives.
      this.both.forEach((site) => site.part('emulator').send(`hang ${silenceMs}`))
      await pause(silenceMs - 500, this.signal)
    } else await this.operator.end('A')
    await this.quiet()
  }

  /** Kills SiteAgents; their stores are new afterwards. */
  async renew(names: readonly SiteName[], pauseMs: number): Promise<void> {
    await Promise.all(names.map((name) => this.sites[name].restart('site-agent', pauseMs)))
    for (const name of names) this.operator.renew(name)
    const [name] = names
    if (names.length === 2) this.stores.bothRenewed()
    else if (name !== undefined) this.stores.renewed(name)
  }

  async said(): Promise<Said | undefined> {
    const statuses = await Promise.all(this.both.map((site) => site.status()))
    return said(statuses[0], statuses[1])
  }

  /** Counts and both gateways' statuses, for whoever looks into what went wrong. */
  async account(): Promise<string> {
    const statuses = await Promise.all(this.both.map((site) => site.status()))
    return JSON.stringify({ counts: this.counts(), statuses: statuses.map((status) => status?.parts) }, undefined, 1)
  }
}

function storeOf(site: SoakSite): ComparedStore {
  return {
    keys: () => site.keys(),
    digest: (from, count) => site.digest(from, count),
    get batches() {
      return site.arrivals.batches
    },
  }
}

function sessionOf(site: SoakSite): ComparedSession {
  const { reader, ofReader, batches } = site.arrivals
  return { reader, keys: ofReader, batches, digest: (from, count) => site.digest(from, count) }
}

function storesOf({ A, B }: Readonly<Record<SiteName, SoakSite>>): StoreLedger {
  return new Stores({ A: storeOf(A), B: storeOf(B) })
}

function sessionsOf({ A, B }: Readonly<Record<SiteName, SoakSite>>): StoreLedger {
  return new Sessions({ A: () => sessionOf(A), B: () => sessionOf(B) })
}

function mixedOf({ A, B }: Readonly<Record<SiteName, SoakSite>>): StoreLedger {
  const [cpp, java] = A.program === 'java' ? [B, A] : [A, B]
  return new MixedStores(storeOf(cpp), () => sessionOf(java), { cpp: cpp.name, java: java.name })
}
