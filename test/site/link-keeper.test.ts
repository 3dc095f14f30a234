import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { parseHostPort } from '../../src/base/host-port.js'
import { systemRandom } from '../../src/base/random.js'
import { silentLogger } from '../../src/observe/log.js'
import { openChannel } from '../../src/rpc/channel.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { LinkKeeper, type KeeperEvent, type LinkKeeperOptions } from '../../src/site/link-keeper.js'
import { startCppSiteAgent, type StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startJavaSiteAgent } from '../../src/standin/java-site-agent.js'
import { callUnary, dial } from '../../src/standin/wire.js'
import { startPlainDevice, testKeys, type PlainDevice } from '../standin/support/plain-device.js'
import { EventLog } from '../../src/standin/event-log.js'
import { poll } from '../standin/support/poll.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
const soon = (): AbortSignal => AbortSignal.timeout(15_000)

async function registered(agent: StandinSiteAgent, id: string, device: PlainDevice): Promise<void> {
  const client = dial(agent.address)
  await callUnary(client, ISiteAgent.method.registerDevice, { config: { id }, bindAddress: device.address })
  client.close()
}

async function link() {
  const left = await startCppSiteAgent({ name: 'A', connectWaitMs: 500 })
  const right = await startCppSiteAgent({ name: 'B', connectWaitMs: 500 })
  const alice = await startPlainDevice()
  const bob = await startPlainDevice()
  cleanups.push(
    () => left.close(),
    () => right.close(),
    () => alice.close(),
    () => bob.close(),
  )
  await registered(left, 'a', alice)
  await registered(right, 'b', bob)
  return { left, right, alice, bob }
}

function keep(
  left: { address: string },
  right: { address: string },
  options: Partial<LinkKeeperOptions> = {},
  ids = { left: 'a', right: 'b' },
) {
  const events = new EventLog<KeeperEvent>()
  const end = (agent: { address: string }, deviceId: string) => ({
    address: parseHostPort(agent.address, 'test'),
    deviceId,
    openChannel: () => openChannel({ address: agent.address, what: 'test' }),
  })
  const keeper = new LinkKeeper({
    left: end(left, ids.left),
    right: end(right, ids.right),
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    onEvent: (event) => events.emit(event),
    lookMs: 50,
    graceMs: 200,
    pauseFirstMs: 200,
    pauseMaxMs: 400,
    callTimeoutMs: 1_000,
    ...options,
  })
  const controller = new AbortController()
  const running = keeper.run(controller.signal)
  cleanups.push(async () => {
    controller.abort()
    await running
  })
  return { keeper, events }
}

describe('at C++ sites', () => {
  test('a link that does not run is started, and one that runs is left alone', async () => {
    const { left, right, alice, bob } = await link()
    const { events } = keep(left, right)
    await events.until((e) => e.event === 'state' && e.message === 'the link runs', soon())
    expect(alice.openStreams + bob.openStreams).toBe(2)
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(events.history.filter((e) => e.event === 'starting')).toHaveLength(1)
  })

  test('after a cut of both streams, which a SiteAgent never mends, keys flow again', async () => {
    const { left, right, alice, bob } = await link()
    const { events } = keep(left, right)
    await events.until((e) => e.event === 'state' && e.message === 'the link runs', soon())
    left.killStreams()
    right.killStreams()
    const from = events.history.length
    await events.until((e) => e.event === 'call' && e.call === 'StartNode' && e.answer === 'OK', soon(), from)
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    await alice.send(testKeys(2))
    await left.events.until((e) => e.event === 'keys' && e.count === 2, soon())
  })

  test('after a restart of the left site alone, the session that still stands at the right is ended there', async () => {
    const { left, right, alice, bob } = await link()
    const { events } = keep(left, right)
    await events.until((e) => e.event === 'state' && e.message === 'the link runs', soon())
    await left.restart()
    const from = events.history.length
    await events.until((e) => e.event === 'state' && e.message.includes('not registered'), soon(), from)
    await registered(left, 'a', alice)
    await events.until((e) => e.event === 'call' && e.site === 'right', soon(), from)
    await events.until((e) => e.event === 'call' && e.call === 'StartNode' && e.answer === 'OK', soon(), from)
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    expect(bob.calls.history.filter(({ call }) => call === 'RunSession')).toHaveLength(2)
  })

  test('nothing is touched while a batch is unsettled', async () => {
    const { left, right, alice } = await link()
    let settled = false
    const { events } = keep(left, right, { maySettle: () => settled })
    await events.until((e) => e.event === 'state' && e.message.includes('a batch is being settled'), soon())
    expect(alice.calls.history).toEqual([])
    settled = true
    await alice.calls.until(({ call }) => call === 'WaitForSession', soon())
  })
})

describe('at Java sites', () => {
  const ids = { left: 'A_B_A', right: 'A_B_B' }

  async function javaLink() {
    const right = await startJavaSiteAgent({ name: 'B' })
    const left = await startJavaSiteAgent({ name: 'A' })
    const alice = await startPlainDevice()
    const bob = await startPlainDevice()
    cleanups.push(
      () => left.close(),
      () => right.close(),
      () => alice.close(),
      () => bob.close(),
    )
    for (const [agent, id, device] of [
      [left, ids.left, alice],
      [right, ids.right, bob],
    ] as const) {
      const client = dial(agent.address)
      const details = { config: { id }, controlAddress: device.address }
      callUnary(client, ISiteAgent.method.registerDevice, details).catch(() => {})
      await poll(() => agent.devices().length).toBe(1)
      client.close()
    }
    return { left, right, alice, bob }
  }

  test('StartNode alone starts and restarts a link, and silence counts as success', async () => {
    const { left, right, alice, bob } = await javaLink()
    const { events } = keep(left, right, { recipeTimeoutMs: 300 }, ids)
    await events.until((e) => e.event === 'call' && e.answer.includes('means success'), soon())
    await events.until((e) => e.event === 'state' && e.message === 'the link runs', soon())
    expect(alice.openStreams + bob.openStreams).toBe(2)
    expect(events.history.some((e) => e.event === 'call' && e.call === 'EndKeyExchange')).toBe(false)
    left.killStreams()
    right.killStreams()
    const from = events.history.length
    await events.until((e) => e.event === 'call' && e.call === 'StartNode', soon(), from)
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
  })

  test('where no device can be asked and no site tells totals, the link is started once and then left alone', async () => {
    const { left, right, alice } = await javaLink()
    const openDevice = () => Promise.reject(new Error('behind a firewall'))
    const { events } = keep(left, right, { recipeTimeoutMs: 100, openDevice }, ids)
    await events.until((e) => e.event === 'state' && e.message.startsWith('started; nothing here shows'), soon())
    await new Promise((resolve) => setTimeout(resolve, 600))
    expect(events.history.filter((e) => e.event === 'starting')).toHaveLength(1)
    expect(alice.openStreams).toBe(1)
  })
})
