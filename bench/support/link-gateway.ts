/** One gateway's link of the bench, a process: the real link, server, journal and reports, with a source in memory. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/base/clock.js'
import { parseHostPort } from '../../src/base/host-port.js'
import { systemRandom } from '../../src/base/random.js'
import { fileJournal } from '../../src/link/journal.js'
import { type AgreedLink, createLink } from '../../src/link/link.js'
import { addLinkService } from '../../src/link/link-service.js'
import { createPeerConnector } from '../../src/link/peer-client.js'
import { silentLogger } from '../../src/observe/log.js'
import { createAccessPolicy } from '../../src/rpc/access.js'
import { openChannel } from '../../src/rpc/channel.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { createDeviceServer } from '../../src/rpc/server.js'
import { addDeviceService } from '../../src/rpc/services/device.js'
import { openSiteConnection } from '../../src/site/site-connection.js'
import { TotalsSubscription } from '../../src/site/totals.js'
import { serveRequests, sharedUs } from './bench-child.js'
import { type BenchUnit, openUnit } from './link-unit.js'

export type GatewayRequest =
  /** `peerVia`: where this gateway reaches the other one, whatever address it is told. */
  | { readonly do: 'start'; readonly siteAgent: string; readonly peerVia?: string }
  | { readonly do: 'reporting' }
  /** As many keys as the link takes, until `stop`. */
  | { readonly do: 'flood'; readonly mostHeld: number }
  /** A QIX unit on a serial line, for `bursts`. */
  | { readonly do: 'unit' }
  /** `bursts` times `keys` keys at once from the unit, the first at `fromUs`; resolves with when it sent each. */
  | {
      readonly do: 'bursts'
      readonly keys: number
      readonly bursts: number
      readonly fromUs: number
      readonly everyUs: number
    }
  | { readonly do: 'stop' }
  | { readonly do: 'cpu' }
  | { readonly do: 'counts' }
  | { readonly do: 'end' }

const keyBytes = 32
/** Keys that are given between two looks at anything else. */
const slice = 1_000

let link: AgreedLink | undefined
let nextId = 0n
let flooding = false
let unit: BenchUnit | undefined
const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-bench-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

function running(): AgreedLink {
  if (link === undefined) throw new Error('not started')
  return link
}

/** The same at both sites: the id, and bytes that any id has. */
function nextKey(): { readonly id: bigint; readonly key: Uint8Array } {
  const key = new Uint8Array(keyBytes).fill(0x5a)
  const id = nextId
  new DataView(key.buffer).setBigUint64(0, id)
  nextId += 1n
  return { id, key }
}

function give(count: number): void {
  const to = running()
  for (let index = 0; index < count; index += 1) {
    const { id, key } = nextKey()
    to.offerKey(id, key)
  }
}

async function start(siteAgent: string, peerVia: string | undefined): Promise<string> {
  const connection = openSiteConnection(parseHostPort(siteAgent, 'SiteAgent'), () =>
    openChannel({ address: siteAgent, what: 'SiteAgent' }),
  )
  const base = { clock: systemClock, random: systemRandom, log: silentLogger }
  const totals = new TotalsSubscription({
    ...base,
    connection,
    ask: async (signal) => void (await connection.call(ISiteAgent.method.getSiteDetails, {}, 3_000, signal)),
    ...{ retryFirstMs: 100, retryMaxMs: 1_000, onBroken: () => {} },
  })
  void totals.run(new AbortController().signal)
  const peers = createPeerConnector()
  let address = ''
  const made = createLink({
    ...base,
    kind: 'bench',
    bytesPerKey: keyBytes,
    controlAddress: () => address,
    totals: {
      dialect: () => 'cpp',
      onTotal: (listener) => totals.onTotal(listener),
      reporting: () => totals.reporting,
    },
    connector: { connect: (given) => peers.connect(peerVia ?? given) },
    journal: fileJournal(join(folder, 'link.journal')),
  })
  link = made
  const policy = createAccessPolicy({
    siteHostAddresses: () => ['127.0.0.1'],
    sessionPeer: (originator, metadata) => made.sessionPeer(originator, metadata),
  })
  const server = createDeviceServer({ policy, clock: systemClock, log: silentLogger })
  const details = () => ({
    ...{ id: 'bench', side: 'alice' as const, kind: 'bench', bytesPerKey: keyBytes, switchName: '', switchPorts: [] },
    ...{ controlAddress: address, siteAgentAddress: siteAgent },
  })
  server.addServices((grpc, handling) => {
    addDeviceService(grpc, { port: made, details, log: silentLogger }, handling)
    addLinkService(grpc, made, handling)
  })
  address = `127.0.0.1:${(await server.listen({ host: '127.0.0.1', port: 0 })).port}`
  const until = performance.now() + 10_000
  while (!totals.reporting) {
    if (performance.now() > until) throw new Error('the SiteAgent does not report')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return address
}

function flood(mostHeld: number): void {
  if (!flooding) return
  if (running().counts().held < BigInt(mostHeld)) {
    give(slice)
    setImmediate(() => flood(mostHeld))
  } else setTimeout(() => flood(mostHeld), 1)
}

async function bursts(request: GatewayRequest & { readonly do: 'bursts' }): Promise<number[]> {
  if (unit === undefined) throw new Error('there is no unit')
  const given: number[] = []
  for (let burst = 0; burst < request.bursts; burst += 1) {
    const waitMs = (request.fromUs + burst * request.everyUs - sharedUs()) / 1_000
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs))
    given.push(await unit.send(Array.from({ length: request.keys }, nextKey)))
  }
  return given
}

serveRequests<GatewayRequest>(async (request) => {
  switch (request.do) {
    case 'start':
      return start(request.siteAgent, request.peerVia)
    case 'reporting':
      return running().linkStatusReport()
    case 'flood':
      flooding = true
      flood(request.mostHeld)
      return undefined
    case 'bursts':
      return bursts(request)
    case 'unit':
      unit = await openUnit((id, key) => running().offerKey(id, key))
      return undefined
    case 'stop':
      flooding = false
      return undefined
    case 'cpu':
      return process.cpuUsage()
    case 'counts':
      return Object.fromEntries(Object.entries(running().counts()).map(([name, value]) => [name, String(value)]))
    case 'end':
      setTimeout(() => process.exit(0), 50)
      return undefined
  }
})
