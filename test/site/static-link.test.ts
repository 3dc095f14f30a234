import { expect, test } from 'vitest'
import { parseHostPort } from '../../src/base/host-port.js'
import { startCppSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startJavaSiteAgent } from '../../src/standin/java-site-agent.js'
import { soon, useBench } from '../standin/support/bench.js'
import { registration, runSite, untilRegistration } from './support/run-site.js'
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

test('a Java SiteAgent cannot be asked to register anew', async () => {
  const agent = await startJavaSiteAgent({ name: 'A' })
  bench.after(() => agent.close())
  const running = runSite(agent.address)
  bench.after(() => running.stop())
  running.site.setControlAddress({ host: '127.0.0.1', port: 9000 }, '')
  await untilRegistration(running.site.state, 'registered')
  await expect(running.site.registerAnew()).rejects.toMatchObject({ code: 'E_SITE_REFUSED' })
})
