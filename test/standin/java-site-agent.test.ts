import { Server, status } from '@grpc/grpc-js'
import { afterEach, describe, expect, test } from 'vitest'
import { addUnary, rpcError } from '../../src/rpc/bridge.js'
import { KeyTransfer } from '../../src/rpc/gen/cqp/remote/key_transfer_pb.js'
import { IKey } from '../../src/rpc/gen/cqp/remote/keys_pb.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { RpcError } from '../../src/rpc/rpc-error.js'
import { pathOf } from '../../src/site/link-path.js'
import { JAVA_INITIAL_KEY } from '../../src/standin/java-reader.js'
import {
  startJavaSiteAgent,
  type JavaSiteAgentOptions,
  type StandinJavaSiteAgent,
} from '../../src/standin/java-site-agent.js'
import { bind, callUnary, dial } from '../../src/standin/wire.js'
import { startPlainDevice, testKeys, type PlainDevice } from './support/plain-device.js'
import { poll } from './support/poll.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
const soon = (): AbortSignal => AbortSignal.timeout(10_000)

async function site(options: JavaSiteAgentOptions): Promise<StandinJavaSiteAgent> {
  const agent = await startJavaSiteAgent(options)
  cleanups.push(() => agent.close())
  return agent
}

async function device(): Promise<PlainDevice> {
  const made = await startPlainDevice()
  cleanups.push(() => made.close())
  return made
}

function clientOf(agent: StandinJavaSiteAgent): ReturnType<typeof dial> {
  const client = dial(agent.address)
  cleanups.push(() => client.close())
  return client
}

/** The status a call ended with, 0 for OK. */
async function codeOf(call: Promise<unknown>): Promise<number> {
  return call.then(
    () => 0,
    (error: unknown) => (error instanceof RpcError ? error.code : -1),
  )
}

/** The call is never answered: the registration counts when the site shows it. */
async function register(agent: StandinJavaSiteAgent, id: string, address: string): Promise<void> {
  const details = { config: { id }, bindAddress: address, controlAddress: address }
  callUnary(clientOf(agent), ISiteAgent.method.registerDevice, details).catch(() => {})
  await poll(() => agent.devices()).toContainEqual({ id, controlAddress: address })
}

async function pair(optionsA: Partial<JavaSiteAgentOptions> = {}) {
  const b = await site({ name: 'B', seat: 'right' })
  const a = await site({ name: 'A', ...optionsA })
  const alice = await device()
  const bob = await device()
  await register(a, 'A_B_A', alice.address)
  await register(b, 'A_B_B', bob.address)
  const path = pathOf({ site: a.url, deviceId: 'A_B_A' }, { site: b.url, deviceId: 'A_B_B' })
  const start = (): Promise<number> => codeOf(callUnary(clientOf(a), ISiteAgent.method.startNode, path, 500))
  return { a, b, alice, bob, path, start }
}

test('RegisterDevice, UnregisterDevice, EndKeyExchange and a successful StartNode never answer', async () => {
  const { a, bob, path, start } = await pair()
  const details = { config: { id: 'x' }, controlAddress: '127.0.0.1:1' }
  expect(await codeOf(callUnary(clientOf(a), ISiteAgent.method.registerDevice, details, 300))).toBe(
    status.DEADLINE_EXCEEDED,
  )
  expect(await codeOf(callUnary(clientOf(a), ISiteAgent.method.unregisterDevice, { id: 'x' }, 150))).toBe(
    status.DEADLINE_EXCEEDED,
  )
  expect(await codeOf(callUnary(clientOf(a), ISiteAgent.method.endKeyExchange, path, 150))).toBe(
    status.DEADLINE_EXCEEDED,
  )
  expect(await start()).toBe(status.DEADLINE_EXCEEDED)
  await bob.calls.until(({ call }) => call === 'RunSession', soon())
  expect(a.devices().map(({ id }) => id)).toEqual(['A_B_A', 'x'])
})

test('an identical registration changes nothing, a changed one stands beside the old one, either may be used', async () => {
  const { a, alice } = await pair()
  await register(a, 'A_B_A', alice.address)
  expect(a.devices()).toHaveLength(1)
  await register(a, 'A_B_A', '127.0.0.1:1')
  expect(a.devices()).toHaveLength(2)
})

test('the device that is asked may be the newest of several registrations of one id', async () => {
  const { a, start } = await pair({ picks: 'last' })
  const moved = await device()
  await register(a, 'A_B_A', moved.address)
  await start()
  await moved.calls.until(({ call }) => call === 'WaitForSession', soon())
})

test('it serves ISiteAgent alone', async () => {
  const { a } = await pair()
  expect(await codeOf(callUnary(clientOf(a), IKey.method.getKeyStores, {}))).toBe(status.UNIMPLEMENTED)
})

test('the same calls as from a C++ site, without statistics, with 25 bytes of constant text as initial key', async () => {
  const { alice, bob, start } = await pair()
  await start()
  const run = await bob.calls.until(({ call }) => call === 'RunSession', soon())
  expect(run).toMatchObject({ peerAddress: alice.address })
  const waits = await Promise.all(
    [alice, bob].map((made) => made.calls.until(({ call }) => call === 'WaitForSession', soon())),
  )
  expect(JAVA_INITIAL_KEY).toHaveLength(25)
  for (const wait of waits) expect(wait).toMatchObject({ initialKey: JAVA_INITIAL_KEY })
  expect([...alice.calls.history, ...bob.calls.history].map(({ call }) => call)).not.toContain('GetStatistics')
})

test('a site spelt otherwise than it spells itself makes it do nothing', async () => {
  const { a, b, alice } = await pair()
  const path = pathOf(
    { site: a.url.replace('127.0.0.1', 'localhost'), deviceId: 'A_B_A' },
    { site: b.url.replace('127.0.0.1', 'localhost'), deviceId: 'A_B_B' },
  )
  expect(await codeOf(callUnary(clientOf(a), ISiteAgent.method.startNode, path, 200))).toBe(status.DEADLINE_EXCEEDED)
  expect(alice.calls.history).toEqual([])
})

test('a RunSession that fails makes StartNode fail at both sites, with UNKNOWN and no text', async () => {
  const { bob, start } = await pair()
  bob.runStatus = status.FAILED_PRECONDITION
  expect(await start()).toBe(status.UNKNOWN)
})

test('each StartNode opens one more WaitForSession and the old reader stays; both number from 1 and overwrite', async () => {
  const { a, alice, start } = await pair()
  await start()
  await start()
  await poll(() => alice.openStreams).toBe(2)
  expect(a.openReaders()).toBe(2)
  await alice.send(testKeys(3))
  await poll(() => a.events.history.filter(({ event }) => event === 'keys')).toHaveLength(2)
  expect(a.receivedKeys()).toEqual(testKeys(3))
})

test('a stream that is cut is not opened again, and EndSession is never called', async () => {
  const { a, alice, start } = await pair()
  await start()
  await poll(() => alice.openStreams).toBe(1)
  a.killStreams()
  await alice.calls.until(({ call }) => call === 'WaitForSession ended', soon())
  expect(alice.calls.history.map(({ call }) => call)).toEqual(['WaitForSession', 'WaitForSession ended'])
})

test('control addresses are split at the first colon, so that only host:port works', async () => {
  const { a, alice, start } = await pair()
  expect(a.devices()[0]?.controlAddress).toBe(alice.address)
  const b = await site({ name: 'B6' })
  await register(b, 'A_B_B', '[::1]:9000')
  const path = pathOf({ site: 'elsewhere:1', deviceId: 'A_B_A' }, { site: b.url, deviceId: 'A_B_B' })
  expect(await codeOf(callUnary(clientOf(b), ISiteAgent.method.startNode, path, 500))).toBe(status.UNKNOWN)
  await start()
})

test('keys go to the KeyTransfer one by one; a call that fails ends the reader, and its stream stays open unread', async () => {
  const server = new Server()
  const passed: bigint[] = []
  let broken = false
  addUnary(server, KeyTransfer.method.onKeyFromCQP, ({ seqID }) => {
    if (broken) throw rpcError(status.INTERNAL, 'broken by the test')
    passed.push(seqID)
    return {}
  })
  const port = await bind(server, '127.0.0.1:0')
  cleanups.push(() => server.forceShutdown())
  const { a, alice, start } = await pair({ keyTransferAddress: `127.0.0.1:${port}` })
  await start()
  await poll(() => alice.openStreams).toBe(1)
  await alice.send(testKeys(3))
  await poll(() => a.receivedKeys().length).toBe(3)
  expect(passed).toEqual([1n, 2n, 3n])
  broken = true
  await alice.send(testKeys(1, 32, 3))
  await a.events.until((e) => e.event === 'note' && e.text.includes('KeyTransfer failed'), soon())
  broken = false
  await alice.send(testKeys(1, 32, 4))
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect([passed.length, a.receivedKeys().length, alice.openStreams]).toEqual([3, 3, 1])
})

test('there is no limit to the number of keys', async () => {
  const { a, alice, start } = await pair()
  await start()
  await poll(() => alice.openStreams).toBe(1)
  for (let sent = 0; sent < 45_000; sent += 9_000) await alice.send(testKeys(9_000, 32, sent))
  await poll(() => a.receivedKeys().length).toBe(45_000)
})

test('keys of another length than 32 bytes are taken and spoil the file', async () => {
  const { a, alice, start } = await pair()
  await start()
  await poll(() => alice.openStreams).toBe(1)
  await alice.send(testKeys(2, 16))
  await poll(() => a.malformedKeys()).toBe(2)
})

test('a device id of another form is never acknowledged: its reader hangs after the first message', async () => {
  const b = await site({ name: 'B' })
  const bob = await device()
  await register(b, 'bob', bob.address)
  const path = pathOf({ site: 'elsewhere:1', deviceId: 'alice' }, { site: b.url, deviceId: 'bob' })
  void codeOf(callUnary(clientOf(b), ISiteAgent.method.startNode, path, 500))
  await poll(() => bob.openStreams).toBe(1)
  await bob.send(testKeys(1))
  await b.events.until((e) => e.event === 'note' && e.text.includes('the reader hangs'), soon())
  expect(b.receivedKeys()).toEqual([])
  expect(bob.openStreams).toBe(1)
})

describe('link checkers', () => {
  test('the one of issue-34 starts the link once both devices are registered, and again only if that failed', async () => {
    const b = await site({ name: 'B', seat: 'right' })
    const a = await site({
      name: 'A',
      linkCheck: {
        kind: 'once',
        intervalMs: 50,
        otherSite: b.url,
        localDeviceId: 'A_B_A',
        remoteDeviceId: 'A_B_B',
      },
    })
    const alice = await device()
    const bob = await device()
    bob.runStatus = status.UNAVAILABLE
    await register(a, 'A_B_A', alice.address)
    expect(alice.calls.history).toEqual([])
    await register(b, 'A_B_B', bob.address)
    const runs = (): number => bob.calls.history.filter(({ call }) => call === 'RunSession').length
    await poll(runs).toBeGreaterThan(1)
    bob.runStatus = status.OK
    const before = runs()
    await poll(runs).toBe(before + 1)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(runs()).toBe(before + 1)
  })

  test('the one of issue-33 starts the link whenever a device is Inactive, and forgets one that does not answer', async () => {
    const b = await site({ name: 'B', seat: 'right' })
    const a = await site({
      name: 'A',
      linkCheck: {
        kind: 'status',
        intervalMs: 50,
        otherSite: b.url,
        localDeviceId: 'A_B_A',
        remoteDeviceId: 'A_B_B',
      },
    })
    const alice = await device()
    const bob = await device()
    await register(a, 'A_B_A', alice.address)
    await register(b, 'A_B_B', bob.address)
    await poll(() => alice.openStreams).toBeGreaterThan(0)
    alice.endStreams(status.OK)
    await poll(() => alice.openStreams).toBeGreaterThan(0)
    alice.close()
    await poll(() => a.devices()).toEqual([])
  })
})
