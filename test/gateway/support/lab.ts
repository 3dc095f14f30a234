/** A lab for `qkd-gw attach`: emulated units on PTYs, SSH servers, SiteAgents, and gateways as processes of the built command. */
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { emulator } from '../../../drivers/qix/emulator.js'
import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import type { GatewayStatus } from '../../../src/gateway/status-socket.js'
import { askGateway, statusSocketPath } from '../../../src/gateway/status-socket.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { silentLogger } from '../../../src/observe/log.js'
import type { CppSiteAgentOptions } from '../../../src/standin/cpp-options.js'
import { startCppSiteAgent, type StandinSiteAgent } from '../../../src/standin/cpp-site-agent.js'
import { generateSshKey, startStandinSshd, type StandinSshd } from '../../../src/standin/sshd.js'
import { killCommands, PATIENCE_MS, startCli, type CliProcess } from '../../support/cli.js'
import { cleanUp as cleanUpTunnels, onCleanup } from '../../tunnel/bench-tunnel.js'
import { startRealSshd, type RealSshd, type RealSshdOptions } from '../../tunnel/real-sshd.js'

export { onCleanup } from '../../tunnel/bench-tunnel.js'

/** Ends every process, server and unit of the test and removes its files. */
export async function closeLab(): Promise<void> {
  await killCommands()
  await cleanUpTunnels()
}

export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-lab-'))
  onCleanup(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** Polls what no event tells. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const giveUpAtMs = performance.now() + timeoutMs
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    if (performance.now() > giveUpAtMs) throw new Error(`never came within ${timeoutMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export interface Unit {
  /** Stable name: stays while the cable is pulled and put back. */
  readonly path: string
  fault(name: string, ...args: string[]): Promise<string>
  facts(): Readonly<Record<string, string | number | boolean>>
  stop(): Promise<void>
}

/** An emulated QIX unit on a PTY. `pair`: two units with the same word send the same keys at the same time. */
export async function startUnit(options: { pair: string; rate?: number; link?: string }): Promise<Unit> {
  const base = { clock: systemClock, random: systemRandom, log: silentLogger }
  const line = await openPtyLine({ ...base, ...(options.link === undefined ? {} : { link: options.link }) })
  const unit = emulator.create({
    ...base,
    line,
    options: { pair: options.pair, rate: String(options.rate ?? 20) },
  })
  const ending = new AbortController()
  const running = unit.run(ending.signal)
  let stopped = false
  const stop = async (): Promise<void> => {
    if (stopped) return
    stopped = true
    ending.abort()
    await running
    await line.close()
  }
  onCleanup(stop)
  return { path: line.path, fault: (name, ...args) => unit.fault(name, args), facts: () => unit.facts(), stop }
}

/** The key that units of the pair send under `id`, as long as they were not restarted. */
export function pairKey(pair: string, id: bigint): string {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(id)
  return createHash('sha256').update(`0:${pair}:`).update(bytes).digest('hex')
}

export interface SshSide {
  readonly server: string
  readonly keyFile: string
  readonly knownHosts: string
}

export interface EmbeddedSshd extends SshSide {
  readonly sshd: StandinSshd
}

/** Our embedded sshd, and files that fit it. */
export async function startEmbeddedSshd(port = 0): Promise<EmbeddedSshd> {
  const folder = tempFolder()
  const pair = generateSshKey()
  const keyFile = join(folder, 'client')
  writeFileSync(keyFile, pair.privateKey, { mode: 0o600 })
  const sshd = await startStandinSshd({ user: 'lab', authorizedKeys: [pair.publicKey], port })
  onCleanup(() => sshd.close())
  const knownHosts = join(folder, 'known_hosts')
  writeFileSync(knownHosts, `[127.0.0.1]:${sshd.port} ${sshd.hostKeyLine}\n`)
  return { sshd, server: `lab@127.0.0.1:${sshd.port}`, keyFile, knownHosts }
}

export interface DebianSshd extends SshSide {
  readonly sshd: RealSshd
}

/** Debian's sshd, and files that fit it. */
export async function startDebianSshd(options: RealSshdOptions = {}): Promise<DebianSshd> {
  const sshd = await startRealSshd({ config: ['GatewayPorts clientspecified'], ...options })
  return {
    sshd,
    server: `${sshd.user}@127.0.0.1:${sshd.port}`,
    keyFile: sshd.keyFile,
    knownHosts: sshd.knownHosts,
  }
}

/** A stand-in of a C++ SiteAgent in this process. */
export async function startSiteAgent(
  seat: 'left' | 'right',
  port = 0,
  options: Partial<CppSiteAgentOptions> = {},
): Promise<StandinSiteAgent> {
  const agent = await startCppSiteAgent({ name: seat === 'left' ? 'A' : 'B', seat, port, ...options })
  onCleanup(() => agent.close())
  return agent
}

export interface GatewayOptions {
  readonly device: string
  readonly side: 'alice' | 'bob'
  /** Default `qix`. */
  readonly driver?: string
  readonly ssh?: SshSide
  readonly siteAgent?: string
  readonly id?: string
  readonly stateFolder?: string
  /** Listener at the SSH server; default 127.0.0.1, a port that the server chooses. */
  readonly remoteListen?: string
  /** Default: `info`, as JSON. */
  readonly logLevel?: string
  /** Further flags. */
  readonly flags?: readonly string[]
  /** The SiteAgent speaks TLS. */
  readonly siteTls?: boolean
  /** Further lines of its configuration file, TOML. */
  readonly toml?: string
}

export interface GatewayProcess extends CliProcess {
  readonly id: string
  readonly stateFolder: string
  status(): Promise<GatewayStatus>
  /** Resolves with the status once `part` is in one of the states. */
  untilPart(part: string, ...states: readonly string[]): Promise<GatewayStatus>
  /** The first log line whose text matches. */
  said(pattern: RegExp, timeoutMs?: number): Promise<string>
  /** SIGTERM, and how it ended. */
  stop(): CliProcess['ended']
}

/** An id of the form that Java sites need, and that no other test process uses: ids are locked machine-wide. */
export function deviceId(own: string): string {
  return [`A${process.pid}`, `B${process.pid}`, `${own}${process.pid}`].join('_')
}

/** Settings that make tests quick; everything else is as in a lab. */
const quickToml = '[tunnel]\nprobeIntervalMs = 500\nretryFirstMs = 100\nretryMaxMs = 500\n[site]\npollMs = 500\n'

/** `qkd-gw attach` with flags for all that the options say, and with a home of its own. */
export function startGateway(options: GatewayOptions): GatewayProcess {
  const home = tempFolder()
  const id = options.id ?? deviceId(options.side === 'alice' ? 'A' : 'B')
  const stateFolder = options.stateFolder ?? join(home, 'state')
  const config = join(home, 'quick.toml')
  const siteTls = options.siteTls === true ? 'tls = true\n' : ''
  writeFileSync(config, `${quickToml}${siteTls}\n${options.toml ?? ''}`)
  const flag = (name: string, value: string | undefined): string[] => (value === undefined ? [] : [name, value])
  const { ssh } = options
  return startAttach({
    args: [
      ...[options.device, '--config', config, '--driver', options.driver ?? 'qix', '--side', options.side, '--id', id],
      ...['--listen', '127.0.0.1:0', '--state-folder', stateFolder],
      ...flag('--site-agent', options.siteAgent),
      ...flag('--tunnel', ssh?.server),
      ...flag('--identity', ssh?.keyFile),
      ...flag('--known-hosts', ssh?.knownHosts),
      ...flag('--remote-listen', ssh === undefined ? undefined : (options.remoteListen ?? '127.0.0.1:0')),
      ...['--log-level', options.logLevel ?? 'info', '--log-format', 'json'],
      ...(options.flags ?? []),
    ],
    id,
    home,
    stateFolder,
  })
}

/** `qkd-gw attach args…` in a home of its own, so that nothing of the machine's user gets in. */
export function startAttach(options: {
  readonly args: readonly string[]
  readonly id: string
  readonly home: string
  /** Where the arguments put it; default: where it is without any. */
  readonly stateFolder?: string
  /** Words that start it somewhere else. */
  readonly within?: readonly string[]
}): GatewayProcess {
  const { id, home, stateFolder = join(home, 'qkd-gw') } = options
  const command = startCli(['attach', ...options.args], {
    env: { HOME: home, XDG_CONFIG_HOME: home, XDG_STATE_HOME: home },
    cwd: home,
    ...(options.within === undefined ? {} : { within: options.within }),
  })
  const status = async (): Promise<GatewayStatus> =>
    (await askGateway(statusSocketPath(stateFolder, id), { request: 'status' })) as GatewayStatus
  return Object.assign(command, {
    id,
    stateFolder,
    status,
    async untilPart(part: string, ...states: readonly string[]) {
      let last = 'no answer'
      try {
        return await eventually(`${part} ${states.join(' or ')}`, async () => {
          if (!command.isRunning) throw new Error(`the gateway ended:\n${command.stderr()}`)
          const present = await status().catch(() => undefined)
          if (present === undefined) return undefined
          last = JSON.stringify(present.parts[part])
          return states.includes(present.parts[part]?.state ?? '') ? present : undefined
        })
      } catch (error) {
        throw new Error(`${String(error)}; last ${last}\n${command.stderr().slice(-4_000)}`, { cause: error })
      }
    },
    said: (pattern: RegExp, timeoutMs?: number) =>
      command.line(
        `a log line like ${String(pattern)}`,
        (line) => (typeof line['msg'] === 'string' && pattern.test(line['msg']) ? line['msg'] : undefined),
        timeoutMs,
      ),
    stop: () => {
      command.kill('SIGTERM')
      return command.ended
    },
  })
}
