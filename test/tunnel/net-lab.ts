/**
 * A network of the test's own, in namespaces: a lab behind a cable, the server, and the outside world beyond it. Nothing
 * of it is seen by the rest of the machine. Needs root, iproute2 and nftables.
 */
import { execFileSync, spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where each part of the network is. */
export const ADDRESSES = {
  /** The server as the lab reaches it, by the name below. */
  server: '10.9.0.1',
  /** Where the server may move to. */
  moved: '10.9.0.5',
  lab: '10.9.0.2',
  /** The server as the world reaches it. */
  serverOutside: '203.0.113.1',
  /** Somebody in the world. */
  outside: '203.0.113.7',
} as const

export const SERVER_NAME = 'site.example'

export type Place = 'lab' | 'server' | 'outside'

export interface NetLab {
  /** Starts a program there; it is killed with the lab. */
  start(place: Place, program: string, args: readonly string[], stdio: StdioOptions): ChildProcess
  /** Runs a program there to its end and gives its output; throws where it fails. */
  run(place: Place, program: string, args: readonly string[], input?: string): string
  /** The words that start a program there. */
  command(place: Place): readonly string[]
  /** Takes the cable between lab and server out (`false`) or puts it back. */
  cable(isIn: boolean): void
  /** Rules of the server's packet filter for all that comes from the lab or goes there, in place of those before. */
  filter(rules: readonly string[]): void
  /** What the server's name means in the lab; undefined: nobody knows. */
  name(address: string | undefined): void
  /** Takes the server's address away and gives it the other one. */
  move(): void
  close(): Promise<void>
}

/** Why this machine makes no such network; undefined where it does. */
export function whyNoNetLab(): string | undefined {
  const probe = `qkd-probe-${process.pid}`
  try {
    execFileSync('ip', ['netns', 'add', probe], { stdio: 'pipe' })
  } catch (error) {
    return `no network namespace can be made here: ${error instanceof Error ? error.message : String(error)}`
  }
  try {
    execFileSync('ip', ['netns', 'exec', probe, 'nft', '-f', '-'], {
      input: 'table inet t {\nchain c {\ntype filter hook input priority 0\nnumgen random mod 100 < 30 drop\n}\n}\n',
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    return undefined
  } catch (error) {
    return `no packet filter can be set here: ${error instanceof Error ? error.message : String(error)}`
  } finally {
    execFileSync('ip', ['netns', 'del', probe])
  }
}

let made = 0

/** Throws, saying why, where this machine cannot make one. */
export function startNetLab(): NetLab {
  made += 1
  const base = `qkd-${process.pid}-${made}`
  const spaces: Record<Place, string> = { lab: `${base}-lab`, server: `${base}-srv`, outside: `${base}-out` }
  const etcOf = (place: Place): string => join('/etc/netns', spaces[place])
  const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'pipe' })
  const children = new Set<ChildProcess>()
  const tearDown = (): void => {
    for (const space of Object.values(spaces)) {
      try {
        ip('netns', 'del', space)
      } catch {
        // It was never made.
      }
    }
    for (const place of ['lab', 'server'] as const) rmSync(etcOf(place), { recursive: true, force: true })
  }
  const writeHosts = (place: Place, address: string | undefined): void =>
    // In place: a namespace sees this very file.
    writeFileSync(
      join(etcOf(place), 'hosts'),
      `127.0.0.1 localhost\n${address === undefined ? '' : `${address} ${SERVER_NAME}\n`}`,
    )

  try {
    for (const place of ['lab', 'server'] as const) {
      mkdirSync(etcOf(place), { recursive: true })
      writeHosts(place, ADDRESSES.server)
    }
    // A name server that nobody is.
    writeFileSync(join(etcOf('lab'), 'resolv.conf'), 'nameserver 10.9.0.99\noptions timeout:1 attempts:1\n')
    for (const space of Object.values(spaces)) {
      ip('netns', 'add', space)
      ip('-n', space, 'link', 'set', 'lo', 'up')
    }
    for (const [place, far, near] of [
      ['lab', ADDRESSES.lab, ADDRESSES.server],
      ['outside', ADDRESSES.outside, ADDRESSES.serverOutside],
    ] as const) {
      ip('-n', spaces[place], 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', place, 'netns', spaces.server)
      ip('-n', spaces[place], 'addr', 'add', `${far}/24`, 'dev', 'up0')
      ip('-n', spaces.server, 'addr', 'add', `${near}/24`, 'dev', place)
      ip('-n', spaces[place], 'link', 'set', 'up0', 'up')
      ip('-n', spaces.server, 'link', 'set', place, 'up')
    }
    ip('-n', spaces.lab, 'route', 'add', 'default', 'via', ADDRESSES.server)
  } catch (error) {
    tearDown()
    throw new Error(`${whyNoNetLab() ?? 'the network could not be made'} (root, iproute2 and nftables are needed)`, {
      cause: error,
    })
  }

  const command = (place: Place): readonly string[] => ['ip', 'netns', 'exec', spaces[place]]
  const run = (place: Place, program: string, args: readonly string[], input = ''): string =>
    execFileSync('ip', ['netns', 'exec', spaces[place], program, ...args], {
      input,
      stdio: ['pipe', 'pipe', 'pipe'],
    }).toString()

  return {
    command,
    run,
    start(place, program, args, stdio) {
      const child = spawn('ip', ['netns', 'exec', spaces[place], program, ...args], { stdio })
      children.add(child)
      child.once('exit', () => children.delete(child))
      return child
    },
    cable: (isIn) => ip('-n', spaces.server, 'link', 'set', 'lab', isIn ? 'up' : 'down'),
    filter(rules) {
      const chain = (hook: string, side: string): string[] => [
        `chain ${hook} {`,
        `type filter hook ${hook} priority 0`,
        ...rules.map((rule) => `${side} lab ${rule}`),
        '}',
      ]
      const table = ['table inet t {', ...chain('input', 'iifname'), ...chain('output', 'oifname'), '}']
      run('server', 'nft', ['-f', '-'], ['flush ruleset', ...table, ''].join('\n'))
    },
    name: (address) => writeHosts('lab', address),
    move() {
      ip('-n', spaces.server, 'addr', 'del', `${ADDRESSES.server}/24`, 'dev', 'lab')
      ip('-n', spaces.server, 'addr', 'add', `${ADDRESSES.moved}/24`, 'dev', 'lab')
      writeHosts('server', ADDRESSES.moved)
      ip('-n', spaces.lab, 'route', 'replace', 'default', 'via', ADDRESSES.moved)
    },
    async close() {
      await Promise.all(
        [...children].map((child) => {
          const ended = new Promise((resolve) => child.once('exit', resolve))
          child.kill('SIGCONT')
          child.kill('SIGKILL')
          return ended
        }),
      )
      tearDown()
    },
  }
}
