/** The demonstration: two sites on this machine, every part a process of its own, from the serial line to equal keys. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateSshKey } from '../standin/sshd.js'
import { ekpqcBoards, qixUnits, type DemoDevice } from './device.js'
import { demoFaults, type DemoFault } from './faults.js'
import { LineProcess } from './line-process.js'
import { DemoSite, type DemoContext, type SiteName, type Step } from './site.js'
import { renderDemo, Screen, type Comparison, type SiteView } from './table.js'

export interface DemoOptions {
  /** End after this many keys at each site; undefined: run until told to end. */
  keys: number | undefined
  fault: DemoFault | undefined
  /** A lesson with the teaching kit's boards instead of serial key streams. */
  lesson: { speed: number; eve: boolean } | undefined
  json: boolean
  /** Give up if `keys` has not come by then. */
  timeoutMs: number
}

export interface DemoIo {
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly env: Readonly<Record<string, string | undefined>>
  readonly signal: AbortSignal
}

export interface SiteResult {
  keys: number
  digest: string
  siteAgent: string
  deviceId: string
  transport: string
}

export interface DemoResult {
  identical: boolean
  sites: Record<SiteName, SiteResult>
  steps: Step[]
  fault?: { name: string; injectedAtMs: number; recoveredAtMs: number | null; news: string[] }
}

const pollMs = 250
/** Ctrl+C ends everything within 2 s: what has not ended by then is killed. */
const stopGraceMs = 1_500
/** Keys at each site before a fault is injected, and after it before it counts as survived. */
const keysBeforeFault = 10
const keysAfterFault = 10

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done, { once: true })
    if (signal.aborted) done()
  })
}

class Demo {
  readonly #startedAtMs = Date.now()
  readonly #folder = mkdtempSync(join(tmpdir(), 'qkd-gw-demo-'))
  readonly #steps: Step[] = []
  readonly #news: string[] = []
  readonly #sites: readonly [DemoSite, DemoSite]
  readonly #abort = new AbortController()
  readonly #device: DemoDevice
  #between: LineProcess | undefined
  #keeper: LineProcess | undefined
  #comparison: Comparison | undefined
  #fault: { injectedAtMs: number; recoveredAtMs: number | null; keysThen: number | undefined } | undefined

  constructor(
    private readonly options: DemoOptions,
    private readonly io: DemoIo,
  ) {
    const clientKey = generateSshKey('qkd-gw demonstration')
    const clientKeyFile = join(this.#folder, 'id_ed25519')
    const authorizedKeysFile = join(this.#folder, 'authorized_keys')
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
    writeFileSync(clientKeyFile, clientKey.privateKey, { mode: 0o600 })
    writeFileSync(authorizedKeysFile, `${clientKey.publicKey}\n`, { mode: 0o600 })
    io.signal.addEventListener('abort', () => this.#abort.abort(), { once: true })
    const seed = String(this.#startedAtMs)
    this.#device = options.lesson === undefined ? qixUnits(seed) : ekpqcBoards({ seed, ...options.lesson })
    const context: DemoContext = {
      folder: this.#folder,
      startedAtMs: this.#startedAtMs,
      device: this.#device,
      signal: this.#abort.signal,
      env: io.env,
      clientKeyFile,
      authorizedKeysFile,
      onStep: (step) => this.#onStep(step),
      onNews: (site, text) => this.#tell(`site ${site}: ${text}`),
      onLesson: (site, text) => this.#onLesson(site, text),
    }
    this.#sites = [new DemoSite('A', context), new DemoSite('B', context)]
  }

  get #elapsedMs(): number {
    return Date.now() - this.#startedAtMs
  }

  #tell(text: string): void {
    const line = `${(this.#elapsedMs / 1_000).toFixed(1).padStart(6)} s  ${text.split('\n')[0] ?? ''}`
    this.#news.push(line)
    if (this.options.json || this.options.lesson !== undefined || !this.io.stdout.isTTY)
      this.io.stderr.write(`${line}\n`)
  }

  /** Line by line, for the blackboard. */
  #onLesson(site: SiteName, text: string): void {
    const out = this.options.json ? this.io.stderr : this.io.stdout
    out.write(`${site === 'A' ? 'Alice' : 'Bob  '} | ${text}\n`)
  }

  #onStep(step: Step): void {
    // After a fault the steps come again; the account holds the first time each happened.
    const known = this.#steps.find((other) => other.step === step.step)
    if (known === undefined) this.#steps.push(step)
    else if (known.name === step.name || known.with?.some(({ name }) => name === step.name) === true) return
    else known.with = [...(known.with ?? []), { name: step.name, atMs: step.atMs }]
    this.#tell(`step ${step.step}: ${step.name} at site ${step.site}`)
  }

  /** One entry a step, named after its main call. */
  get #account(): Step[] {
    const ordered = [...this.#steps].sort((first, second) => first.step - second.step)
    return ordered.map((step) => {
      const main = step.with?.find(({ name }) => name === 'WaitForSession')
      if (main === undefined) return step
      return { ...step, name: main.name, atMs: main.atMs, with: [{ name: step.name, atMs: step.atMs }] }
    })
  }

  /** Runs to the end; the folder and every process are gone afterwards. */
  async run(): Promise<DemoResult | undefined> {
    try {
      this.#tell('starting two sites: device, SSH server, SiteAgent and gateway each')
      this.#startBetween()
      await this.#startSites()
      this.#startKeeper()
      return await this.#watch()
    } catch (error) {
      // Told to end while something was still starting: no fault of anything.
      if (this.io.signal.aborted) return undefined
      throw error
    } finally {
      this.#abort.abort()
      await this.#stop()
    }
  }

  /** Whoever sits on the fibre, before there is light on it. */
  #startBetween(): void {
    const { between } = this.#device
    if (between === undefined) return
    this.#between = new LineProcess(
      'emulator of Eve',
      ['emulate', ...between, '--until-stdin-ends', '--json'],
      this.io.env,
    )
    this.#tell('Eve measures every pulse and sends on what she found')
  }

  /** Settles only when neither site starts anything any more, so that nothing is left behind. */
  async #startSites(): Promise<void> {
    const started = this.#sites.map((site) =>
      site.start().catch((error: unknown) => {
        this.#abort.abort()
        throw error
      }),
    )
    await Promise.allSettled(started)
    await Promise.all(started)
  }

  /** Plays the operator: starts the link, and starts it again after a fault. */
  #startKeeper(): void {
    const [a, b] = this.#sites
    this.#keeper = new LineProcess(
      'qkd-gw site keep-up',
      [
        ...['site', a.siteAgentAddress, 'keep-up', b.siteAgentAddress, '--json'],
        ...['--stalled-after', String(this.#device.stalledAfterS)],
      ],
      this.io.env,
    )
    this.#keeper.onLine((line) => {
      const text = line['message']
      if (typeof text === 'string') this.#tell(`operator: ${text}`)
    })
  }

  async #watch(): Promise<DemoResult | undefined> {
    const screen = new Screen(this.io.stdout)
    const before = this.#sites.map(() => ({ keys: 0, atMs: Date.now(), rate: 0 }))
    while (!this.#abort.signal.aborted) {
      await pause(pollMs, this.#abort.signal)
      const views = await Promise.all(this.#sites.map((site, index) => this.#view(site, before[index])))
      await this.#compare()
      if (!this.options.json && this.options.lesson === undefined)
        screen.draw(renderDemo(views, this.#comparison, this.#news, this.#elapsedMs), Date.now())
      this.#maybeInject()
      if (this.#comparison?.identical === false) return this.#result(this.#comparison.keys)
      if (this.#finished()) {
        const result = await this.#result(this.options.keys ?? 0)
        if (!this.options.json) screen.finish(renderDemo(views, this.#comparison, this.#news, this.#elapsedMs))
        return result
      }
      if (this.options.keys !== undefined && this.#elapsedMs > this.options.timeoutMs) {
        throw new Error(
          `no ${this.options.keys} keys at both sites within ${this.options.timeoutMs / 1_000} s\n${this.#news.join('\n')}`,
        )
      }
    }
    return undefined
  }

  async #view(site: DemoSite, last: { keys: number; atMs: number; rate: number } | undefined): Promise<SiteView> {
    const nowMs = Date.now()
    if (last !== undefined && nowMs - last.atMs >= 2_000) {
      last.rate = Math.max(0, ((site.keys - last.keys) * 1_000) / (nowMs - last.atMs))
      last.keys = site.keys
      last.atMs = nowMs
    }
    return { name: site.name, status: await site.status(), keys: site.keys, keysPerSecond: last?.rate ?? 0 }
  }

  async #compare(): Promise<void> {
    const keys = this.#commonKeys
    if (keys === 0) return
    try {
      const [a, b] = await Promise.all(this.#sites.map((site) => site.digest(keys)))
      const identical = a === b
      if (this.options.lesson !== undefined && keys !== this.#comparison?.keys) {
        this.#tell(`${keys} ${keys === 1 ? 'key' : 'keys'} at both SiteAgents, ${identical ? 'equal' : 'NOT EQUAL'}`)
      }
      this.#comparison = { keys, identical }
    } catch {
      // A SiteAgent that is being killed does not answer.
    }
  }

  get #commonKeys(): number {
    return Math.min(...this.#sites.map((site) => site.keys))
  }

  #maybeInject(): void {
    const { fault } = this.options
    if (fault === undefined) return
    if (this.#fault === undefined) {
      if (this.#commonKeys < keysBeforeFault) return
      this.#fault = { injectedAtMs: this.#elapsedMs, recoveredAtMs: null, keysThen: undefined }
      this.#tell(`FAULT ${fault.name}: ${fault.what} (site A)`)
      void this.#inject(fault).catch((error: unknown) => this.#tell(`fault ${fault.name}: ${String(error)}`))
      return
    }
    const { keysThen, recoveredAtMs } = this.#fault
    if (keysThen === undefined || recoveredAtMs !== null || this.#commonKeys < keysThen + keysAfterFault) return
    this.#fault.recoveredAtMs = this.#elapsedMs
    this.#tell(`SURVIVED ${fault.name}: keys flow again at both sites`)
  }

  async #inject(fault: DemoFault): Promise<void> {
    const [site, other] = this.#sites
    if ('command' in fault.action) {
      site.process(fault.target)?.send(fault.action.command)
      await pause(fault.lastsMs, this.#abort.signal)
    } else {
      await site.restart(fault.target, fault.action.killForMs)
      if (fault.target === 'site-agent') {
        // One empty store and one full one never agree again: the operator renews the other one too, as status tells him.
        this.#tell('operator: renewing the store of site B as well')
        await other.restart('site-agent', 100)
      }
    }
    // From here on it is recovery: so many keys more at both sites, and it is over.
    if (this.#fault !== undefined) this.#fault.keysThen = Math.max(...this.#sites.map(({ keys }) => keys))
  }

  #finished(): boolean {
    const { keys, fault } = this.options
    if (keys === undefined || this.#commonKeys < keys) return false
    return fault === undefined || (this.#fault !== undefined && this.#fault.recoveredAtMs !== null)
  }

  async #result(keys: number): Promise<DemoResult> {
    const [a, b] = this.#sites
    const [digestA, digestB] = await Promise.all([a.digest(keys), b.digest(keys)])
    const site = (of: DemoSite, digest: string): SiteResult => ({
      keys,
      digest,
      siteAgent: of.siteAgentAddress,
      deviceId: of.id,
      transport: of.transport,
    })
    const result: DemoResult = {
      identical: keys > 0 && digestA === digestB,
      sites: { A: site(a, digestA), B: site(b, digestB) },
      steps: this.#account,
    }
    const { fault } = this.options
    if (fault !== undefined && this.#fault !== undefined) {
      const { injectedAtMs, recoveredAtMs } = this.#fault
      result.fault = { name: fault.name, injectedAtMs, recoveredAtMs, news: this.#news }
    }
    return result
  }

  async #stop(): Promise<void> {
    const timer = setTimeout(() => {
      this.#between?.kill('SIGKILL')
      this.#sites.forEach((site) => site.kill())
    }, stopGraceMs)
    this.#keeper?.kill('SIGTERM')
    await Promise.all([
      this.#keeper?.stop(300),
      this.#between?.stop(300),
      ...this.#sites.map((site) => site.stop(stopGraceMs - 500)),
    ])
    clearTimeout(timer)
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** The fault of that name, or undefined. */
export function findFault(name: string): DemoFault | undefined {
  return demoFaults.find((fault) => fault.name === name)
}

/** Runs the demonstration. Resolves with undefined where it was told to end before it was done. */
export function runDemo(options: DemoOptions, io: DemoIo): Promise<DemoResult | undefined> {
  return new Demo(options, io).run()
}
