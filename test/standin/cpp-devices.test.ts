import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { serverStream } from '../../src/rpc/bridge.js'
import { Side_Type } from '../../src/rpc/gen/cqp/remote/common_pb.js'
import { IReporting, type SiteAgentReport } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { callUnary } from '../../src/standin/wire.js'
import { callsOf, soon, useBench } from './support/bench.js'
import { testKeys } from './support/plain-device.js'
import { poll } from './support/poll.js'

const bench = useBench()

/** Reports of the SiteAgent from now on, whatever they are of. */
async function reportsOf(agent: { address: string }): Promise<SiteAgentReport[]> {
  const reports: SiteAgentReport[] = []
  const stop = new AbortController()
  bench.after(() => stop.abort())
  const client = bench.client(agent)
  const options = { deadlineMs: Infinity, signal: stop.signal }
  const call = serverStream(client, IReporting.method.getStatistics, { listIsExclude: true }, options)
  void (async () => {
    for await (const report of call) reports.push(report)
  })().catch(() => {})
  // An answered call on the same connection: the one before it has been taken.
  await callUnary(client, ISiteAgent.method.getSiteDetails, {})
  return reports
}

describe('what a device registered', () => {
  test('is shown as it came: kind, side, switch and key length, none of which the site acts on', async () => {
    const { a, b, alice, start } = await bench.pair()
    const config = {
      ...{ id: 'c', kind: 'anything', side: Side_Type.Any, bytesPerKey: 7 },
      ...{ switchName: 'switch', switchPort: ['port 1', 'port 2'] },
    }
    await callUnary(bench.client(a), ISiteAgent.method.registerDevice, { config, bindAddress: alice.address })
    const { devices } = await callUnary(bench.client(a), ISiteAgent.method.getSiteDetails, {})
    expect(devices[1]).toMatchObject({ config })
    // StartNode takes two devices of different kinds, and keys of another length than was registered.
    await start()
    const path = pathOf({ site: a.url, deviceId: 'c' }, { site: b.url, deviceId: 'b' })
    await callUnary(bench.client(a), ISiteAgent.method.startNode, path)
    await poll(() => alice.openStreams).toBe(2)
    await alice.send(testKeys(1))
    await poll(() => a.receivedKeys().length).toBe(2)
  })
})

describe('keys', () => {
  test('one more at one site parts the sites from there on: nothing compares or repairs', async () => {
    const { a, b, alice, bob, start, end } = await bench.pair()
    await start()
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    await Promise.all([alice.send(testKeys(5)), bob.send(testKeys(6))])
    await end()
    await start()
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    await Promise.all([alice.send(testKeys(5, 32, 6)), bob.send(testKeys(5, 32, 6))])
    await poll(() => [a.receivedKeys().length, b.receivedKeys().length]).toEqual([10, 11])
    expect(a.digest(5)).toBe(b.digest(5))
    const pairs = a.receivedKeys().map((key, index) => [key, b.receivedKeys()[index]] as const)
    expect(pairs.slice(5).every(([atA, atB]) => Buffer.compare(atA, atB ?? new Uint8Array()) !== 0)).toBe(true)
  })

  test('a block that is given out while a stop is under way reaches B only, whose stream is cancelled later', async () => {
    const { a, b, alice, bob, start, end } = await bench.pair()
    await start()
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    let release = (): void => {}
    alice.endSessionAfter = new Promise((resolve) => (release = resolve))
    const ending = end()
    await alice.calls.until(({ call }) => call === 'EndSession', soon())
    await Promise.all([alice.send(testKeys(3)), bob.send(testKeys(3))])
    await poll(() => b.receivedKeys().length).toBe(3)
    release()
    await ending
    expect(a.receivedKeys()).toEqual([])
  })

  test('where only site B holds some, device A gets an empty initial key', async () => {
    const { b, alice, bob, start, end } = await bench.pair()
    await start()
    await poll(() => bob.openStreams).toBe(1)
    await bob.send(testKeys(2))
    await poll(() => b.receivedKeys().length).toBe(2)
    await end()
    const [fromA, fromB] = [alice.calls.history.length, bob.calls.history.length]
    await start()
    const waits = [
      await alice.calls.until(({ call }) => call === 'WaitForSession', soon(), fromA),
      await bob.calls.until(({ call }) => call === 'WaitForSession', soon(), fromB),
    ]
    expect(waits).toEqual([
      { call: 'WaitForSession', initialKey: new Uint8Array() },
      { call: 'WaitForSession', initialKey: testKeys(1)[0] },
    ])
  })
})

describe('a device that answers with an error', () => {
  test('to GetStatistics, because it has none, is served all the same', async () => {
    const { a, b, bob } = await bench.pair()
    const plain = await bench.device({ statistics: false })
    await bench.register(a, 'plain', plain.address)
    const path = pathOf({ site: a.url, deviceId: 'plain' }, { site: b.url, deviceId: 'b' })
    await callUnary(bench.client(a), ISiteAgent.method.startNode, path)
    const answer = await a.events.until((e) => e.event === 'answer' && e.name === 'GetStatistics', soon())
    expect(answer).toMatchObject({ code: status.UNIMPLEMENTED })
    await poll(() => plain.openStreams + bob.openStreams).toBe(2)
    await plain.send(testKeys(2))
    await poll(() => a.receivedKeys().length).toBe(2)
  })

  test('to EndSession is stopped all the same, and the answer is only written down', async () => {
    const { a, alice, bob, start, end } = await bench.pair()
    alice.endStatus = status.FAILED_PRECONDITION
    await start()
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    await end()
    expect(callsOf(alice).filter((call) => call === 'EndSession')).toHaveLength(2)
    const answers = a.events.history.filter((e) => e.event === 'answer' && e.name === 'EndSession')
    expect(answers).toMatchObject([{ code: status.FAILED_PRECONDITION }, { code: status.FAILED_PRECONDITION }])
    expect([a.inUse(), alice.openStreams, bob.openStreams]).toEqual([[], 0, 0])
  })
})

test('the reports of a device are passed on with siteTo, siteFrom and siteName added', async () => {
  const { a, b, alice, start } = await bench.pair()
  const reports = await reportsOf(a)
  await start()
  await alice.calls.until(({ call }) => call === 'GetStatistics', soon())
  await alice.report({ path: ['Sifting', 'Bytes Produced'], parameters: { sessionActive: 'true', to: bob } })
  await poll(() => reports.map(({ path }) => path.join('/'))).toContain('Sifting/Bytes Produced')
  const passed = reports.find(({ path }) => path[0] === 'Sifting')
  expect(passed?.parameters).toEqual({ sessionActive: 'true', to: bob, siteTo: b.url, siteFrom: a.url, siteName: 'A' })
})

/** What the device calls its peer. */
const bob = '127.0.0.1:9001'

test('the figures of two stores come on one path, and nothing in them tells which store', async () => {
  const { a, b, alice } = await bench.pair()
  const c = await bench.site({ name: 'C', seat: 'right' })
  const carol = await bench.device()
  await bench.register(c, 'c', carol.address)
  await bench.register(a, 'a2', alice.address)
  const reports = await reportsOf(a)
  const begin = (deviceId: string, site: string, other: string) =>
    callUnary(
      bench.client(a),
      ISiteAgent.method.startNode,
      pathOf({ site: a.url, deviceId }, { site, deviceId: other }),
    )
  await begin('a', b.url, 'b')
  await begin('a2', c.url, 'c')
  await poll(() => alice.openStreams).toBe(2)
  await alice.send(testKeys(2))
  const generated = (): SiteAgentReport[] => reports.filter(({ path }) => path[1] === 'Key Generated')
  await poll(() => generated().length).toBe(2)
  const shown = generated().map(({ path, parameters }) => ({ path, parameters }))
  expect(shown[0]).toEqual(shown[1])
  expect(shown[0]?.parameters).toEqual({ siteFrom: a.url, siteName: 'A' })
})
