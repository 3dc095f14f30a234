/** Debian's own sshd as a process of the test's. */
import { execFileSync, spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { onCleanup } from './bench-tunnel.js'
import type { TunnelOptions } from '../../src/tunnel/options.js'

const SSHD = '/usr/sbin/sshd'

export async function freePort(host = '127.0.0.1'): Promise<number> {
  const server = net.createServer().listen(0, host)
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

export interface RealSshdOptions {
  /** Options in front of the key in authorized_keys. */
  keyOptions?: string
  /** Further lines of sshd_config. */
  config?: string[]
  /** Default VERBOSE. */
  logLevel?: string
  hostKeyTypes?: ('ed25519' | 'ecdsa' | 'rsa')[]
  /** The client's key. */
  clientKeyType?: 'ed25519' | 'ecdsa' | 'rsa'
  passphrase?: string
  /** The port of a server that this one takes over from. */
  port?: number
  /** A network of its own to stand in, and its name there; default this machine's loopback. */
  place?: SshdPlace
  /** Where what is made is given up again; default after the test. */
  atEnd?: (cleanup: () => Promise<void> | void) => void
}

export interface SshdPlace {
  readonly host: string
  readonly listen: string
  start(program: string, args: readonly string[], stdio: StdioOptions): ChildProcess
}

export interface RealSshd {
  readonly port: number
  readonly folder: string
  readonly user: string
  readonly keyFile: string
  readonly knownHosts: string
  readonly options: Pick<TunnelOptions, 'server' | 'identityFiles' | 'knownHostsFiles'>
  /** sshd's own log so far. */
  log(): string
  /** Resolves once the log holds it, at or after the character `from`. */
  untilLogged(what: RegExp, from?: number): Promise<void>
  /** Process ids that serve one connection each. */
  sessions(): number[]
  /** The process that takes connections in. */
  pid(): number
  /** To those that have logged in, which are all but `sshd: [accepted]`. */
  signalLoggedIn(signal: NodeJS.Signals): void
  /** To all of them; those that are gone meanwhile are passed over. */
  signalSessions(signal: NodeJS.Signals): void
  /** Public host key lines, `type base64`. */
  hostKeys(): string[]
  setAuthorizedKeys(text: string): void
  authorizedKeys(): string
  /** Further lines at the end of sshd_config, in place of those given before; for the next start. */
  appendConfig(lines: readonly string[]): void
  newHostKey(): void
  stop(signal?: NodeJS.Signals): Promise<void>
  start(): Promise<void>
}

export function keygen(file: string, type: string, passphrase = ''): void {
  const bits = type === 'rsa' ? ['-b', '2048'] : []
  execFileSync('ssh-keygen', ['-q', '-t', type, ...bits, '-N', passphrase, '-C', 'test', '-f', file])
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
}

/** sshd writes into its own command line whom a process serves. */
function isLoggedIn(pid: number): boolean {
  try {
    const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1')
    return line.startsWith('sshd: ') && !/\[accepted\]|\[net\]|unknown/.test(line)
  } catch {
    return false
  }
}

export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch {
      // It ended by itself.
    }
  }
}

async function untilListening(port: number, child: ChildProcess, log: () => string): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`sshd ended: ${log()}`)
    const socket = net.connect(port, '127.0.0.1')
    const answered = await Promise.race([
      once(socket, 'data').then(() => true),
      once(socket, 'error').then(
        () => false,
        () => false,
      ),
    ]).catch(() => false)
    socket.destroy()
    if (answered) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Starts sshd on a free loopback port, with a key file and a known_hosts file that fit. */
export async function startRealSshd(options: RealSshdOptions = {}): Promise<RealSshd> {
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  const { place, atEnd = onCleanup } = options
  const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-sshd-'))
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  const host = place?.host ?? '127.0.0.1'
  const user = userInfo().username
  const types = options.hostKeyTypes ?? ['ed25519']
  for (const type of types) keygen(join(folder, `host_${type}`), type)
  const keyFile = join(folder, 'client')
  keygen(keyFile, options.clientKeyType ?? 'ed25519', options.passphrase)
  const publicLine = readFileSync(`${keyFile}.pub`, 'utf8')
  const authorized = join(folder, 'authorized_keys')
  writeFileSync(authorized, options.keyOptions === undefined ? publicLine : `${options.keyOptions} ${publicLine}`)
  const port = options.port ?? (await freePort())
  const configFile = join(folder, 'sshd_config')
  let appended: readonly string[] = []
  const writeConfig = (): void =>
    writeFileSync(
      configFile,
      [
        `Port ${port}`,
        `ListenAddress ${place?.listen ?? '127.0.0.1'}`,
        ...types.map((type) => `HostKey ${join(folder, `host_${type}`)}`),
        `PidFile ${join(folder, 'pid')}`,
        `AuthorizedKeysFile ${authorized}`,
        'StrictModes no',
        'UsePAM no',
        'PermitRootLogin yes',
        'PasswordAuthentication no',
        `LogLevel ${options.logLevel ?? 'VERBOSE'}`,
        ...(options.config ?? []),
        ...appended,
        '',
      ].join('\n'),
    )
  writeConfig()
  const knownHosts = join(folder, 'known_hosts')
  const hostKeys = (): string[] =>
    types.map((type) =>
      readFileSync(join(folder, `host_${type}.pub`), 'utf8')
        .split(' ')
        .slice(0, 2)
        .join(' ')
        .trim(),
    )
  writeFileSync(
    knownHosts,
    hostKeys()
      .map((line) => `[${host}]:${port} ${line}\n`)
      .join(''),
  )

  let child: ChildProcess | undefined
  let log = ''
  const lookers = new Set<() => void>()
  const start = async (): Promise<void> => {
    const args = ['-D', '-e', '-f', configFile]
    const stdio: StdioOptions = ['ignore', 'ignore', 'pipe']
    const before = log.length
    child = place === undefined ? spawn(SSHD, args, { stdio }) : place.start(SSHD, args, stdio)
    child.stderr?.on('data', (chunk: Buffer) => {
      log += chunk.toString()
      for (const look of [...lookers]) look()
    })
    if (place === undefined) return untilListening(port, child, () => log)
    await untilLogged(/Server listening on/, before)
  }
  const untilLogged = (what: RegExp, from = 0): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (!what.test(log.slice(from))) return
        lookers.delete(look)
        resolve()
      }
      lookers.add(look)
      look()
    })
  const sessions = (): number[] => (child?.pid === undefined || child.exitCode !== null ? [] : childrenOf(child.pid))
  const stop = async (signal: NodeJS.Signals = 'SIGKILL'): Promise<void> => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const mine = sessions()
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
    signalAll(mine, 'SIGKILL')
  }
  atEnd(() => stop())
  await start()
  return {
    port,
    folder,
    user,
    keyFile,
    knownHosts,
    options: {
      server: { user, host, port },
      identityFiles: [keyFile],
      knownHostsFiles: [knownHosts],
    },
    log: () => log,
    untilLogged,
    sessions,
    pid: () => child?.pid ?? 0,
    signalLoggedIn: (signal) => signalAll(sessions().filter(isLoggedIn), signal),
    signalSessions: (signal) => signalAll(sessions(), signal),
    hostKeys,
    authorizedKeys: () => readFileSync(authorized, 'utf8'),
    setAuthorizedKeys: (text) => writeFileSync(authorized, text),
    appendConfig(lines) {
      appended = lines
      writeConfig()
    },
    newHostKey() {
      for (const type of types) {
        execFileSync('rm', ['-f', join(folder, `host_${type}`), join(folder, `host_${type}.pub`)])
        keygen(join(folder, `host_${type}`), type)
      }
    },
    stop,
    start,
  }
}
