/** Starts and stops of a link between two of our gateways at stand-in SiteAgents, the racing calls in any order. */
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { startCppSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startJavaSiteAgent, type StandinJavaSiteAgent } from '../../src/standin/java-site-agent.js'
import { callUnary, dial } from '../../src/standin/wire.js'
import { after, eventually, startOurs, type OurDevice } from '../gateway/support/dummy-lab.js'

const ids = { a: 'A_B_A', b: 'A_B_B' } as const
const frames = { keyBytes: 32, frameMs: 15, qubits: 2_048 } as const

export interface Cycle {
  readonly number: number
  /** Keys at each site: since its store began (C++), in this session (Java). */
  readonly keys: readonly [number, number]
  /** Whether what both have is equal, in value and order. */
  readonly equal: boolean
}

function clientOf(address: string): ReturnType<typeof dial> {
  const client = dial(address)
  after(() => client.close())
  return client
}

/** Waits for the keys of a cycle; where they do not come, the error tells what both gateways show. */
async function untilKeys(what: string, devices: readonly OurDevice[], look: () => boolean): Promise<void> {
  await eventually(what, look).catch((error: unknown) => {
    const shown = devices.map((device) => {
      const { parts, warnings } = device.status()
      return JSON.stringify({ session: parts['session'], link: parts['link'], warnings })
    })
    throw new Error([String(error), ...shown].join('\n'), { cause: error })
  })
}

async function gateways(siteA: string, siteB: string): Promise<readonly OurDevice[]> {
  const alice = await startOurs({ ...frames, side: 'alice', id: ids.a, siteAgent: siteA })
  const bob = await startOurs({ ...frames, side: 'bob', id: ids.b, siteAgent: siteB })
  await Promise.all([alice, bob].map((device) => device.untilPart('registration', 'registered')))
  return [alice, bob]
}

/**
 * C++ sites, one in each numbering. Numbering goes on over all sessions, so whatever both have must be equal; one batch
 * may be owed after a stop. Every third stop is asked at site B first, which stops only B.
 */
export async function cppCycles(cycles: number, onCycle: (cycle: Cycle) => void): Promise<void> {
  const a = await startCppSiteAgent({ name: 'A', dialect: 'upstream' })
  const b = await startCppSiteAgent({ name: 'B', dialect: 'openqkd', seat: 'right' })
  after(() => a.close())
  after(() => b.close())
  const devices = await gateways(a.address, b.address)
  const [clientA, clientB] = [clientOf(a.address), clientOf(b.address)]
  const path = pathOf({ site: a.url, deviceId: ids.a }, { site: b.url, deviceId: ids.b })
  for (let number = 1; number <= cycles; number += 1) {
    const before = Math.min(a.receivedKeys().length, b.receivedKeys().length)
    await callUnary(clientA, ISiteAgent.method.startNode, path)
    const enough = before + 1 + (number % 5)
    await untilKeys(
      `cycle ${number}: keys at both C++ sites`,
      devices,
      () => Math.min(a.receivedKeys().length, b.receivedKeys().length) >= enough,
    )
    if (number % 3 === 0) await callUnary(clientB, ISiteAgent.method.endKeyExchange, path)
    await callUnary(clientA, ISiteAgent.method.endKeyExchange, path).catch(() => {})
    const keys = [a.receivedKeys().length, b.receivedKeys().length] as const
    const both = Math.min(...keys)
    onCycle({ number, keys, equal: a.digest(both) === b.digest(both) })
  }
}

/** Java sites: each StartNode opens one more reader, also while one runs, and both sites begin again at one and the same key. */
export async function javaCycles(cycles: number, onCycle: (cycle: Cycle) => void): Promise<void> {
  const b = await startJavaSiteAgent({ name: 'B', seat: 'right', keepEvents: 1_000 })
  const a = await startJavaSiteAgent({ name: 'A', keepEvents: 1_000 })
  const [readA, readB] = [countedByReader(a), countedByReader(b)]
  after(() => a.close())
  after(() => b.close())
  const devices = await gateways(a.address, b.address)
  const client = clientOf(a.address)
  const path = pathOf({ site: a.url, deviceId: ids.a }, { site: b.url, deviceId: ids.b })
  for (let number = 1; number <= cycles; number += 1) {
    callUnary(client, ISiteAgent.method.startNode, path, 1_000).catch(() => {})
    const enough = 1 + (number % 5)
    await untilKeys(
      `cycle ${number}: keys at both Java sites`,
      devices,
      () => Math.min(readA(number), readB(number)) >= enough,
    )
    const keys = [readA(number), readB(number)] as const
    const both = Math.min(...keys)
    onCycle({ number, keys, equal: sameBeginning(a.sessionKeys(), b.sessionKeys(), both) })
    // A stop that Java never asks for: its reader is gone.
    if (number % 2 === 0) for (const site of [a, b]) site.killStreams()
  }
}

/** Tells how many keys a reader has written. */
function countedByReader(site: StandinJavaSiteAgent): (reader: number) => number {
  const counts = new Map<number, number>()
  site.on((event) => {
    if (event.event !== 'keys' || event.reader === undefined) return
    counts.set(event.reader, (counts.get(event.reader) ?? 0) + event.batch)
  })
  return (reader) => counts.get(reader) ?? 0
}

function sameBeginning(one: readonly Uint8Array[], other: readonly Uint8Array[], count: number): boolean {
  return one.slice(0, count).every((key, index) => Buffer.compare(key, other[index] ?? new Uint8Array(0)) === 0)
}
