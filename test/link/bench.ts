/** Two gateways' links over real gRPC on loopback, each with a SiteAgent that a test commands. */
import { createHash } from 'node:crypto'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { addsUp } from '../../src/link/counts.js'
import { type JournalStore, memoryJournal } from '../../src/link/journal.js'
import { type AgreedLink, createLink, type LinkOptions } from '../../src/link/link.js'
import { addLinkService } from '../../src/link/link-service.js'
import type { LinkStopResult } from '../../src/link/contract.js'
import type { PeerConnection, PeerConnector } from '../../src/link/peer.js'
import { createPeerConnector } from '../../src/link/peer-client.js'
import { silentLogger } from '../../src/observe/log.js'
import type { CallContext, KeyStream, SessionParameters } from '../../src/rpc/device-port.js'
import { createAccessPolicy } from '../../src/rpc/access.js'
import { createDeviceServer } from '../../src/rpc/server.js'
import { addDeviceService } from '../../src/rpc/services/device.js'
import type { SiteTotals } from '../../src/rpc/site-totals.js'

export const parameters: SessionParameters = {
  lineAttenuationDb: 0,
  photonsPerBurst: 0n,
  repetitionRateHz: 0,
  initialKeyId: 0n,
  parameters: new Map(),
}

export function call(
  signal: AbortSignal = new AbortController().signal,
): CallContext & { trailers: Map<string, string> } {
  const trailers = new Map<string, string>()
  return {
    originator: { address: '127.0.0.1', port: 1, via: 'local' },
    signal,
    metadata: new Map(),
    setTrailer: (name, value) => trailers.set(name, value),
    trailers,
  }
}

/** A C++ SiteAgent's key store: takes messages in whole, tells its total, may stop reading, cancel, restart. */
export class FakeSite implements SiteTotals {
  keys: string[] = []
  /** Of the messages that were taken in, oldest first. */
  readonly sizes: number[] = []
  dialectNow: 'cpp' | 'java' | 'unknown' = 'cpp'
  reportsOpen = true
  /** While false messages pile up unread. */
  reading = true
  /** What becomes of messages in the transport when the stream is cancelled: taken in or lost. */
  takesOnCancel = false
  /** Keeps reports back until `flush`. */
  holdReports = false
  readonly streams: FakeStream[] = []
  #held: bigint[] = []
  #listeners = new Set<(report: { storeId: bigint; total: bigint }) => void>()
  #waiters: { count: number; resolve: () => void }[] = []

  dialect(): 'cpp' | 'java' | 'unknown' {
    return this.dialectNow
  }

  reporting(): boolean {
    return this.reportsOpen
  }

  onTotal(listener: (report: { storeId: bigint; total: bigint }) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  open(): FakeStream {
    const stream = new FakeStream(this)
    this.streams.push(stream)
    return stream
  }

  takeIn(keys: readonly string[]): void {
    if (this.dialectNow === 'java' && this.streams.at(-1)?.taken === 0) this.keys = []
    this.keys.push(...keys)
    this.sizes.push(keys.length)
    if (this.dialectNow === 'cpp' && this.reportsOpen) {
      const total = BigInt(this.keys.length)
      if (this.holdReports) this.#held.push(total)
      else setImmediate(() => this.#tell(total))
    }
    for (const waiter of this.#waiters) if (this.keys.length >= waiter.count) waiter.resolve()
    this.#waiters = this.#waiters.filter(({ count }) => this.keys.length < count)
  }

  flush(): void {
    for (const total of this.#held) this.#tell(total)
    this.#held = []
  }

  restart(): void {
    this.keys = []
    this.#held = []
    for (const stream of this.streams) stream.cancel()
  }

  #tell(total: bigint): void {
    for (const listener of this.#listeners) listener({ storeId: 7n, total })
  }

  /** Resolves once the store holds `count` keys. */
  has(count: number): Promise<void> {
    if (this.keys.length >= count) return Promise.resolve()
    return new Promise((resolve) => this.#waiters.push({ count, resolve }))
  }
}

export class FakeStream implements KeyStream {
  readonly originator = { address: '127.0.0.1', port: 2, via: 'local' } as const
  readonly #ended = new AbortController()
  readonly signal = this.#ended.signal
  readonly #pending: string[][] = []
  taken = 0
  endedWith: number | undefined

  constructor(private readonly site: FakeSite) {}

  get writable(): boolean {
    return !this.signal.aborted && (this.site.reading || this.#pending.length === 0)
  }

  async send(keys: readonly Uint8Array[]): Promise<'sent' | 'ended'> {
    if (this.signal.aborted) return 'ended'
    const copies = keys.map((key) => Buffer.from(key).toString('hex'))
    this.#pending.push(copies)
    if (this.site.reading) setImmediate(() => this.read())
    return 'sent'
  }

  read(): void {
    if (this.signal.aborted) return
    for (const keys of this.#pending.splice(0)) {
      this.site.takeIn(keys)
      this.taken += keys.length
    }
  }

  cancel(): void {
    if (this.signal.aborted) return
    if (this.site.takesOnCancel) this.read()
    this.#ended.abort()
  }

  end(code: number, _message: string): void {
    this.endedWith ??= code
    this.#ended.abort()
  }
}

export interface Gateway {
  readonly link: AgreedLink
  readonly site: FakeSite
  readonly journal: JournalStore
  readonly address: string
  /** As a kill: nothing is settled, nobody is told. */
  crash(): Promise<void>
  /** As the gateway's own stop. */
  stop(): Promise<LinkStopResult>
  /** The connections that this gateway opened break. */
  cutLink(): void
}

export type GatewayOptions = Partial<LinkOptions> & { site?: FakeSite; port?: number }

/** A journal that a crash freezes: what comes later never reaches the disk. */
function freezable(journal: JournalStore): JournalStore & { freeze(): void } {
  let frozen = false
  return {
    load: () => journal.load(),
    append: (record, sync) => (frozen ? new Promise<never>(() => {}) : journal.append(record, sync)),
    close: () => Promise.resolve(),
    freeze: () => (frozen = true),
  }
}

/** Connections that a crash cuts. */
function cuttable(connector: PeerConnector): PeerConnector & { cut(): void; cutOpen(): void } {
  let isCut = false
  const open = new Set<PeerConnection>()
  return {
    async connect(address) {
      if (isCut) throw new Error('this process is dead')
      const connection = await connector.connect(address)
      open.add(connection)
      return connection
    },
    cutOpen() {
      for (const connection of open) connection.close()
      open.clear()
    },
    cut() {
      isCut = true
      for (const connection of open) connection.close()
    },
  }
}

/** A gateway on a free port of 127.0.0.1, or on `port`. */
export async function startGateway(options: GatewayOptions = {}): Promise<Gateway> {
  const { site = new FakeSite(), port = 0, ...rest } = options
  const journal = rest.journal ?? memoryJournal()
  const disk = freezable(journal)
  const connector = cuttable(rest.connector ?? createPeerConnector())
  let address = ''
  const link = createLink({
    kind: 'qix',
    bytesPerKey: 32,
    controlAddress: () => (address === '' ? undefined : address),
    totals: site,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    ...rest,
    connector,
    journal: disk,
    batch: { maxWaitMs: 30, ...rest.batch },
    hold: { gapWaitMs: 30, ...rest.hold },
    timing: { inferAfterMs: 20, settleMs: 150, goneGraceMs: 100, ...rest.timing },
  })
  const policy = createAccessPolicy({
    siteHostAddresses: () => [],
    sessionPeer: (originator, metadata) => link.sessionPeer(originator, metadata),
  })
  const server = createDeviceServer({ policy, clock: systemClock, log: silentLogger })
  const details = () => ({
    id: 'A_B_A',
    side: 'alice' as const,
    kind: 'qix',
    bytesPerKey: 32,
    switchName: '',
    switchPorts: [],
    bindAddress: '',
    controlAddress: address,
    siteAgentAddress: '',
  })
  server.addServices((grpc, handling) => {
    addDeviceService(grpc, { port: link, details, log: silentLogger }, handling)
    addLinkService(grpc, link, handling)
  })
  const bound = await server.listen({ host: '127.0.0.1', port })
  address = `127.0.0.1:${bound.port}`
  return {
    link,
    site,
    journal,
    address,
    stop: () => link.stop(2_000).finally(() => server.shutdown(0)),
    cutLink: () => connector.cutOpen(),
    async crash() {
      disk.freeze()
      connector.cut()
      await server.shutdown(0)
      for (const stream of site.streams) stream.cancel()
      await link.stop(0)
    },
  }
}

/** What unit `seed` gives under `id`, the same at both sites. */
export function keyOf(id: number, seed = 'pair'): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(`${seed} ${id}`).digest())
}

export function offer(gateway: Gateway, from: number, to: number, except: readonly number[] = [], seed?: string): void {
  for (let id = from; id < to; id += 1) {
    if (!except.includes(id)) gateway.link.offerKey(BigInt(id), keyOf(id, seed))
  }
}

/** Steps 4 to 8: both SiteAgents wait, the right one begins. */
export async function startSession(left: Gateway, right: Gateway): Promise<{ left: FakeStream; right: FakeStream }> {
  const streams = { left: left.site.open(), right: right.site.open() }
  left.link.waitForSession(new Uint8Array(), streams.left)
  const running = right.link.runSession(parameters, left.address, call())
  right.link.waitForSession(new Uint8Array(), streams.right)
  await running
  return streams
}

/** Waits for a condition that events bring about. */
export async function until(what: string, holds: () => boolean, timeoutMs = 10_000): Promise<void> {
  const giveUpAtMs = Date.now() + timeoutMs
  while (!holds()) {
    if (Date.now() > giveUpAtMs) throw new Error(`never came: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

export function countsHold(...gateways: Gateway[]): boolean {
  return gateways.every(({ link }) => addsUp(link.counts()))
}
