import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, test } from 'vitest'
import type { SiteOptions } from '../../src/site/site.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { startCppSiteAgent, type StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import type { CppSiteAgentOptions } from '../../src/standin/cpp-options.js'
import { callUnary, dial } from '../../src/standin/wire.js'
import { runSite, untilRegistration, type RunningSite } from './support/run-site.js'
import { startPlainDevice, testKeys } from '../standin/support/plain-device.js'
import { poll } from '../standin/support/poll.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
const soon = (): AbortSignal => AbortSignal.timeout(15_000)

async function agent(options: Partial<CppSiteAgentOptions> = {}): Promise<StandinSiteAgent> {
  const made = await startCppSiteAgent({ name: 'A', connectWaitMs: 500, ...options })
  cleanups.push(() => made.close())
  return made
}

function run(address: string, options: Partial<SiteOptions> = {}): RunningSite {
  const running = runSite(address, options)
  cleanups.push(() => running.stop())
  return running
}

const until = untilRegistration

const address = (port: number) => ({ host: '127.0.0.1', port })

describe('at a C++ SiteAgent', () => {
  test.each(['upstream', 'openqkd'] as const)(
    'the registration is read rightly in the %s numbering',
    async (dialect) => {
      const made = await agent({ dialect })
      const { site } = run(made.address)
      site.setControlAddress(address(9000), '')
      const state = await until(site.state, 'registered')
      expect(state).toEqual({ state: 'registered', controlAddress: '127.0.0.1:9000', confirmed: true })
      expect(made.devices()).toEqual([{ id: 'A_B_A', controlAddress: '127.0.0.1:9000' }])
      expect(site.dialect()).toBe('cpp')
    },
  )

  test('nothing is registered before there is a control address, and the reason is shown', async () => {
    const made = await agent()
    const { site } = run(made.address)
    site.setControlAddress(undefined, 'a proven tunnel')
    await poll(() => site.state.value).toEqual({ state: 'waiting', waitingFor: 'a proven tunnel' })
    expect(made.devices()).toEqual([])
  })

  test('a SiteAgent that forgot the device in a restart is told again', async () => {
    const made = await agent()
    const { site } = run(made.address)
    site.setControlAddress(address(9000), '')
    await until(site.state, 'registered')
    const from = made.events.history.length
    await made.restart(50)
    await made.events.until((e) => e.event === 'step' && e.name === 'RegisterDevice', soon(), from)
    await until(site.state, 'registered')
    expect(made.devices()).toHaveLength(1)
  })

  test('a registration that is shown right is never touched', async () => {
    const made = await agent()
    const first = run(made.address)
    first.site.setControlAddress(address(9000), '')
    await until(first.site.state, 'registered')
    const from = made.events.history.length
    const second = run(made.address)
    second.site.setControlAddress(address(9000), '')
    await until(second.site.state, 'registered')
    expect(made.events.history.slice(from)).toEqual([])
  })

  test('a device that comes back with another address unregisters until none is left, then registers', async () => {
    const made = await agent()
    const client = dial(made.address)
    cleanups.push(() => client.close())
    for (const port of [9001, 9002, 9003]) {
      await callUnary(client, ISiteAgent.method.registerDevice, {
        config: { id: 'A_B_A', kind: 'qix' },
        bindAddress: `127.0.0.1:${port}`,
      })
    }
    const { site } = run(made.address)
    site.setControlAddress(address(9000), '')
    await until(site.state, 'registered')
    expect(made.devices()).toEqual([{ id: 'A_B_A', controlAddress: '127.0.0.1:9000' }])
    expect(made.events.history.filter((e) => e.event === 'unregistered')).toHaveLength(3)
    site.setControlAddress(address(9010), '')
    await poll(() => site.state.value).toMatchObject({ controlAddress: '127.0.0.1:9010', confirmed: true })
    expect(made.devices()).toEqual([{ id: 'A_B_A', controlAddress: '127.0.0.1:9010' }])
  })

  test('a right entry in front of stale ones is left alone and the stale ones are told', async () => {
    const made = await agent()
    const first = run(made.address)
    first.site.setControlAddress(address(9000), '')
    await until(first.site.state, 'registered')
    const client = dial(made.address)
    cleanups.push(() => client.close())
    await callUnary(client, ISiteAgent.method.registerDevice, { config: { id: 'A_B_A' }, bindAddress: '127.0.0.1:1' })
    await poll(() => first.site.warnings().join()).toContain('1 further registration')
    expect(made.devices()).toHaveLength(2)
  })

  test('a clean stop takes every entry of the device back', async () => {
    const made = await agent()
    const running = run(made.address)
    const { site } = running
    site.setControlAddress(address(9000), '')
    await until(site.state, 'registered')
    await running.stop()
    expect(made.devices()).toEqual([])
    expect(site.state.value).toEqual({ state: 'unregistered' })
  })

  test('a stop is bounded while the SiteAgent does not answer', async () => {
    const made = await agent()
    const running = run(made.address, { unregisterTimeoutMs: 200 })
    const { site } = running
    site.setControlAddress(address(9000), '')
    await until(site.state, 'registered')
    await made.close()
    const began = performance.now()
    await running.stop()
    expect(performance.now() - began).toBeLessThan(2_000)
  })

  test('a RegisterDevice that is answered late counts as soon as the SiteAgent shows the device', async () => {
    const made = await agent({ faults: { registerDelayMs: 5_000 } })
    const { site } = run(made.address)
    site.setControlAddress(address(9000), '')
    const began = performance.now()
    await until(site.state, 'registered')
    expect(performance.now() - began).toBeLessThan(3_000)
    expect(made.devices()).toHaveLength(1)
  })

  test('a RegisterDevice that is lost is repeated until the SiteAgent shows the device', async () => {
    const made = await agent({ faults: { registerNeverAnswers: true } })
    const { site } = run(made.address, { registerTimeoutMs: 100 })
    site.setControlAddress(address(9000), '')
    await until(site.state, 'failed')
    made.faults.registerNeverAnswers = false
    await until(site.state, 'registered')
    expect(made.devices()).toHaveLength(1)
  })

  test('a refusal is shown with its reason and tried again', async () => {
    const made = await agent({ faults: { registerRefusedWith: status.PERMISSION_DENIED } })
    const { site } = run(made.address)
    site.setControlAddress(address(9000), '')
    const failed = await until(site.state, 'failed')
    expect(failed.reason).toContain('RegisterDevice')
    expect(failed.reason).toContain('PERMISSION_DENIED')
    made.faults.registerRefusedWith = undefined
    await until(site.state, 'registered')
  })

  test('a SiteAgent that is not there yet is waited for', async () => {
    const made = await agent()
    const at = made.address
    await made.close()
    const { site } = run(at)
    site.setControlAddress(address(9000), '')
    expect((await until(site.state, 'failed')).reason).toContain(at)
    await made.restart()
    await until(site.state, 'registered')
  })

  test('one silent poll is "not confirmed", a second one is a failure, and an answer mends it', async () => {
    const made = await agent()
    const { site } = run(made.address, { callTimeoutMs: 150 })
    site.setControlAddress(address(9000), '')
    await until(site.state, 'registered')
    const seen: string[] = []
    site.state.subscribe((state) => seen.push(state.state === 'registered' ? String(state.confirmed) : state.state))
    made.faults.detailsNeverAnswer = true
    await until(site.state, 'failed')
    made.faults.detailsNeverAnswer = false
    await until(site.state, 'registered')
    expect(seen).toEqual(['false', 'failed', 'true'])
    expect(made.devices()).toHaveLength(1)
  })

  test('forty thousand other devices do not hide ours', async () => {
    const made = await agent({ faults: { inventedDevices: 40_000 } })
    const { site } = run(made.address, { callTimeoutMs: 20_000, pollMs: 60_000 })
    site.setControlAddress(address(9000), '')
    await until(site.state, 'registered')
  })

  test('an answer that is too large is named with both sizes', async () => {
    const made = await agent({ faults: { inventedDevices: 60_000 } })
    const { site } = run(made.address, { callTimeoutMs: 20_000 })
    site.setControlAddress(address(9000), '')
    const failed = await until(site.state, 'failed')
    expect(failed.reason).toMatch(/the answer has \d+ bytes, more than the \d+ bytes taken here/)
  })
})

describe('the reports of a C++ SiteAgent', () => {
  test('tell the total of each batch over all sessions, once the subscription is known to be open', async () => {
    const a = await agent()
    const b = await agent({ name: 'B' })
    const devices = [await startPlainDevice(), await startPlainDevice()] as const
    cleanups.push(
      () => devices[0].close(),
      () => devices[1].close(),
    )
    const clientA = dial(a.address)
    const clientB = dial(b.address)
    cleanups.push(
      () => clientA.close(),
      () => clientB.close(),
    )
    await callUnary(clientA, ISiteAgent.method.registerDevice, { config: { id: 'a' }, bindAddress: devices[0].address })
    await callUnary(clientB, ISiteAgent.method.registerDevice, { config: { id: 'b' }, bindAddress: devices[1].address })
    const { site } = run(a.address)
    const totals: bigint[] = []
    site.onTotal(({ total }) => totals.push(total))
    await poll(() => site.reporting()).toBe(true)
    await callUnary(
      clientA,
      ISiteAgent.method.startNode,
      pathOf({ site: a.url, deviceId: 'a' }, { site: b.url, deviceId: 'b' }),
    )
    await poll(() => devices[0].openStreams).toBe(1)
    await devices[0].send(testKeys(3))
    await devices[0].send(testKeys(4))
    await poll(() => totals).toEqual([3n, 7n])
  })

  test('are not trusted while the SiteAgent does not answer, and again when it does', async () => {
    const made = await agent()
    const { site } = run(made.address, { callTimeoutMs: 150 })
    site.setControlAddress(address(9000), '')
    await poll(() => site.reporting()).toBe(true)
    made.faults.detailsNeverAnswer = true
    await poll(() => site.reporting()).toBe(false)
    made.faults.detailsNeverAnswer = false
    await poll(() => site.reporting()).toBe(true)
    await made.restart()
    await poll(() => site.reporting()).toBe(true)
  })
})
