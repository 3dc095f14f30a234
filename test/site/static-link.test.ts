import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { parseHostPort } from '../../src/base/host-port.js'
import { systemRandom } from '../../src/base/random.js'
import { silentLogger } from '../../src/observe/log.js'
import { openChannel } from '../../src/rpc/channel.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { LinkKeeper, type KeeperEvent } from '../../src/site/link-keeper.js'
import { restartStaticLink } from '../../src/site/link-recipe.js'
import { openSiteConnection } from '../../src/site/site-connection.js'
import { StaticKeeper, type StaticKeeperOptions } from '../../src/site/static-keeper.js'
import { EventLog } from '../../src/standin/event-log.js'
import { startCppSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startJavaSiteAgent } from '../../src/standin/java-site-agent.js'
import { callUnary } from '../../src/standin/wire.js'
import { soon, useBench } from '../standin/support/bench.js'
import { registration, runSite, untilRegistration } from './support/run-site.js'
import { testKeys } from '../standin/support/plain-device.js'
import { poll } from '../standin/support/poll.js'

const bench = useBench()

/** A static link between device A_B_A at site A, the network manager, and device A_B_B at site B. */
async function staticLink() {
  const probe = await startCppSiteAgent({ name: 'port of A' })
  const addressA = probe.address
  await probe.close()
  const b = await bench.site({ name: 'B', seat: 'right', networkManager: addressA })
  const a = await bench.site({
    name: 'A',
    port: Number(addressA.split(':')[1]),
    staticHops: [[{ first: { site: addressA, deviceId: 'A_B_A' }, second: { site: b.url, deviceId: 'A_B_B' } }]],
  })
  const alice = await bench.device()
  const bob = await bench.device()
  const left = runSite(a.address)
  const right = runSite(b.address, { registration: { ...registration, id: 'A_B_B', side: 'bob' } })
  bench.after(() => left.stop())
  bench.after(() => right.stop())
  right.site.setControlAddress(parseHostPort(bob.address, 'test'), '')
  await untilRegistration(right.site.state, 'registered')
  left.site.setControlAddress(parseHostPort(alice.address, 'test'), '')
  await untilRegistration(left.site.state, 'registered')
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  return { a, b, alice, bob, left, right }
}

test('a registration that stands does not disturb a static link, however often it is looked at', async () => {
  const { alice, bob } = await staticLink()
  const calls = alice.calls.history.length + bob.calls.history.length
  await new Promise((resolve) => setTimeout(resolve, 500))
  expect(alice.calls.history.length + bob.calls.history.length).toBe(calls)
})

test('registering anew starts a static link again whose streams were cut, at either site', async () => {
  const { a, b, alice, bob, left, right } = await staticLink()
  for (const { site } of [left, right]) {
    a.killStreams()
    b.killStreams()
    await poll(() => alice.openStreams + bob.openStreams).toBe(0)
    const from = alice.calls.history.length
    await site.registerAnew()
    await alice.calls.until(({ call }) => call === 'WaitForSession', soon(), from)
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    expect(a.devices()).toHaveLength(1)
    expect(b.devices()).toHaveLength(1)
  }
})

test('a device that moved makes a static link start with the new address', async () => {
  const { alice, bob, left } = await staticLink()
  const moved = await bench.device()
  left.site.setControlAddress(parseHostPort(moved.address, 'test'), '')
  await moved.calls.until(({ call }) => call === 'WaitForSession', soon())
  await poll(() => [alice.openStreams, moved.openStreams, bob.openStreams]).toEqual([0, 1, 1])
})

describe('the keeper of a static link', () => {
  function keep(
    made: Awaited<ReturnType<typeof staticLink>>,
    options: Partial<StaticKeeperOptions> = {},
  ): EventLog<KeeperEvent> {
    const events = new EventLog<KeeperEvent>()
    const keeper = new StaticKeeper({
      site: made.left.site,
      own: () => (made.alice.openStreams > 0 ? 'running' : 'waiting'),
      ownLacks: () => undefined,
      maySettle: () => true,
      clock: systemClock,
      random: systemRandom,
      onEvent: (event) => events.emit(event),
      lookMs: 20,
      graceMs: 100,
      pauseFirstMs: 100,
      pauseMaxMs: 400,
      ...options,
    })
    const stop = new AbortController()
    const running = keeper.run(stop.signal)
    bench.after(async () => {
      stop.abort()
      await running
    })
    return events
  }

  test('leaves it alone while it runs, and after a cut of both streams registers anew: keys come again', async () => {
    const made = await staticLink()
    const { a, b, alice, bob } = made
    const events = keep(made)
    await events.until((e) => e.event === 'state' && e.message === 'the link runs', soon())
    const unregistered = (): number => a.events.history.filter((e) => e.event === 'unregistered').length
    expect(unregistered()).toBe(0)
    for (let cut = 1; cut <= 2; cut += 1) {
      const from = events.history.length
      a.killStreams()
      b.killStreams()
      await events.until((e) => e.event === 'call' && e.call === 'RegisterDevice', soon(), from)
      await poll(() => alice.openStreams + bob.openStreams).toBe(2)
      const had = a.receivedKeys().length
      await alice.send(testKeys(3))
      await poll(() => a.receivedKeys().length).toBe(had + 3)
      expect(unregistered()).toBe(cut)
    }
  })

  test('touches nothing while a batch is unsettled, nor while the device cannot be reached', async () => {
    const made = await staticLink()
    let settled = false
    let lacks: string | undefined
    const events = keep(made, { maySettle: () => settled, ownLacks: () => lacks })
    await events.until((e) => e.event === 'state' && e.message === 'the link runs', soon())
    made.a.killStreams()
    made.b.killStreams()
    await events.until((e) => e.event === 'state' && e.message.includes('a batch is being settled'), soon())
    lacks = 'our own control address is not proven'
    settled = true
    await events.until((e) => e.event === 'state' && e.message.includes('not proven'), soon())
    expect(events.history.filter((e) => e.event === 'starting')).toEqual([])
    expect(made.a.events.history.filter((e) => e.event === 'unregistered')).toEqual([])
    lacks = undefined
    await poll(() => made.alice.openStreams + made.bob.openStreams).toBe(2)
  })
})

test('a keeper outside both gateways, told that the link is static, registers the left device anew', async () => {
  const { a, b, alice, bob } = await staticLink()
  const events = new EventLog<KeeperEvent>()
  const end = ({ address }: { address: string }, deviceId: string) => ({
    ...{ address: parseHostPort(address, 'test'), deviceId },
    openChannel: () => openChannel({ address, what: 'test' }),
  })
  const keeper = new LinkKeeper({
    ...{ left: end(a, 'A_B_A'), right: end(b, 'A_B_B'), registerAnew: 'from outside' },
    ...{ clock: systemClock, random: systemRandom, log: silentLogger, onEvent: (event) => events.emit(event) },
    ...{ lookMs: 50, graceMs: 200, pauseFirstMs: 200, pauseMaxMs: 400 },
  })
  const stop = new AbortController()
  const running = keeper.run(stop.signal)
  bench.after(async () => {
    stop.abort()
    await running
  })
  await events.until((e) => e.event === 'state' && e.message === 'the link runs', soon())
  const from = events.history.length
  a.killStreams()
  b.killStreams()
  await events.until((e) => e.event === 'call' && e.call === 'RegisterDevice' && e.answer === 'OK', soon(), from)
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  expect(events.history.filter((e) => e.event === 'call' && e.call === 'StartNode')).toEqual([])
})

test('registering anew from outside keeps what else the registration held, and tries until it stands again', async () => {
  const { a, alice, bob, left } = await staticLink()
  // The gateway is gone, and the registration of a device that nobody else would register stands.
  const extra = { config: { id: 'A_B_A', side: 0, kind: 'qix' }, bindAddress: alice.address, siteAgentAddress: 'kept' }
  await left.stop()
  await callUnary(bench.client(a), ISiteAgent.method.registerDevice, extra)
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  a.killStreams()
  a.faults.registerRefusedWith = status.UNAVAILABLE
  const connection = openSiteConnection(parseHostPort(a.address, 'test'), () =>
    openChannel({ address: a.address, what: 'test' }),
  )
  bench.after(() => connection.close())
  const steps = new EventLog<string>()
  const restarted = restartStaticLink({
    ...{ connection, deviceId: 'A_B_A', callTimeoutMs: 5_000, registerTimeoutMs: 5_000 },
    ...{ signal: soon(), clock: systemClock, random: systemRandom },
    onStep: ({ call, answer }) => steps.emit(`${call}: ${answer}`),
  })
  await steps.until((step) => step.startsWith('RegisterDevice: ') && step.includes('refused on command'), soon())
  a.faults.registerRefusedWith = undefined
  await restarted
  await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  const { devices } = await callUnary(bench.client(a), ISiteAgent.method.getSiteDetails, {})
  expect(devices).toHaveLength(1)
  expect(devices[0]).toMatchObject({ bindAddress: alice.address, siteAgentAddress: 'kept' })
})

test('a Java SiteAgent cannot be asked to register anew', async () => {
  const agent = await startJavaSiteAgent({ name: 'A' })
  bench.after(() => agent.close())
  const running = runSite(agent.address)
  bench.after(() => running.stop())
  running.site.setControlAddress({ host: '127.0.0.1', port: 9000 }, '')
  await untilRegistration(running.site.state, 'registered')
  await expect(running.site.registerAnew()).rejects.toMatchObject({ code: 'E_SITE_REFUSED' })
})
