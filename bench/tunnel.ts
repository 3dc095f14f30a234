/**
 * Our tunnels against `ssh -R` (and autossh, for coming back) at one sshd in one run: latency, throughput with delay between
 * client and server, CPU, and the time until a call comes back after a cut.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { unary } from '../src/rpc/bridge.js'
import { openChannel, type Channel } from '../src/rpc/channel.js'
import { Probe } from '../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'
import type { TunnelBackendName } from '../src/tunnel/contract.js'
import { cleanUp, onCleanup } from '../test/tunnel/bench-tunnel.js'
import { freePort, startRealSshd, type RealSshd } from '../test/tunnel/real-sshd.js'
import { inTurn, median, type Figure } from './support/figures.js'
import { cpuMs } from './support/cpu.js'
import { downSpeed, upSpeed } from './support/tunnel-streams.js'

const OURS = ['ssh2', 'openssh', 'openssh+ssh2'] as const
/** `ssh -R in ssh -W`: what `openssh+ssh2` does, done by two plain ssh. */
type Theirs = 'ssh -R' | 'ssh -R in ssh -W' | 'autossh'
type WithSpare = `${TunnelBackendName} with a spare`
type Name = TunnelBackendName | 'ssh2, default windows' | WithSpare | Theirs
type Ours = Exclude<Name, Theirs>
const ROUND_TRIPS_MS = [0, 20, 100] as const
const WARM_UP_ROUNDS = 300
const ROUNDS = 2_000
const STREAM_MS = 2_500
const STREAM_ROUNDS = 3
/** Of streaming each way before anything is measured: programs that run for a year are compiled by then. */
const GET_GOING_MS = 1_000
const RESETS = 9
const PATIENCE_MS = 90_000
/** ServerAliveInterval and -CountMax of `ssh -R` and autossh: the keepalive of our own back ends. */
const ALIVE = ['ServerAliveInterval=4', 'ServerAliveCountMax=2']

interface Path {
  readonly name: Name
  /** Index of its relay. */
  readonly relay: number
  readonly address: string
  readonly pids: readonly number[]
  /** Wall times (Unix ms) and states of ours; of autossh the times at which its listener stood again. */
  readonly seen: { atMs: number; state: string }[]
}

const hasSpare = (name: Name): name is WithSpare => name.endsWith(' with a spare')

/** The back end of one of ours. */
function backendOf(name: Ours): TunnelBackendName {
  const backend = OURS.find((one) => name === one || name === `${one} with a spare`)
  return backend ?? 'ssh2'
}

function childrenOf(pid: number): number[] {
  const own = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  return own.flatMap((child) => [child, ...childrenOf(child)])
}

const cpuOf = ({ pids }: Path): number =>
  pids.flatMap((pid) => [pid, ...childrenOf(pid)]).reduce((sum, pid) => sum + cpuMs(pid), 0)

function program(file: string, ...args: string[]): ChildProcess {
  const path = fileURLToPath(new URL(`./support/${file}`, import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', path, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  onCleanup(() => void child.kill('SIGKILL'))
  return child
}

async function firstLine(child: ChildProcess): Promise<unknown> {
  if (child.stdout === null) throw new Error('no output')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  return JSON.parse(line)
}

class Bench {
  readonly paths: Path[] = []

  private constructor(
    readonly sshd: RealSshd,
    private readonly relays: ChildProcess,
    private readonly ports: readonly number[],
  ) {}

  static async start(count: number): Promise<Bench> {
    const sshd = await startRealSshd({
      config: ['GatewayPorts clientspecified', 'ClientAliveInterval 5', 'ClientAliveCountMax 2', 'UseDNS no'],
    })
    const relays = program('relay-process.ts', String(sshd.port), String(count))
    const ports = (await firstLine(relays)) as number[]
    const key = readFileSync(sshd.knownHosts, 'utf8').split(' ').slice(1).join(' ')
    const places = [...ports.map((port) => `[127.0.0.1]:${port}`), `[localhost]:${sshd.port}`]
    writeFileSync(sshd.knownHosts, places.map((place) => `${place} ${key}`).join(''))
    return new Bench(sshd, relays, ports)
  }

  /** `delay`, `reset` (all connections, or the oldest) or `stop` (in silence) on the way of one path. */
  relay(path: Path, what: string): void {
    const [verb = '', ...rest] = what.split(' ')
    this.relays.stdin?.write(`${[verb, path.relay, ...rest].join(' ')}\n`)
  }

  async add(name: Name): Promise<Path> {
    const isOurs = name === 'ssh2, default windows' || hasSpare(name) || OURS.some((own) => own === name)
    const path = isOurs ? await this.#ours(name as Ours) : await this.#theirs(name as Theirs)
    this.paths.push(path)
    return path
  }

  async #ours(name: Ours): Promise<Path> {
    const relay = this.paths.length
    const port = await freePort()
    const defaultWindows = name === 'ssh2, default windows'
    const options = {
      ...this.sshd.options,
      server: { ...this.sshd.options.server, port: this.ports[relay] },
      backend: backendOf(name),
      spareConnection: hasSpare(name),
      // Past the relay: what is inside crosses the line once, within what is outside.
      innerTarget: { host: 'localhost', port: this.sshd.port },
      remoteListen: { host: '127.0.0.1', port },
      defaultWindows,
      // Each reset of a row is met like the first one after a quiet minute.
      timings: { resetAfterProvenMs: 0, spareAfterMs: 500 },
    }
    const child = program('tunnel-child.ts', JSON.stringify(options))
    const seen: Path['seen'] = []
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on('line', (line) => seen.push(JSON.parse(line) as Path['seen'][number]))
    }
    const path = { name, relay, address: `127.0.0.1:${port}`, pids: [child.pid ?? 0], seen }
    await untilSeen(path, 0, (state) => state === 'proven')
    return path
  }

  async #theirs(name: Theirs): Promise<Path> {
    const relay = this.paths.length
    const port = await freePort()
    const local = program('tunnel-child.ts', '{}')
    const { port: localPort } = (await firstLine(local)) as { port: number }
    const { user, keyFile, knownHosts } = this.sshd
    const login = [
      ...['-F', 'none', '-i', keyFile, '-o', 'BatchMode=yes', '-o', `UserKnownHostsFile=${knownHosts}`],
      ...['-o', 'IdentitiesOnly=yes', ...ALIVE.flatMap((one) => ['-o', one])],
    ]
    const toRelay = ['-p', String(this.ports[relay])]
    const outer = ['ssh', ...login, ...toRelay, '-W', `localhost:${this.sshd.port}`, `${user}@127.0.0.1`].join(' ')
    const way =
      name === 'ssh -R in ssh -W'
        ? ['-o', `ProxyCommand=${outer}`, '-p', String(this.sshd.port), `${user}@localhost`]
        : [...toRelay, `${user}@127.0.0.1`]
    const args = [
      ...['-v', '-N', ...login, '-o', 'ExitOnForwardFailure=yes', '-R', `127.0.0.1:${port}:127.0.0.1:${localPort}`],
      ...way,
    ]
    const isAuto = name === 'autossh'
    const child = spawn(isAuto ? 'autossh' : 'ssh', isAuto ? ['-M', '0', ...args] : args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, AUTOSSH_GATETIME: '0', SSH_AUTH_SOCK: undefined },
    })
    onCleanup(() => void child.kill(isAuto ? 'SIGTERM' : 'SIGKILL'))
    const seen: Path['seen'] = []
    createInterface({ input: child.stderr }).on('line', (line) => {
      if (line.includes('remote forward success')) seen.push({ atMs: Date.now(), state: 'proven' })
    })
    const path = { name, relay, address: `127.0.0.1:${port}`, pids: [child.pid ?? 0, local.pid ?? 0], seen }
    await untilSeen(path, 0, (state) => state === 'proven')
    return path
  }
}

async function untilSeen(path: Path, fromMs: number, accept: (state: string) => boolean): Promise<number> {
  const giveUpMs = Date.now() + PATIENCE_MS
  for (;;) {
    const found = path.seen.find(({ atMs, state }) => atMs >= fromMs && accept(state))
    if (found !== undefined) return found.atMs
    if (Date.now() > giveUpMs) throw new Error(`${path.name}: not within ${PATIENCE_MS} ms`)
    await pause(5)
  }
}

async function channelTo({ address }: Path): Promise<Channel> {
  const channel = await openChannel({ address, what: 'bench' })
  onCleanup(() => channel.close())
  return channel
}

async function echoMs({ client }: Channel): Promise<number> {
  const startMs = performance.now()
  const options = { deadlineMs: 10_000, signal: AbortSignal.timeout(10_000) }
  await unary(client, Probe.method.echo, { nonce: new Uint8Array(32) }, options)
  return performance.now() - startMs
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((one, two) => one - two)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

async function latencyFigures(bench: Bench): Promise<Figure[]> {
  const paths = bench.paths.filter(({ name }) => name !== 'ssh2, default windows')
  const channels = await Promise.all(paths.map(channelTo))
  const times = paths.map((): number[] => [])
  // Call by call in turns, up and down the list, so that what else the machine does falls on all alike: in bursts on a
  // busy machine even calls without any SSH came out slower than those through it.
  const indices = [...channels.keys()]
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round += 1) {
    for (const index of round % 2 === 0 ? indices : indices.toReversed()) {
      const channel = channels[index]
      const ms = channel === undefined ? Number.NaN : await echoMs(channel)
      if (round >= WARM_UP_ROUNDS) times[index]?.push(ms)
    }
  }
  await Promise.all(channels.map((channel) => channel.close()))
  const theirs = times[paths.findIndex(({ name }) => name === 'ssh -R')] ?? []
  const note = `${ROUNDS} calls`
  return paths.flatMap(({ name }, index) => {
    const own = times[index] ?? []
    const figures: Figure[] = [
      { name: `${name}: unary call, p50`, value: quantile(own, 0.5), unit: 'ms', note },
      { name: `${name}: unary call, p99`, value: quantile(own, 0.99), unit: 'ms', note },
    ]
    if (name === 'ssh -R') return figures
    figures.push(
      { name: `${name} / ssh -R: unary call, p50`, value: quantile(own, 0.5) / quantile(theirs, 0.5), unit: 'ratio' },
      { name: `${name} / ssh -R: unary call, p99`, value: quantile(own, 0.99) / quantile(theirs, 0.99), unit: 'ratio' },
    )
    return figures
  })
}

async function getGoing(path: Path): Promise<void> {
  const channel = await channelTo(path)
  await downSpeed(channel.client, GET_GOING_MS)
  await upSpeed(channel.client, GET_GOING_MS)
  await channel.close()
}

interface Speeds {
  readonly down: number[]
  readonly up: number[]
}

async function throughputFigures(bench: Bench): Promise<Figure[]> {
  const figures: Figure[] = []
  const cpu = new Map<Name, number[]>(bench.paths.map(({ name }) => [name, []]))
  for (const path of bench.paths) await getGoing(path)
  for (const roundTripMs of ROUND_TRIPS_MS) {
    const speeds = new Map<Name, Speeds>(bench.paths.map(({ name }) => [name, { down: [], up: [] }]))
    // Path by path in turns: what a machine can do changes within minutes.
    for (let round = 0; round < STREAM_ROUNDS; round += 1) {
      for (const path of bench.paths) {
        bench.relay(path, `delay ${roundTripMs / 2}`)
        const channel = await channelTo(path)
        await echoMs(channel)
        const cpuBefore = cpuOf(path)
        const first = await downSpeed(channel.client, STREAM_MS)
        // The second of getting going is in the CPU time: so are its bytes.
        const megabytes = (first.bytes / 1e6) * ((STREAM_MS + 1_000) / STREAM_MS)
        if (roundTripMs === 0) cpu.get(path.name)?.push((cpuOf(path) - cpuBefore) / megabytes)
        speeds.get(path.name)?.down.push(first.mbPerS)
        await pause(200)
        speeds.get(path.name)?.up.push((await upSpeed(channel.client, STREAM_MS)).mbPerS)
        await channel.close()
        bench.relay(path, 'delay 0')
      }
    }
    figures.push(...speedFigures(speeds, `${roundTripMs} ms round trip`))
  }
  for (const [name, values] of cpu) {
    if (name !== 'ssh2, default windows')
      figures.push({ name: `${name}: CPU a megabyte, lab to cloud`, value: median(values), unit: 'ms' })
  }
  return figures
}

/** Medians over the rounds; a ratio is the median of those within each round, with the lowest and the highest beside it. */
function speedFigures(speeds: ReadonlyMap<Name, Speeds>, at: string): Figure[] {
  const figures: Figure[] = []
  const compare = (name: string, own: readonly number[], other: readonly number[]): void => {
    const ratios = own.map((speed, round) => speed / (other[round] ?? Number.NaN))
    const [lowest, highest] = [Math.min(...ratios).toFixed(2), Math.max(...ratios).toFixed(2)]
    const note = `median of ${ratios.length}, ${lowest} to ${highest}`
    figures.push({ name: `${name}, ${at}`, value: median(ratios), unit: 'ratio', note })
  }
  for (const [direction, label] of [
    ['down', 'lab to cloud'],
    ['up', 'device to device, upload'],
  ] as const) {
    for (const [name, own] of speeds) {
      figures.push({ name: `${name}: ${label}, ${at}`, value: median(own[direction]), unit: 'MB/s' })
      if (name !== 'ssh -R')
        compare(`${name} / ssh -R: ${label}`, own[direction], speeds.get('ssh -R')?.[direction] ?? [])
    }
  }
  compare(
    'ssh2: upload against the default windows',
    speeds.get('ssh2')?.up ?? [],
    speeds.get('ssh2, default windows')?.up ?? [],
  )
  return figures
}

/** From a break to a call that came back; autossh: to its listener, and a call right after. */
async function resetFigures(bench: Bench): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const path of bench.paths) {
    const times: number[] = []
    let lastMs = 0
    for (let round = 0; round < RESETS; round += 1) {
      if (hasSpare(path.name)) await untilSeen(path, lastMs, (state) => state === 'spare')
      const startMs = Date.now()
      bench.relay(path, hasSpare(path.name) ? 'reset oldest' : 'reset')
      if (path.name !== 'autossh') await untilSeen(path, startMs, (state) => state !== 'proven')
      lastMs = await untilSeen(path, startMs, (state) => state === 'proven')
      times.push(lastMs - startMs)
      // Long enough that each comes as a surprise, not as one failure of a row.
      await pause(1_500)
    }
    figures.push({
      name: `${path.name}: proven again after a reset${hasSpare(path.name) ? ' of the connection that carried' : ''}`,
      value: median(times),
      unit: 'ms',
      note: `median of ${RESETS}, the longest ${Math.max(...times)}`,
    })
  }
  return figures
}

/** What no tunnel over a new process of the system's ssh can do without: from its start to its listener. */
async function freshFigure(bench: Bench): Promise<Figure> {
  const { user, keyFile, knownHosts, port } = bench.sshd
  const times: number[] = []
  for (let round = 0; round < RESETS; round += 1) {
    const forward = `127.0.0.1:${await freePort()}:127.0.0.1:1`
    const startMs = performance.now()
    const child = spawn(
      'ssh',
      [
        ...['-v', '-N', '-F', 'none', '-i', keyFile, '-o', 'BatchMode=yes', '-o', `UserKnownHostsFile=${knownHosts}`],
        ...['-o', 'IdentitiesOnly=yes', '-p', String(port), '-R', forward, `${user}@localhost`],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, SSH_AUTH_SOCK: undefined } },
    )
    onCleanup(() => void child.kill('SIGKILL'))
    for await (const line of createInterface({ input: child.stderr })) {
      if (!line.includes('remote forward success')) continue
      times.push(performance.now() - startMs)
      break
    }
    child.kill('SIGKILL')
    await pause(300)
  }
  return {
    name: 'ssh -R: a new one, from its start to its listener',
    value: median(times),
    unit: 'ms',
    note: `median of ${times.length}`,
  }
}

async function silentFigures(bench: Bench): Promise<Figure[]> {
  // At the same time: each on a way of its own.
  const all = await Promise.all(
    bench.paths.map(async (path): Promise<Figure[]> => {
      await pause(2_000)
      const startMs = Date.now()
      bench.relay(path, 'stop')
      const back = async (): Promise<Figure> => ({
        name: `${path.name}: proven again after a silent cut`,
        value: ((await untilSeen(path, startMs + 1, (state) => state === 'proven')) - startMs) / 1_000,
        unit: 's',
        note: path.name === 'autossh' ? `-M 0, ${ALIVE.join(', ')}` : 'sshd with ClientAliveInterval 5, CountMax 2',
      })
      if (path.name === 'autossh') return [await back()]
      // A last call may still come in.
      const atMs = await untilSeen(path, startMs, (state) => state !== 'proven')
      path.seen.splice(
        0,
        path.seen.findIndex((one) => one.atMs >= atMs),
      )
      const name = `${path.name}: silent cut noticed`
      return [{ name, value: (atMs - startMs) / 1_000, unit: 's' }, await back()]
    }),
  )
  return all.flat()
}

async function steady(): Promise<Figure[]> {
  const names: Name[] = [...OURS, 'ssh2, default windows', 'ssh -R in ssh -W', 'ssh -R']
  const bench = await Bench.start(names.length)
  for (const name of names) await bench.add(name)
  return inTurn([
    function latency() {
      return latencyFigures(bench)
    },
    function throughput() {
      return throughputFigures(bench)
    },
  ])
}

async function recovery(): Promise<Figure[]> {
  const names: Name[] = [...OURS, 'autossh']
  const bench = await Bench.start(names.length)
  for (const name of names) await bench.add(name)
  return inTurn([
    function resets() {
      return resetFigures(bench)
    },
    async function freshStarts() {
      return [await freshFigure(bench)]
    },
    function silentCuts() {
      return silentFigures(bench)
    },
  ])
}

async function spares(): Promise<Figure[]> {
  const names: WithSpare[] = ['ssh2 with a spare', 'openssh with a spare', 'openssh+ssh2 with a spare']
  const bench = await Bench.start(names.length)
  for (const name of names) await bench.add(name)
  return resetFigures(bench)
}

export async function run(): Promise<Figure[]> {
  try {
    return await inTurn([steady, recovery, spares])
  } finally {
    await cleanUp()
  }
}
