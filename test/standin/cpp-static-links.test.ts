import { expect, test } from 'vitest'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { startCppSiteAgent, type StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { callUnary } from '../../src/standin/wire.js'
import { callsOf, soon, useBench } from './support/bench.js'
import type { PlainDevice } from './support/plain-device.js'
import { poll } from './support/poll.js'

const bench = useBench()

/** Two sites with a static link between device a and b; site A is the network manager, its ports known beforehand. */
async function staticPair(): Promise<{
  a: StandinSiteAgent
  b: StandinSiteAgent
  alice: PlainDevice
  bob: PlainDevice
}> {
  const probe = await startCppSiteAgent({ name: 'port of A' })
  const addressA = probe.address
  await probe.close()
  const b = await bench.site({ name: 'B', seat: 'right', networkManager: addressA })
  const a = await bench.site({
    name: 'A',
    port: Number(addressA.split(':')[1]),
    staticHops: [[{ first: { site: addressA, deviceId: 'a' }, second: { site: b.url, deviceId: 'b' } }]],
  })
  return { a, b, alice: await bench.device(), bob: await bench.device() }
}

test('a static link starts inside the RegisterDevice call of the last device: its WaitForSession comes before the answer', async () => {
  const { a, b, alice, bob } = await staticPair()
  await bench.register(b, 'b', bob.address)
  expect(callsOf(bob)).toEqual([])
  let answered = false
  const registering = bench.register(a, 'a', alice.address).then(() => (answered = true))
  await alice.calls.until(({ call }) => call === 'WaitForSession', soon())
  expect(answered).toBe(false)
  await registering
  await poll(() => bob.openStreams).toBe(1)
})

test('a registration that is a duplicate starts nothing', async () => {
  const { a, b, alice, bob } = await staticPair()
  await bench.register(b, 'b', bob.address)
  await bench.register(a, 'a', alice.address)
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  const [fromA, fromB] = [alice.calls.history.length, bob.calls.history.length]
  await bench.register(a, 'a', alice.address)
  expect([callsOf(alice, fromA), callsOf(bob, fromB)]).toEqual([[], []])
})

test('taking the last entry away stops the link at both sites; registering again starts it with the new address', async () => {
  const { a, b, alice, bob } = await staticPair()
  await bench.register(b, 'b', bob.address)
  await bench.register(a, 'a', alice.address)
  await bench.register(a, 'a', alice.address)
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  await bench.unregister(a, 'a')
  expect(alice.openStreams + bob.openStreams).toBe(2)
  await bench.unregister(a, 'a')
  expect(alice.openStreams + bob.openStreams).toBe(0)
  const moved = await bench.device()
  await bench.register(a, 'a', moved.address)
  await poll(() => moved.openStreams + bob.openStreams).toBe(2)
  const runs = bob.calls.history.flatMap((call) => (call.call === 'RunSession' ? [call.peerAddress] : []))
  expect(runs).toEqual([alice.address, moved.address])
})

test('at the site that is not the manager the same happens just after the call was answered', async () => {
  const { a, b, alice, bob } = await staticPair()
  await bench.register(a, 'a', alice.address)
  await bench.register(b, 'b', bob.address)
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  await bench.unregister(b, 'b')
  await poll(() => alice.openStreams + bob.openStreams).toBe(0)
})

test('a link that is static may be stopped and started by hand as well', async () => {
  const { a, b, alice, bob } = await staticPair()
  await bench.register(b, 'b', bob.address)
  await bench.register(a, 'a', alice.address)
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  const path = { hops: [{ first: { site: a.url, deviceId: 'a' }, second: { site: b.url, deviceId: 'b' } }] }
  await callUnary(bench.client(a), ISiteAgent.method.endKeyExchange, path)
  expect(alice.openStreams + bob.openStreams).toBe(0)
  await callUnary(bench.client(a), ISiteAgent.method.startNode, path)
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
})
