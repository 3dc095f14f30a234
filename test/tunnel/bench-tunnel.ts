/** A tunnel to a stand-in or real sshd, with short times, and waiting on its states. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { untilState } from '../../src/base/cell.js'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { silentLogger } from '../../src/observe/log.js'
import { generateSshKey, startStandinSshd, type StandinSshd, type StandinSshdOptions } from '../../src/standin/sshd.js'
import type { Tunnel, TunnelState } from '../../src/tunnel/contract.js'
import type { TunnelOptions, TunnelTimings } from '../../src/tunnel/options.js'
import { createTunnel } from '../../src/tunnel/tunnel.js'
import { createSelf, type Self } from './self.js'

export const SHORT_TIMINGS: Partial<TunnelTimings> = {
  connectTimeoutMs: 3_000,
  handshakeTimeoutMs: 3_000,
  authTimeoutMs: 3_000,
  forwardTimeoutMs: 2_000,
  // Not short: a busy machine takes its time to start the ssh that asks.
  channelTimeoutMs: 20_000,
  pingTimeoutMs: 1_000,
  keepaliveIntervalMs: 1_000,
  probeIntervalMs: 200,
  probeTimeoutMs: 1_000,
  fastRetriesMs: [10, 50],
  retryFirstMs: 100,
  retryMaxMs: 300,
  bannedFirstMs: 300,
  bannedMaxMs: 600,
  waitBeforeOtherPortMs: 1_000,
}

type Cleanups = (() => Promise<void> | void)[]

const cleanups: Cleanups = []
const ofThisTest = new AsyncLocalStorage<Cleanups>()

export function onCleanup(cleanup: () => Promise<void> | void): void {
  ;(ofThisTest.getStore() ?? cleanups).push(cleanup)
}

export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
}

/** A test that cleans up after itself, whatever others run beside it; without it `cleanUp` is for `afterEach`. */
export function alone<A extends unknown[]>(test: (...args: A) => Promise<void>): (...args: A) => Promise<void> {
  return async (...args) => {
    const own: Cleanups = []
    try {
      await ofThisTest.run(own, () => test(...args))
    } finally {
      for (const cleanup of own.reverse()) await cleanup()
    }
  }
}

export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-tunnel-'))
  onCleanup(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export interface Running {
  readonly tunnel: Tunnel
  readonly self: Self
  readonly states: TunnelState[]
  /** Settles when `run` does. */
  readonly ended: Promise<void>
  stop(): Promise<void>
  until<K extends TunnelState['state']>(...names: K[]): Promise<Extract<TunnelState, { state: K }>>
  /** The next state of that name, not the present one. */
  next<K extends TunnelState['state']>(name: K): Promise<Extract<TunnelState, { state: K }>>
}

export function runTunnel(
  options: Partial<TunnelOptions> & Pick<TunnelOptions, 'server'>,
  self = createSelf(),
): Running {
  const tunnel = createTunnel({
    backend: 'ssh2',
    identityFiles: [],
    knownHostsFiles: [],
    remoteListen: { host: '127.0.0.1', port: 0 },
    probe: self.probe,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    ...options,
    timings: { ...SHORT_TIMINGS, ...options.timings },
  })
  tunnel.onConnection(self.take)
  const states: TunnelState[] = []
  tunnel.state.subscribe((state) => states.push(state))
  const controller = new AbortController()
  const ended = tunnel.run(controller.signal)
  ended.catch(() => {})
  const stop = async (): Promise<void> => {
    controller.abort()
    await ended.catch(() => {})
  }
  onCleanup(stop)
  const patience = AbortSignal.timeout(90_000)
  return {
    tunnel,
    self,
    states,
    ended,
    stop,
    until: (...names) =>
      untilState(
        tunnel.state,
        (state): state is Extract<TunnelState, { state: (typeof names)[number] }> =>
          (names as string[]).includes(state.state),
        patience,
      ),
    next: (name) =>
      new Promise((resolve, reject) => {
        const giveUp = (): void => {
          unsubscribe()
          reject(new Error(`no state ${name}; last ${JSON.stringify(tunnel.state.value)}`))
        }
        const unsubscribe = tunnel.state.subscribe((state) => {
          if (state.state !== name) return
          unsubscribe()
          patience.removeEventListener('abort', giveUp)
          resolve(state as Extract<TunnelState, { state: typeof name }>)
        })
        patience.addEventListener('abort', giveUp, { once: true })
      }),
  }
}

export interface StandinBench {
  readonly sshd: StandinSshd
  readonly folder: string
  readonly keyFile: string
  readonly knownHosts: string
  /** What `runTunnel` needs to reach it. */
  readonly options: Pick<TunnelOptions, 'server' | 'identityFiles' | 'knownHostsFiles'>
}

/** A stand-in sshd with a user `lab`, a key file and a known_hosts file that fit it. */
export async function standinBench(options: Partial<StandinSshdOptions> = {}): Promise<StandinBench> {
  const folder = tempFolder()
  const pair = generateSshKey()
  const keyFile = join(folder, 'key')
  writeFileSync(keyFile, pair.privateKey, { mode: 0o600 })
  const sshd = await startStandinSshd({ user: 'lab', authorizedKeys: [pair.publicKey], ...options })
  onCleanup(() => sshd.close())
  const knownHosts = join(folder, 'known_hosts')
  writeFileSync(knownHosts, `[127.0.0.1]:${sshd.port} ${sshd.hostKeyLine}\n`)
  return {
    sshd,
    folder,
    keyFile,
    knownHosts,
    options: {
      server: { user: 'lab', host: '127.0.0.1', port: sshd.port },
      identityFiles: [keyFile],
      knownHostsFiles: [knownHosts],
    },
  }
}
