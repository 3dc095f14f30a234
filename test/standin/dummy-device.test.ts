import { Server, status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { systemRandom } from '../../src/base/random.js'
import { addUnary, rpcError, serverStream } from '../../src/rpc/bridge.js'
import { IDevice, LinkStatus_State, type LinkStatus } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { IDetector, IPhotonSim } from '../../src/rpc/gen/cqp/remote/detector_pb.js'
import { IReporting, type SiteAgentReport } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { ISession } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { ISift } from '../../src/rpc/gen/cqp/remote/sift_pb.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { startDummyDevice, type DummyDevice } from '../../src/standin/dummy-device.js'
import { KeyCutter, packBits } from '../../src/standin/dummy-key.js'
import type { DummyDeviceOptions } from '../../src/standin/dummy-options.js'
import { bind, callUnary } from '../../src/standin/wire.js'
import { codeOf, soon, useBench } from './support/bench.js'
import { poll } from './support/poll.js'

const bench = useBench()

const quick = { frameMs: 20, qubitsPerFrame: 1_000, connectWaitMs: 300 } as const

async function dummy(options: DummyDeviceOptions): Promise<DummyDevice> {
  const made = await startDummyDevice({ ...quick, ...options })
  bench.after(() => made.close())
  return made
}

async function sitesWithDummies(
  alice: Partial<DummyDeviceOptions> = {},
  bob: Partial<DummyDeviceOptions> = {},
  bobOnTheLeft = false,
) {
  const a = await bench.site({ name: 'A' })
  const b = await bench.site({ name: 'B', seat: 'right' })
  const [siteOfAlice, siteOfBob] = bobOnTheLeft ? [b, a] : [a, b]
  const devices = [
    await dummy({ side: 'alice', siteAgent: siteOfAlice.address, ...alice }),
    await dummy({ side: 'bob', siteAgent: siteOfBob.address, ...bob }),
  ] as const
  for (const device of devices) await device.events.until(({ event }) => event === 'registered', soon())
  const [left, right] = bobOnTheLeft ? [devices[1], devices[0]] : devices
  const path = pathOf({ site: a.url, deviceId: left.id }, { site: b.url, deviceId: right.id })
  const start = (): Promise<unknown> => callUnary(bench.client(a), ISiteAgent.method.startNode, path)
  const end = (): Promise<unknown> => callUnary(bench.client(a), ISiteAgent.method.endKeyExchange, path)
  return { a, b, alice: devices[0], bob: devices[1], start, end }
}

describe('a Dummy pair at two C++ sites', () => {
  test.each([
    ['Bob', 16, false],
    ['Bob', 32, false],
    ['Alice', 16, true],
  ] as const)(
    'with %s as initiator delivers equal keys of %i bytes in equal order',
    async (_who, bytesPerKey, swap) => {
      const { a, b, start } = await sitesWithDummies({ bytesPerKey }, { bytesPerKey }, swap)
      await start()
      await poll(() => Math.min(a.receivedKeys().length, b.receivedKeys().length)).toBeGreaterThan(40)
      const count = Math.min(a.receivedKeys().length, b.receivedKeys().length)
      expect(a.digest(count)).toBe(b.digest(count))
      expect(a.receivedKeys().every(({ length }) => length === bytesPerKey)).toBe(true)
    },
  )

  test('registers with the id that the original makes, and with its own numbering only', async () => {
    const { a, alice } = await sitesWithDummies()
    expect(alice.id).toBe('dummyqkd__0__16_alice')
    const { devices } = await callUnary(bench.client(a), ISiteAgent.method.getSiteDetails, {})
    expect(devices[0]).toMatchObject({
      config: { id: 'dummyqkd__0__16_alice', side: 0, kind: 'dummyqkd' },
      bindAddress: alice.address,
      controlAddress: '',
    })
  })

  test('registers again until that is answered OK, and unregisters at its end', async () => {
    const a = await bench.site({ name: 'A' })
    a.faults.registerRefusedWith = status.UNAVAILABLE
    const bob = await dummy({ side: 'bob', siteAgent: a.address, registerRetryMs: 50 })
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect([a.devices(), bob.events.history]).toEqual([[], []])
    a.faults.registerRefusedWith = undefined
    await bob.events.until(({ event }) => event === 'registered', soon())
    expect(a.devices()).toEqual([{ id: 'dummyqkd__0__16_bob', controlAddress: bob.address }])
    await bob.close()
    expect(a.devices()).toEqual([])
  })

  test('of the fork registers controlAddress word for word, in the fork’s numbering', async () => {
    const a = await bench.site({ name: 'A', dialect: 'openqkd' })
    const bob = await dummy({
      ...{ side: 'bob', siteAgent: a.address, dialect: 'openqkd', bytesPerKey: 32 },
      controlAddress: 'tunnel.example:9000',
    })
    await bob.events.until(({ event }) => event === 'registered', soon())
    expect(a.devices()).toEqual([{ id: 'dummyqkd__0__32_bob', controlAddress: 'tunnel.example:9000' }])
  })

  test('a lost frame costs both sides the same keys; one wrong bit parts them, and nothing compares or repairs', async () => {
    const { a, b, bob, start } = await sitesWithDummies()
    await start()
    await poll(() => Math.min(a.receivedKeys().length, b.receivedKeys().length)).toBeGreaterThan(10)
    const before = bob.keys.length
    bob.faults.loseFrames = 1
    await poll(() => b.receivedKeys().length).toBeGreaterThan(before + 20)
    const count = Math.min(a.receivedKeys().length, b.receivedKeys().length)
    expect(a.digest(before)).toBe(b.digest(before))
    // Alice keeps the frame for a question that never comes.
    expect(a.digest(count)).toBe(b.digest(count))
    bob.faults.corruptFrames = 1
    await poll(() => b.receivedKeys().length).toBeGreaterThan(count + 20)
    const later = Math.min(a.receivedKeys().length, b.receivedKeys().length)
    expect(a.digest(later)).not.toBe(b.digest(later))
  })

  test('a running Alice deadlocks in EndSession and the SiteAgent with her', async () => {
    const { a, alice, start, end } = await sitesWithDummies()
    await start()
    await poll(() => a.receivedKeys().length).toBeGreaterThan(0)
    let ended = false
    void end().then(
      () => (ended = true),
      () => {},
    )
    await a.events.until((e) => e.event === 'stream-ended', soon())
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(ended).toBe(false)
    expect(alice.linkState).toBe(LinkStatus_State.SessionStarted)
  })

  test('with that mended, a stop and a start go on, and both devices cut the same keys from what was left over', async () => {
    const { a, alice, bob, start, end } = await sitesWithDummies({ faults: { endSessionHangs: false } })
    await start()
    await poll(() => a.receivedKeys().length).toBeGreaterThan(5)
    await end()
    expect([alice.linkState, bob.linkState]).toEqual([LinkStatus_State.Listening, LinkStatus_State.Listening])
    const before = bob.keys.length
    await start()
    await poll(() => Math.min(alice.keys.length, bob.keys.length)).toBeGreaterThan(before + 10)
    const count = Math.min(alice.keys.length, bob.keys.length)
    expect(alice.keys.slice(0, count)).toEqual(bob.keys.slice(0, count))
  })
})

test('key that arises while nobody waits for it is kept and comes out with the first block after', async () => {
  const alice = await dummy({ side: 'alice' })
  const bob = await dummy({ side: 'bob' })
  await callUnary(bench.client(bob), IDevice.method.runSession, { details: {}, peerAddress: alice.address })
  await poll(() => bob.keys.length).toBeGreaterThan(10)
  const stop = new AbortController()
  const options = { deadlineMs: Infinity, signal: stop.signal }
  const first: Uint8Array[] = []
  for await (const { keyData } of serverStream(bench.client(bob), IDevice.method.waitForSession, {}, options)) {
    first.push(...keyData)
    break
  }
  stop.abort()
  expect(first.length).toBeGreaterThan(10)
  expect(first).toEqual(bob.keys.slice(0, first.length))
})

/** The first `count` messages of its GetLinkStatus. */
async function linkStatus(device: DummyDevice, count: number): Promise<LinkStatus[]> {
  const seen: LinkStatus[] = []
  const options = { deadlineMs: Infinity, signal: soon() }
  for await (const message of serverStream(bench.client(device), IDevice.method.getLinkStatus, {}, options)) {
    seen.push(message)
    if (seen.length === count) break
  }
  return seen
}

/** Bytes that count up: a qubit each, from 0 to 3 and over again. */
const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => index)

describe('a Dummy device as the peer', () => {
  test('answers SessionStarting of an unreachable peer with DEADLINE_EXCEEDED, and keeps that address', async () => {
    const alice = await dummy({ side: 'alice' })
    const client = bench.client(alice)
    const begin = (initiatorAddress: string) =>
      codeOf(callUnary(client, ISession.method.sessionStarting, { details: {}, initiatorAddress }))
    expect(await begin('127.0.0.1:1')).toBe(status.DEADLINE_EXCEEDED)
    const bob = await dummy({ side: 'bob' })
    expect(await begin(bob.address)).toBe(status.OK)
    expect(alice.events.history).toContainEqual({ event: 'session', began: true, peer: '127.0.0.1:1' })
  })

  test('a second SessionStarting without SessionEnding leaves a Bob without frames', async () => {
    const bob = await dummy({ side: 'bob' })
    const alice = await dummy({ side: 'alice' })
    const client = bench.client(bob)
    const message = { details: {}, initiatorAddress: alice.address }
    await callUnary(client, ISession.method.sessionStarting, message)
    await callUnary(client, ISession.method.sessionStarting, message)
    expect(bob.events.history.filter(({ event }) => event === 'session')).toHaveLength(1)
  })

  test('RunSession takes //host:port, and refuses an empty peer address with UNKNOWN', async () => {
    const bob = await dummy({ side: 'bob' })
    const alice = await dummy({ side: 'alice' })
    const run = (peerAddress: string) =>
      codeOf(callUnary(bench.client(bob), IDevice.method.runSession, { details: {}, peerAddress }))
    expect(await run('')).toBe(status.UNKNOWN)
    expect(await run(`//${alice.address}`)).toBe(status.OK)
  })

  test('an initiator answers RunSession with the code of SessionStarting, and shows it in its link status', async () => {
    const server = new Server()
    addUnary(server, ISession.method.sessionStarting, () => {
      throw rpcError(status.FAILED_PRECONDITION, 'Initialisation failed')
    })
    const port = await bind(server, '127.0.0.1:0')
    bench.after(() => server.forceShutdown())
    const bob = await dummy({ side: 'bob' })
    const running = callUnary(bench.client(bob), IDevice.method.runSession, {
      details: {},
      peerAddress: `127.0.0.1:${port}`,
    })
    expect(await codeOf(running)).toBe(status.FAILED_PRECONDITION)
    const [shown] = await linkStatus(bob, 1)
    expect(shown).toMatchObject({
      state: LinkStatus_State.Listening,
      errorCode: BigInt(status.FAILED_PRECONDITION),
    })
  })

  test('takes messages up to 8 MiB from another device', async () => {
    const bob = await dummy({ side: 'bob' })
    const photons = (count: number) =>
      codeOf(
        callUnary(bench.client(bob), IPhotonSim.method.onPhoton, {
          values: { qubits: Array.from({ length: count }, () => 1) },
        }),
      )
    expect(await photons(8_000_000)).toBe(status.OK)
    expect(await photons(8_400_000)).toBe(status.RESOURCE_EXHAUSTED)
  })

  test('an Alice applies the k-th basis of a list to her k-th qubit, whatever index stands beside it', async () => {
    const alice = await dummy({ side: 'alice', frameMs: 50, qubitsPerFrame: 64, random: { ...systemRandom, bytes } })
    const bob = await bench.device()
    const client = bench.client(alice)
    await callUnary(client, ISession.method.sessionStarting, { details: {}, initiatorAddress: bob.address })
    // Her qubits are 0, 1, 2, 3, 0, … and so her bases 0, 0, 2, 2, 0, …
    const indexedBasis = [0, 0, 2, 2].map((basis) => ({ basis, index: 60n }))
    const { answers } = await callUnary(client, ISift.method.verifyBases, { basis: { '0': { indexedBasis } } })
    expect(answers['0']?.answers).toEqual([true, true, true, true])
  })

  test('tells its link status: the present state at once, then each change', async () => {
    const bob = await dummy({ side: 'bob' })
    const alice = await dummy({ side: 'alice' })
    const stop = new AbortController()
    const call = serverStream(
      bench.client(bob),
      IDevice.method.getLinkStatus,
      {},
      { deadlineMs: Infinity, signal: stop.signal },
    )
    const states: LinkStatus_State[] = []
    const reading = (async () => {
      for await (const { state } of call) states.push(state)
    })().catch(() => {})
    await poll(() => states).toEqual([LinkStatus_State.Inactive])
    await callUnary(bench.client(bob), IDevice.method.runSession, { details: {}, peerAddress: alice.address })
    await poll(() => states).toEqual([
      LinkStatus_State.Inactive,
      LinkStatus_State.Connected,
      LinkStatus_State.SessionStarted,
    ])
    stop.abort()
    await reading
  })

  test('an Alice refuses a frame that does not come within its time, and one that was used already', async () => {
    const alice = await dummy({ side: 'alice', frameWaitMs: 150, frameMs: 50 })
    const client = bench.client(alice)
    const ask = (frame: string) =>
      codeOf(callUnary(client, ISift.method.verifyBases, { basis: { [frame]: { indexedBasis: [{ index: 0n }] } } }))
    expect(await ask('0')).toBe(status.ABORTED)
    const bob = await bench.device()
    await callUnary(client, ISession.method.sessionStarting, { details: {}, initiatorAddress: bob.address })
    expect(await ask('0')).toBe(status.OK)
    expect(await ask('0')).toBe(status.ABORTED)
  })

  test('a Bob counts only the last photons of a frame', async () => {
    const bob = await dummy({ side: 'bob' })
    const client = bench.client(bob)
    const reports: SiteAgentReport[] = []
    const stop = new AbortController()
    const call = serverStream(
      client,
      IReporting.method.getStatistics,
      { listIsExclude: true },
      { deadlineMs: Infinity, signal: stop.signal },
    )
    const reading = (async () => {
      for await (const report of call) reports.push(report)
    })().catch(() => {})
    await callUnary(client, IDetector.method.startDetecting, {})
    await callUnary(client, IPhotonSim.method.onPhoton, { values: { qubits: [0, 1, 2] } })
    await callUnary(client, IPhotonSim.method.onPhoton, { values: { qubits: [3] } })
    await callUnary(client, IDetector.method.stopDetecting, {})
    await poll(() => reports.map(({ path }) => path.join('/'))).toContain('TransmitterGroup/Qubits Received')
    const received = reports.find(({ path }) => path[1] === 'Qubits Received')
    expect(received?.value).toMatchObject({ case: 'asUnsigned', value: { latest: 1n } })
    stop.abort()
    await reading
  })
})

test('bits are packed least significant first, the last byte padded and counted in full', () => {
  expect(packBits([1, 0, 0, 0, 0, 0, 0, 1, 1])).toEqual(new Uint8Array([0x81, 0x01]))
})

test('blocks are cut into keys, and what is left over comes first in the next block', () => {
  const cutter = new KeyCutter(4)
  expect(cutter.cut(new Uint8Array([1, 2, 3, 4, 5]))).toEqual([new Uint8Array([1, 2, 3, 4])])
  expect(cutter.cut(new Uint8Array([6, 7, 8]))).toEqual([new Uint8Array([5, 6, 7, 8])])
})
