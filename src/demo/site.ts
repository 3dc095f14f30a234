/** One site of the demonstration: emulated device, SSH server, SiteAgent and gateway, each a process of its own. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { ptyAvailable } from '../io/pty.js'
import { askGateway, statusSocketPath, type GatewayStatus } from '../gateway/status-socket.js'
import type { DemoDevice } from './device.js'
import { LineProcess, type JsonLine } from './line-process.js'

export type SiteName = 'A' | 'B'

/** One of the eight steps, as one of the processes reported it; `site` is where the call arrives. */
export interface Step {
  step: number
  name: string
  site: SiteName
  /** Milliseconds since the demonstration began. */
  atMs: number
  /** What else belongs to the step: steps 4 and 6 bring GetStatistics beside WaitForSession, in either order. */
  with?: { name: string; atMs: number }[]
}

export interface DemoContext {
  readonly folder: string
  readonly startedAtMs: number
  readonly device: DemoDevice
  readonly signal: AbortSignal
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clientKeyFile: string
  readonly authorizedKeysFile: string
  onStep(step: Step): void
  /** A line for people about what happens at a site. */
  onNews(site: SiteName, text: string): void
  /** A line of what the device of a site teaches. */
  onLesson(site: SiteName, text: string): void
}

export type ProcessName = 'emulator' | 'sshd' | 'site-agent' | 'gateway'

const startTimeoutMs = 20_000

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

function textOf(line: JsonLine, key: string): string | undefined {
  const value = line[key]
  return typeof value === 'string' ? value : undefined
}

function numberOf(line: JsonLine, key: string): number | undefined {
  const value = line[key]
  return typeof value === 'number' ? value : undefined
}

/** pino's level of a warning. */
const warnLevel = 40

export class DemoSite {
  readonly id: string
  readonly #folder: string
  readonly #processes = new Map<ProcessName, LineProcess>()
  #devicePath = ''
  #sshPort = 0
  #hostKeyFingerprint = ''
  #siteAgentPort = 0
  #servicePort = 0
  #listenerPort = 0
  /** Keys that the SiteAgent has received, as it says itself. */
  keys = 0
  /** What the device hangs on: 'pty', or 'memory' where this machine has none. */
  transport = ''

  constructor(
    readonly name: SiteName,
    readonly context: DemoContext,
  ) {
    this.id = `A_B_${name}`
    this.#folder = join(context.folder, name)
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
  }

  get siteAgentAddress(): string {
    return `127.0.0.1:${this.#siteAgentPort}`
  }

  process(name: ProcessName): LineProcess | undefined {
    return this.#processes.get(name)
  }

  #start(name: ProcessName, args: readonly string[]): LineProcess {
    if (this.context.signal.aborted) throw new Error('stopped')
    const process = new LineProcess(`${name} of site ${this.name}`, args, this.context.env)
    this.#processes.set(name, process)
    return process
  }

  async start(): Promise<void> {
    this.#servicePort = await freePort()
    this.#listenerPort = await freePort()
    await Promise.all([this.#startEmulator(), this.#startSshd(), this.#startSiteAgent()])
    await this.#trustHostKey()
    this.#writeConfiguration()
    this.#startGateway()
  }

  async #startEmulator(): Promise<void> {
    const { device } = this.context
    if (device.inMemory !== undefined && !(await ptyAvailable())) {
      // No pseudo-terminal on this machine: the unit then runs inside the gateway, on an in-memory binding.
      this.transport = 'memory'
      this.#devicePath = device.inMemory
      return
    }
    const link = join(this.#folder, 'ttyQKD')
    const emulator = this.#start('emulator', [
      ...['emulate', ...device.emulatorArgs(this.name), '--link', link],
      ...['--until-stdin-ends', '--json'],
    ])
    const ready = await emulator.next(
      (line) => (textOf(line, 'path') === undefined ? undefined : line),
      startTimeoutMs,
      this.context.signal,
    )
    this.#devicePath = textOf(ready, 'path') ?? link
    this.transport = textOf(ready, 'transport') ?? 'pty'
  }

  async #startSshd(): Promise<void> {
    const sshd = this.#start('sshd', [
      ...['standin', 'sshd', '--user', 'qkd', '--authorized-keys', this.context.authorizedKeysFile],
      ...['--host-key', join(this.#folder, 'ssh_host_key'), '--port', String(this.#sshPort)],
    ])
    const ready = await sshd.next(
      (line) => (line['event'] === 'listening' ? line : undefined),
      startTimeoutMs,
      this.context.signal,
    )
    this.#sshPort = numberOf(ready, 'port') ?? 0
    this.#hostKeyFingerprint = textOf(ready, 'fingerprint') ?? ''
  }

  async #startSiteAgent(): Promise<void> {
    const agent = this.#start('site-agent', [
      'standin',
      'site-agent',
      '--name',
      `Site ${this.name}`,
      '--port',
      String(this.#siteAgentPort),
    ])
    agent.onLine((line) => this.#onSiteAgentLine(line))
    const address = await agent.next(
      (line) => (line['event'] === 'listening' ? textOf(line, 'address') : undefined),
      startTimeoutMs,
      this.context.signal,
    )
    this.#siteAgentPort = Number(address.slice(address.lastIndexOf(':') + 1))
  }

  #onSiteAgentLine(line: JsonLine): void {
    if (line['event'] === 'keys') this.keys = numberOf(line, 'count') ?? this.keys
    const step = numberOf(line, 'step')
    if (line['event'] === 'step' && step !== undefined)
      this.#report(step, textOf(line, 'name') ?? '', numberOf(line, 'atMs'))
  }

  #report(step: number, name: string, atMs: number | undefined): void {
    // The operator's side reports steps 1 and 2 alike; which one it is depends on the site.
    const number = name === 'RegisterDevice' ? (this.name === 'A' ? 1 : 2) : step
    this.context.onStep({
      step: number,
      name,
      // SiteAgent A tells of step 5, which it sends to SiteAgent B.
      site: number === 5 ? 'B' : this.name,
      atMs: Math.round((atMs ?? Date.now()) - this.context.startedAtMs),
    })
  }

  /** As in a lab: the fingerprint comes by another way, and `tunnel trust` takes it down. */
  async #trustHostKey(): Promise<void> {
    const trust = new LineProcess(
      `tunnel trust at site ${this.name}`,
      [
        ...['tunnel', 'trust', `127.0.0.1:${this.#sshPort}`, '--fingerprint', this.#hostKeyFingerprint],
        ...['--known-hosts', this.#knownHostsFile],
      ],
      this.context.env,
    )
    const giveUp = (): void => trust.kill('SIGKILL')
    this.context.signal.addEventListener('abort', giveUp, { once: true })
    const code = await trust.exited
    this.context.signal.removeEventListener('abort', giveUp)
    if (code !== 0) throw new Error(`${trust.name} ended with ${code}\n${trust.complaint}`)
  }

  get #knownHostsFile(): string {
    return join(this.#folder, 'known_hosts')
  }

  get #stateFolder(): string {
    return join(this.#folder, 'state')
  }

  get configFile(): string {
    return join(this.#folder, 'qkd-gw.toml')
  }

  #writeConfiguration(): void {
    const lines = [
      `# Site ${this.name} of the demonstration: what an operator would write in a lab.`,
      '[device]',
      `path = ${JSON.stringify(this.#devicePath)}`,
      `driver = "${this.context.device.driver}"`,
      `side = "${this.name === 'A' ? 'alice' : 'bob'}"`,
      `id = "${this.id}"`,
      ...this.#driverOptionLines(),
      '[server]',
      `listen = "127.0.0.1:${this.#servicePort}"`,
      '[tunnel]',
      `server = "qkd@127.0.0.1:${this.#sshPort}"`,
      `identity = [${JSON.stringify(this.context.clientKeyFile)}]`,
      'agent = false',
      `knownHosts = [${JSON.stringify(this.#knownHostsFile)}]`,
      `remoteListen = "127.0.0.1:${this.#listenerPort}"`,
      'probeIntervalMs = 1000',
      'retryFirstMs = 200',
      'retryMaxMs = 2000',
      '[site]',
      `agent = "${this.siteAgentAddress}"`,
      'pollMs = 1000',
      '[state]',
      `folder = ${JSON.stringify(this.#stateFolder)}`,
      '[log]',
      'level = "info"',
      'format = "json"',
    ]
    writeFileSync(this.configFile, `${lines.join('\n')}\n`, { mode: 0o600 })
  }

  #driverOptionLines(): string[] {
    const options = Object.entries(this.context.device.driverOptions)
    if (options.length === 0) return []
    return ['[device.options]', ...options.map(([name, value]) => `${name} = ${JSON.stringify(value)}`)]
  }

  #startGateway(): void {
    const gateway = this.#start('gateway', ['attach', '--config', this.configFile])
    gateway.onLine((line) => {
      const step = numberOf(line, 'step')
      if (step !== undefined) this.#report(step, textOf(line, 'name') ?? '', numberOf(line, 'time'))
      const level = numberOf(line, 'level') ?? 0
      const text = textOf(line, 'msg')
      if (text === undefined) return
      if (this.context.device.isLesson(text)) this.context.onLesson(this.name, text)
      else if (level >= warnLevel) this.context.onNews(this.name, text)
    })
    void gateway.exited.then((code) => {
      if (code !== 0 && code !== null && !this.context.signal.aborted) {
        this.context.onNews(this.name, `the gateway ended with ${code}: ${gateway.complaint}`)
      }
    })
  }

  /** The gateway's own account of itself, or undefined while it does not answer. */
  async status(): Promise<GatewayStatus | undefined> {
    try {
      return (await askGateway(statusSocketPath(this.#stateFolder, this.id), { request: 'status' })) as GatewayStatus
    } catch {
      return undefined
    }
  }

  /** SHA-256 over the first `keys` keys in the order in which the SiteAgent received them. */
  async digest(keys: number): Promise<string> {
    const agent = this.#processes.get('site-agent')
    if (agent === undefined) throw new Error('no SiteAgent')
    const answer = agent.next(
      (line) => (line['event'] === 'digest' && numberOf(line, 'keys') === keys ? textOf(line, 'digest') : undefined),
      5_000,
      this.context.signal,
    )
    agent.send(`digest ${keys}`)
    return answer
  }

  /** Kills a process and starts it again after `pauseMs`, on the same port. */
  async restart(name: ProcessName, pauseMs: number): Promise<void> {
    const before = this.#processes.get(name)
    before?.kill('SIGKILL')
    await before?.exited
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
    if (this.context.signal.aborted) return
    if (name === 'gateway') this.#startGateway()
    else if (name === 'sshd') await this.#startSshd()
    else if (name === 'emulator') await this.#startEmulator()
    else {
      this.keys = 0
      await this.#startSiteAgent()
    }
  }

  /** Ends every process: the gateway first, so that it can unregister and give its listener back. */
  async stop(graceMs: number): Promise<void> {
    await this.#processes.get('gateway')?.stop(graceMs)
    await Promise.all([...this.#processes.values()].map((process) => process.stop(300)))
  }

  kill(): void {
    for (const process of this.#processes.values()) process.kill('SIGKILL')
  }
}
