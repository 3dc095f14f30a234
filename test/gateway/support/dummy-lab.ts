/** Our gateway with the driver `dummyqkd`, composed in this process, beside stand-ins of everybody else. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { descriptor } from '../../../drivers/dummyqkd/descriptor.js'
import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import { configSchema } from '../../../src/gateway/config/schema.js'
import { createGateway } from '../../../src/gateway/gateway.js'
import { makePlan } from '../../../src/gateway/plan.js'
import type { GatewayStatus } from '../../../src/gateway/status-socket.js'
import type { LinkStopResult } from '../../../src/link/contract.js'
import { createLogger } from '../../../src/observe/log.js'
import { IDevice } from '../../../src/rpc/gen/cqp/remote/device_pb.js'
import { ISiteAgent } from '../../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../../src/site/link-path.js'
import type { CppSiteAgentOptions } from '../../../src/standin/cpp-options.js'
import { startCppSiteAgent, type StandinSiteAgent } from '../../../src/standin/cpp-site-agent.js'
import { startDummyDevice, type DummyDevice } from '../../../src/standin/dummy-device.js'
import type { DummyDeviceOptions } from '../../../src/standin/dummy-options.js'
import { callUnary, dial } from '../../../src/standin/wire.js'

/** How long a test waits for what must come; never what it waits on. */
const PATIENCE_MS = 20_000

/** Polls what no event tells. */
export async function eventually<T>(what: string, look: () => T | undefined | false): Promise<T> {
  const giveUpAtMs = performance.now() + PATIENCE_MS
  for (;;) {
    const found = look()
    if (found !== undefined && found !== false) return found
    if (performance.now() > giveUpAtMs) throw new Error(`never came within ${PATIENCE_MS} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** What is remembered of a gateway's log at least. */
const KEPT_LOG_CHARACTERS = 1_000_000

const cleanups: (() => unknown)[] = []

export function after(cleanup: () => unknown): void {
  cleanups.push(cleanup)
}

/** Ends everything of the test, last made first. */
export async function closeDummyLab(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
}

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

/** Frames that are quick and yet have a remainder at both key lengths: 100 and a half bytes. */
export const quick = { frameMs: 40, qubits: 804 } as const

/**
 * Frames that leave time to stop between two of them: what is on its way when a stream is cut may be lost, as upstream.
 * The Alice answers EndSession.
 */
export const unhurried = { our: { frameMs: 300 }, their: { frameMs: 300, faults: { endSessionHangs: false } } } as const

export interface OurOptions {
  readonly side: 'alice' | 'bob'
  readonly siteAgent?: string
  readonly keyBytes?: number
  readonly frameMs?: number
  readonly qubits?: number
  readonly bases?: 'known' | 'random'
  readonly id?: string
}

export interface OurDevice {
  readonly id: string
  readonly address: string
  status(): GatewayStatus
  /** Log lines so far, JSON. */
  log(): string
  /** Once a part of the status is in one of the states. */
  untilPart(part: string, ...states: readonly string[]): Promise<GatewayStatus>
  stop(): Promise<LinkStopResult>
}

export async function startOurs(options: OurOptions): Promise<OurDevice> {
  const { side, keyBytes = 16 } = options
  const id = options.id ?? `dummyqkd__0__${keyBytes}_${side}`
  const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-dummy-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  const address = `127.0.0.1:${await freePort()}`
  const config = configSchema.parse({
    device: {
      path: 'dummy:',
      side,
      id,
      bytesPerKey: keyBytes,
      options: {
        'frame-ms': String(options.frameMs ?? quick.frameMs),
        qubits: String(options.qubits ?? quick.qubits),
        bases: options.bases ?? 'known',
      },
    },
    server: { listen: address },
    ...(options.siteAgent === undefined ? {} : { site: { agent: options.siteAgent, pollMs: 500 } }),
    state: { folder },
  })
  const stop = new AbortController()
  const lines = new PassThrough()
  let log = ''
  lines.on('data', (chunk: Buffer) => {
    log += chunk.toString('utf8')
    // The newest are enough where it runs for long.
    if (log.length > 2 * KEPT_LOG_CHARACTERS) log = log.slice(-KEPT_LOG_CHARACTERS)
  })
  const host = {
    stdin: process.stdin,
    stderr: process.stderr,
    env: {},
    clock: systemClock,
    random: systemRandom,
    signal: stop.signal,
  }
  const logger = createLogger({ level: 'debug', format: 'json', destination: lines })
  const gateway = await createGateway(makePlan(config, descriptor, {}), host, logger)
  const running = gateway.run()
  running.catch(() => {})
  const end = (): Promise<LinkStopResult> => {
    stop.abort()
    return running
  }
  after(end)
  return {
    id,
    address,
    status: () => gateway.status(),
    log: () => log,
    untilPart: (part, ...states) =>
      eventually(`${part} ${states.join(' or ')}`, () => {
        const status = gateway.status()
        return states.includes(status.parts[part]?.state ?? '') ? status : undefined
      }),
    stop: end,
  }
}

export async function startTheirs(options: DummyDeviceOptions): Promise<DummyDevice> {
  const device = await startDummyDevice({
    frameMs: quick.frameMs,
    qubitsPerFrame: quick.qubits,
    connectWaitMs: 500,
    registerRetryMs: 200,
    ...options,
  })
  after(() => device.close())
  return device
}

export async function startSite(options: CppSiteAgentOptions): Promise<StandinSiteAgent> {
  const agent = await startCppSiteAgent({ connectWaitMs: 1_000, ...options })
  after(() => agent.close())
  return agent
}

/** A client that goes with the test. */
export function clientOf(target: { readonly address: string }): ReturnType<typeof dial> {
  const client = dial(target.address)
  after(() => client.close())
  return client
}

export interface LinkOptions {
  /** Which end is ours. */
  readonly ours: 'alice' | 'bob'
  /** Which end is the left hop; the right one is the initiator. Default alice. */
  readonly left?: 'alice' | 'bob'
  readonly keyBytes?: number
  readonly our?: Partial<OurOptions>
  readonly their?: Partial<DummyDeviceOptions>
}

export interface DummyLink {
  readonly ours: OurDevice
  readonly theirs: DummyDevice
  readonly siteOfOurs: StandinSiteAgent
  readonly siteOfTheirs: StandinSiteAgent
  /** StartNode and EndKeyExchange at the left site, or at the one named. */
  start(): Promise<unknown>
  end(at?: StandinSiteAgent): Promise<unknown>
  /** Waits until both sites have so many keys. */
  untilKeys(count: number): Promise<void>
  /** Resolves right after a block has come to both sites. */
  untilQuiet(): Promise<void>
  /** Keys of both sites as far as both have them, as hex: ours, theirs. */
  keys(): readonly [string[], string[]]
}

/** Our device and a C++ Dummy at two C++ SiteAgents, registered at both, not started. */
export async function makeLink(options: LinkOptions): Promise<DummyLink> {
  const { ours: side, left = 'alice', keyBytes = 16 } = options
  const other = side === 'alice' ? 'bob' : 'alice'
  const [a, b] = await Promise.all([startSite({ name: 'A' }), startSite({ name: 'B', seat: 'right' })])
  const [siteOfOurs, siteOfTheirs] = left === side ? [a, b] : [b, a]
  const [ours, theirs] = await Promise.all([
    startOurs({ side, siteAgent: siteOfOurs.address, keyBytes, ...options.our }),
    startTheirs({ side: other, siteAgent: siteOfTheirs.address, bytesPerKey: keyBytes, ...options.their }),
  ])
  const shows = (site: StandinSiteAgent, id: string): boolean => site.devices().some((device) => device.id === id)
  await eventually('both devices registered', () => shows(siteOfOurs, ours.id) && shows(siteOfTheirs, theirs.id))
  const [leftId, rightId] = left === side ? [ours.id, theirs.id] : [theirs.id, ours.id]
  const path = pathOf({ site: a.url, deviceId: leftId }, { site: b.url, deviceId: rightId })
  const received = (): number => Math.min(siteOfOurs.receivedKeys().length, siteOfTheirs.receivedKeys().length)
  return {
    ours,
    theirs,
    siteOfOurs,
    siteOfTheirs,
    start: () => callUnary(clientOf(a), ISiteAgent.method.startNode, path),
    end: (at = a) => callUnary(clientOf(at), ISiteAgent.method.endKeyExchange, path),
    async untilKeys(count) {
      await eventually(`${count} keys at both sites`, () => received() >= count)
    },
    async untilQuiet() {
      const before = theirs.keys.length
      await eventually('a block at both sites', () => {
        const [here, there] = [siteOfOurs.receivedKeys().length, siteOfTheirs.receivedKeys().length]
        return theirs.keys.length > before && here === there && there === theirs.keys.length
      })
    },
    keys() {
      const count = received()
      const hex = (site: StandinSiteAgent): string[] =>
        site
          .receivedKeys()
          .slice(0, count)
          .map((key) => Buffer.from(key).toString('hex'))
      return [hex(siteOfOurs), hex(siteOfTheirs)]
    },
  }
}

/** RunSession as site B sends it. */
export function runSession(device: { readonly address: string }, peerAddress: string): Promise<unknown> {
  return callUnary(clientOf(device), IDevice.method.runSession, { details: {}, peerAddress })
}
