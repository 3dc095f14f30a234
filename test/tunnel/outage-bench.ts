/** A lab in namespaces with Debian's sshd at one end of the cable and a tunnel process at the other. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { userInfo } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { ChildProcess } from 'node:child_process'
import type { TunnelBackendName, TunnelState } from '../../src/tunnel/contract.js'
import type { TunnelTimings } from '../../src/tunnel/options.js'
import { serverConfig } from '../../src/tunnel/server-config.js'
import { ADDRESSES, SERVER_NAME, startNetLab, type NetLab } from './net-lab.js'
import type { ChildFacts, ChildLine } from './outage-lines.js'
import { startRealSshd, type RealSshd } from './real-sshd.js'

const CHILD = fileURLToPath(new URL('./outage-child.ts', import.meta.url))
/** The listener on the server: each server has a network of its own. */
export const PORT = 9000
const SSH_PORT = 2222

export interface OutageTimes {
  readonly timings: Partial<TunnelTimings>
  readonly sshdConfig: readonly string[]
  /** Longest time until a silent cut is noticed, ms: interval, call and question. */
  readonly detectMs: number
  /** Longest time for which sshd holds the listener of a dead connection, ms. */
  readonly releaseMs: number
  /** One step of the backoff, ms: the longest pause between two tries. */
  readonly stepMs: number
  /** The pause after a server refused us, ms. */
  readonly bannedMs: number
  /** Longest wait of a test for anything. */
  readonly patienceMs: number
}

type StateNamed<K extends TunnelState['state']> = Extract<TunnelState, { state: K }>

export interface Seen {
  readonly atMs: number
  readonly state: TunnelState
}

/** What is printed, with the times of the test: the printed ones stand in a Match block, which overrides what is outside. */
function withTimes(printed: readonly string[], times: readonly string[]): string[] {
  return printed.map((line) => {
    const [keyword = ''] = line.trim().split(' ')
    const own = times.find((one) => one.startsWith(`${keyword} `))
    return own === undefined ? line : line.replace(line.trim(), own)
  })
}

export class OutageBench {
  readonly seen: Seen[] = []
  failed: { code: string; text: string } | undefined
  #facts: ((facts: ChildFacts) => void)[] = []
  readonly #lookers = new Set<() => void>()

  private constructor(
    readonly net: NetLab,
    readonly sshd: RealSshd,
    readonly child: ChildProcess,
    readonly times: OutageTimes,
    private readonly cleanups: (() => Promise<void> | void)[],
  ) {
    const { stdout } = child
    if (stdout === null) throw new Error('the child has no output')
    createInterface({ input: stdout }).on('line', (text) => this.#onLine(JSON.parse(text) as ChildLine))
  }

  static async start(
    backend: TunnelBackendName,
    times: OutageTimes,
    sshdConfig: readonly string[] = [],
    spareConnection = false,
  ): Promise<OutageBench> {
    const net = startNetLab()
    const cleanups: (() => Promise<void> | void)[] = [() => net.close()]
    try {
      const config = serverConfig({
        user: userInfo().username,
        server: { host: SERVER_NAME, port: SSH_PORT },
        remoteListen: { host: '', port: PORT },
        controlAddress: { host: SERVER_NAME, port: PORT },
        portPool: [],
        anyPort: false,
        nested: true,
        diagnosis: false,
        siteAgent: undefined,
        publicKeys: [''],
        from: [],
      })
      const sshd = await startRealSshd({
        keyOptions: config.authorizedKeys[0]?.trim() ?? '',
        port: SSH_PORT,
        config: ['UseDNS no', ...sshdConfig, ...withTimes(config.sshdConfig, times.sshdConfig)],
        place: {
          host: SERVER_NAME,
          listen: '0.0.0.0',
          start: (program, args, stdio) => net.start('server', program, args, stdio),
        },
        atEnd: (cleanup) => cleanups.push(cleanup),
      })
      const options = {
        ...sshd.options,
        backend,
        spareConnection,
        remoteListen: { host: '', port: PORT },
        timings: times.timings,
      }
      const child = net.start(
        'lab',
        process.execPath,
        ['--expose-gc', '--import', 'tsx', CHILD, JSON.stringify(options)],
        ['pipe', 'pipe', 'inherit'],
      )
      return new OutageBench(net, sshd, child, times, cleanups)
    } catch (error) {
      for (const cleanup of cleanups.reverse()) await cleanup()
      throw error
    }
  }

  async close(): Promise<void> {
    for (const cleanup of this.cleanups.splice(0).reverse()) await cleanup()
  }

  get state(): TunnelState | undefined {
    return this.seen.at(-1)?.state
  }

  /** The first state of one of the names at or after a time; waits for it. */
  until<K extends TunnelState['state']>(
    fromMs: number,
    ...names: K[]
  ): Promise<{ atMs: number; state: StateNamed<K> }> {
    return this.look(`${names.join(' or ')}`, () => {
      const found = this.seen.find(
        (one) => one.atMs >= fromMs && (names as readonly string[]).includes(one.state.state),
      )
      return found === undefined ? undefined : { atMs: found.atMs, state: found.state as StateNamed<K> }
    })
  }

  /** Waits until something of what was said so far has a value. */
  look<T>(what: string, find: () => T | undefined, patienceMs = this.times.patienceMs): Promise<T> {
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        clearTimeout(timer)
        this.#lookers.delete(look)
        settle()
      }
      const look = (): void => {
        const found = find()
        if (found !== undefined) finish(() => resolve(found))
      }
      const timer = setTimeout(
        () =>
          finish(() =>
            reject(
              new Error(
                `never came within ${patienceMs} ms: ${what}; failed: ${this.failed?.text ?? 'no'}; last states ${JSON.stringify(this.seen.slice(-4))}; sshd says ${this.sshd.log().slice(-1_500)}`,
              ),
            ),
          ),
        patienceMs,
      )
      this.#lookers.add(look)
      look()
    })
  }

  /** Resolves once the spare connection, where one is wanted, stands by. */
  async untilSpare(): Promise<void> {
    const giveUpMs = Date.now() + this.times.patienceMs
    for (;;) {
      const { spareConnection = 'ready' } = (await this.facts()).tunnel
      if (spareConnection === 'ready') return
      if (Date.now() > giveUpMs) throw new Error(`no spare connection stands by: ${String(spareConnection)}`)
      await pause(100)
    }
  }

  facts(): Promise<ChildFacts> {
    return new Promise((resolve) => {
      this.#facts.push(resolve)
      this.child.stdin?.write('facts\n')
    })
  }

  kick(): void {
    this.child.stdin?.write('kick\n')
  }

  async untilProven(fromMs = 0): Promise<{ atMs: number; state: StateNamed<'proven'> }> {
    return this.until(fromMs, 'proven')
  }

  /** Listening sockets on the server at the tunnel's port. */
  listeners(): number {
    const lines = this.net.run('server', 'ss', ['-Htln', `sport = :${PORT}`]).trim()
    // One line for each family.
    return new Set(lines.split('\n').map((line) => line.trim().split(/\s+/)[3]?.includes('[') ?? false)).size
  }

  /** Longest time, ms, for which `proven` stood although no call had come back, up to a moment. */
  longestStaleMs(toMs: number, fromMs = 0): number {
    let longest = 0
    this.seen.forEach(({ state, atMs }, index) => {
      if (state.state !== 'proven' || atMs < fromMs) return
      const until = Math.min(this.seen[index + 1]?.atMs ?? toMs, toMs)
      longest = Math.max(longest, until - state.provenAtMs)
    })
    return longest
  }

  /** Processes that the tunnel's process started and that still run. */
  helpers(): number {
    const pid = this.child.pid ?? 0
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).length
  }

  /** Connections of the lab to sshd, as the server sees them. */
  sshConnections(): number[] {
    const lines = this.net.run('server', 'ss', ['-Htn', 'state', 'established', `sport = :${SSH_PORT}`]).trim()
    return lines
      .split('\n')
      .filter((line) => line.includes(`${ADDRESSES.lab}:`))
      .map((line) => Number(/:(\d+)\s*$/.exec(line.trim())?.[1]))
  }

  async ended(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'exit')
  }

  #onLine(line: ChildLine): void {
    if (line.kind === 'state') this.seen.push(line)
    else if (line.kind === 'facts') this.#facts.shift()?.(line.facts)
    else this.failed = { code: line.code, text: line.text }
    for (const look of [...this.#lookers]) look()
  }
}
