/** One site under test: emulated device, SSH server, SiteAgent and gateway, each a process of its own. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LineProcess, type JsonLine } from '../../../src/demo/line-process.js'
import { freePort, type SiteName } from '../../../src/demo/site.js'
import { askGateway, statusSocketPath, type GatewayStatus } from '../../../src/gateway/status-socket.js'
import { poll, Stuck } from './waiting.js'

/** Which SiteAgent stands at a site: the C++ one, its fork with the other numbering of registrations, the Java one. */
export type SiteProgram = 'cpp' | 'fork' | 'java'

export type PartName = 'emulator' | 'sshd' | 'site-agent' | 'gateway'

export interface SiteSettings {
  readonly program: SiteProgram
  /** Arguments of Node that start the command line under test. */
  readonly command: readonly string[]
  /** The same for both sites: the two emulated devices then make the same keys. */
  readonly pairSeed: string
  /** Keys that the emulated device makes in a second. */
  readonly keysPerSecond: number
  /** Name in device ids, so that several runs on one machine do not meet. */
  readonly tag: string
  readonly folder: string
  readonly clientKeyFile: string
  readonly authorizedKeysFile: string
  readonly signal: AbortSignal
  readonly onLog: (site: SiteName, text: string) => void
}

/** What the SiteAgent has told of keys since it was started. */
export interface Arrivals {
  /** Keys that its store holds. */
  count: number
  /** Keys that came, also those that were written over earlier ones. */
  everCame: number
  /** Sizes of the batches, oldest first; the last few. */
  batches: number[]
  /** How often it called WaitForSession, and the keys that came through the last one. */
  reader: number
  ofReader: number
}

const nothing = (): Arrivals => ({ count: 0, everCame: 0, batches: [], reader: 0, ofReader: 0 })

const startTimeoutMs = 30_000
const answerTimeoutMs = 20_000
const readyTimeoutMs = 45_000
const batchesKept = 8
/** Fast enough for several hundred frames a second. */
const baudRate = 921_600
const warnLevel = 40

const preload = new URL('./until-stdin-ends.mjs', import.meta.url).href

const text = (line: JsonLine, key: string): string | undefined => {
  const value = line[key]
  return typeof value === 'string' ? value : undefined
}
const number = (line: JsonLine, key: string): number | undefined => {
  const value = line[key]
  return typeof value === 'number' ? value : undefined
}

export class SoakSite {
  readonly id: string
  readonly #folder: string
  readonly #parts = new Map<PartName, LineProcess>()
  #devicePath = ''
  #sshPort = 0
  #fingerprint = ''
  #siteAgentPort = 0
  #listenerPort = 0
  arrivals: Arrivals = nothing()

  constructor(
    readonly name: SiteName,
    private readonly settings: SiteSettings,
  ) {
    const { tag } = settings
    this.id = `${tag}A_${tag}B_${tag}${name}`
    this.#folder = join(settings.folder, name)
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
  }

  get siteAgentAddress(): string {
    return `127.0.0.1:${this.#siteAgentPort}`
  }

  get program(): SiteProgram {
    return this.settings.program
  }

  part(name: PartName): LineProcess {
    const part = this.#parts.get(name)
    if (part === undefined) throw new Error(`site ${this.name} has no ${name} yet`)
    return part
  }

  async start(): Promise<void> {
    this.#listenerPort = await freePort()
    await Promise.all([this.#startEmulator(), this.#startSshd(), this.#startSiteAgent()])
    this.#writeConfiguration()
    this.#startGateway()
  }

  #spawn(name: PartName, args: readonly string[], preloads: readonly string[] = []): LineProcess {
    const { command } = this.settings
    const part = new LineProcess(`${name} of site ${this.name}`, args, process.env, [...preloads, ...command])
    this.#parts.set(name, part)
    return part
  }

  #first<T>(part: LineProcess, accept: (line: JsonLine) => T | undefined): Promise<T> {
    return part.next(accept, startTimeoutMs, this.settings.signal)
  }

  async #startEmulator(): Promise<void> {
    const { pairSeed, keysPerSecond } = this.settings
    const emulator = this.#spawn('emulator', [
      ...['emulate', 'qix', '--pair', pairSeed, '--rate', String(keysPerSecond), '-o', `baud=${baudRate}`],
      ...['--link', join(this.#folder, 'ttyQIX'), '--until-stdin-ends', '--json'],
    ])
    this.#devicePath = await this.#first(emulator, (line) => text(line, 'path'))
  }

  async #startSshd(): Promise<void> {
    const sshd = this.#spawn('sshd', [
      ...['standin', 'sshd', '--user', 'qkd', '--authorized-keys', this.settings.authorizedKeysFile],
      ...['--host-key', join(this.#folder, 'ssh_host_key'), '--port', String(this.#sshPort)],
    ])
    const ready = await this.#first(sshd, (line) => (line['event'] === 'listening' ? line : undefined))
    this.#sshPort = number(ready, 'port') ?? 0
    this.#fingerprint = text(ready, 'fingerprint') ?? ''
  }

  async #startSiteAgent(): Promise<void> {
    const { program } = this.settings
    this.arrivals = nothing()
    const agent = this.#spawn('site-agent', [
      ...['standin', 'site-agent', '--name', `Site ${this.name}`, '--port', String(this.#siteAgentPort)],
      ...['--seat', this.name === 'A' ? 'left' : 'right', '--program', program === 'java' ? 'java' : 'cpp'],
      ...(program === 'fork' ? ['--dialect', 'openqkd'] : []),
    ])
    const arrivals = this.arrivals
    agent.onLine((line) => this.#onSiteAgent(line, arrivals))
    const address = await this.#first(agent, (line) =>
      line['event'] === 'listening' ? text(line, 'address') : undefined,
    )
    this.#siteAgentPort = Number(address.slice(address.lastIndexOf(':') + 1))
  }

  #onSiteAgent(line: JsonLine, arrivals: Arrivals): void {
    if (line['event'] === 'step' && line['name'] === 'WaitForSession') {
      arrivals.reader += 1
      arrivals.ofReader = 0
    }
    if (line['event'] === 'note' || line['event'] === 'error') {
      this.settings.onLog(this.name, `SiteAgent: ${text(line, 'text') ?? text(line, 'message') ?? ''}`)
    }
    if (line['event'] !== 'keys') return
    const batch = number(line, 'batch') ?? 0
    arrivals.count = number(line, 'count') ?? arrivals.count
    arrivals.everCame += batch
    const through = this.settings.program === 'java' ? ` through reader ${number(line, 'reader')}` : ''
    this.settings.onLog(this.name, `SiteAgent: ${batch} keys${through}, ${arrivals.count} in all`)
    // What a Java site's older reader still takes in has numbers of its own.
    if ((number(line, 'reader') ?? arrivals.reader) !== arrivals.reader) return
    arrivals.ofReader += batch
    arrivals.batches = [...arrivals.batches, batch].slice(-batchesKept)
  }

  get #stateFolder(): string {
    return join(this.#folder, 'state')
  }

  #writeConfiguration(): void {
    const lines = [
      '[device]',
      `path = ${JSON.stringify(this.#devicePath)}`,
      'driver = "qix"',
      `side = "${this.name === 'A' ? 'alice' : 'bob'}"`,
      `id = "${this.id}"`,
      `baud = ${baudRate}`,
      '[server]',
      'listen = "127.0.0.1:0"',
      '[tunnel]',
      `server = "qkd@127.0.0.1:${this.#sshPort}"`,
      `identity = [${JSON.stringify(this.settings.clientKeyFile)}]`,
      'agent = false',
      `fingerprints = [${JSON.stringify(this.#fingerprint)}]`,
      `knownHosts = [${JSON.stringify(join(this.#folder, 'known_hosts'))}]`,
      `remoteListen = "127.0.0.1:${this.#listenerPort}"`,
      'probeIntervalMs = 1000',
      'retryFirstMs = 100',
      'retryMaxMs = 1000',
      '[site]',
      `agent = "${this.siteAgentAddress}"`,
      'pollMs = 500',
      // Small batches, so that many are on their way when something dies.
      '[link]',
      'smallestBatchKeys = 4',
      'longestWaitMs = 200',
      '[state]',
      `folder = ${JSON.stringify(this.#stateFolder)}`,
      '[log]',
      'level = "info"',
      'format = "json"',
    ]
    writeFileSync(join(this.#folder, 'qkd-gw.toml'), `${lines.join('\n')}\n`, { mode: 0o600 })
  }

  #startGateway(): void {
    const args = ['attach', '--config', join(this.#folder, 'qkd-gw.toml')]
    const gateway = this.#spawn('gateway', args, ['--import', preload])
    gateway.onLine((line) => {
      const what = text(line, 'msg') ?? ''
      const reason = text(line, 'reason')
      const level = (number(line, 'level') ?? 0) >= warnLevel ? 'WARN ' : ''
      this.settings.onLog(this.name, `gateway: ${level}${what}${reason === undefined ? '' : ` (${reason})`}`)
    })
    void gateway.exited.then((code) => {
      if (code !== 0 && code !== null && !this.settings.signal.aborted) {
        this.settings.onLog(this.name, `the gateway ended with ${code}: ${gateway.complaint}`)
      }
    })
  }

  /** Kills a part and starts it again after `pauseMs`, at the same port. */
  async restart(name: PartName, pauseMs: number): Promise<void> {
    const before = this.part(name)
    before.kill('SIGKILL')
    await before.exited
    await this.#startAgain(name, pauseMs)
  }

  /** Asks the gateway to end and starts another after `pauseMs`; resolves with the exit code of the first. */
  async restartGatewayInOrder(pauseMs: number): Promise<number | null> {
    const before = this.part('gateway')
    before.kill('SIGTERM')
    const code = await before.exited
    await this.#startAgain('gateway', pauseMs)
    return code
  }

  async #startAgain(name: PartName, pauseMs: number): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
    this.settings.signal.throwIfAborted()
    if (name === 'gateway') this.#startGateway()
    else if (name === 'sshd') await this.#startSshd()
    else if (name === 'emulator') await this.#startEmulator()
    else await this.#startSiteAgent()
  }

  /** The gateway's own account of itself, or undefined while it does not answer. */
  async status(): Promise<GatewayStatus | undefined> {
    try {
      return (await askGateway(statusSocketPath(this.#stateFolder, this.id), { request: 'status' })) as GatewayStatus
    } catch {
      return undefined
    }
  }

  async acceptDivergence(): Promise<void> {
    await askGateway(statusSocketPath(this.#stateFolder, this.id), { request: 'acceptDivergence' })
  }

  async #ask<T>(command: string, accept: (line: JsonLine) => T | undefined): Promise<T> {
    const agent = this.part('site-agent')
    const answer = agent.next(accept, answerTimeoutMs, this.settings.signal)
    agent.send(command)
    return answer
  }

  /** Keys that the SiteAgent holds, asked now. */
  keys(): Promise<number> {
    return this.#ask('keys', (line) => (line['event'] === 'received' ? number(line, 'count') : undefined))
  }

  /** SHA-256 over the `count` keys behind the first `from`, in the order of arrival. */
  digest(from: number, count: number): Promise<string> {
    return this.#ask(`range ${from} ${count}`, (line) =>
      line['event'] === 'range' && line['from'] === from && line['keys'] === count
        ? (text(line, 'digest') ?? 'fewer keys came')
        : undefined,
    )
  }

  /** Sets a switch of the C++ stand-in, milliseconds. */
  setFault(name: 'readDelayMs' | 'storeDelayMs', value: number): void {
    if (this.program !== 'java') this.part('site-agent').send(`fault ${name} ${value}`)
  }

  /** The chain stands up to the registration, as the gateway and the SiteAgent say. Throws `Stuck`. */
  async ready(): Promise<void> {
    const { signal } = this.settings
    let last: GatewayStatus | undefined
    let waits = ''
    const ok = await poll(
      async () => {
        last = await this.status()
        const { device, tunnel, registration, link } = last?.parts ?? {}
        const stands =
          device?.state === 'producing' &&
          tunnel?.state === 'proven' &&
          registration?.state === 'registered' &&
          (this.program === 'java' || link?.facts?.['confirmation'] === 'total')
        if (stands && (await this.#registered())) return true
        const parts = Object.entries({ device, tunnel, registration, link }).map(
          ([name, part]) => `${name} ${part?.state}`,
        )
        const text = `waits: ${parts.join(', ')}, totals ${JSON.stringify(link?.facts?.['confirmation'])}`
        if (text !== waits) this.settings.onLog(this.name, text)
        waits = text
        return undefined
      },
      60,
      readyTimeoutMs,
      signal,
    )
    if (ok !== true) {
      const parts = JSON.stringify(last?.parts ?? 'no status', undefined, 1)
      throw new Stuck(
        `site ${this.name} is not ready after ${readyTimeoutMs} ms: ${parts}\n${this.part('gateway').complaint}`,
      )
    }
  }

  async #registered(): Promise<boolean> {
    const devices = await this.#ask('devices', (line) =>
      line['event'] === 'devices'
        ? (line['devices'] as readonly { id?: string; controlAddress?: string }[])
        : undefined,
    )
    const own = devices.find(({ id }) => id === this.id)
    return own?.controlAddress === `127.0.0.1:${this.#listenerPort}`
  }

  async stop(graceMs: number): Promise<void> {
    await this.#parts.get('gateway')?.stop(graceMs)
    await Promise.all([...this.#parts.values()].map((part) => part.stop(500)))
  }

  kill(): void {
    for (const part of this.#parts.values()) part.kill('SIGKILL')
  }
}
