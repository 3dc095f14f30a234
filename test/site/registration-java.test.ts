import { afterEach, describe, expect, test } from 'vitest'
import { GatewayError } from '../../src/base/errors.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import type { SiteOptions } from '../../src/site/site.js'
import { startCppSiteAgent } from '../../src/standin/cpp-site-agent.js'
import {
  startJavaSiteAgent,
  type JavaSiteAgentOptions,
  type StandinJavaSiteAgent,
} from '../../src/standin/java-site-agent.js'
import { callUnary, dial } from '../../src/standin/wire.js'
import { registration, runSite, untilRegistration, type RunningSite } from './support/run-site.js'
import { poll } from '../standin/support/poll.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function agent(options: Partial<JavaSiteAgentOptions> = {}): Promise<StandinJavaSiteAgent> {
  const made = await startJavaSiteAgent({ name: 'A', ...options })
  cleanups.push(() => made.close())
  return made
}

function run(address: string, options: Partial<SiteOptions> = {}): RunningSite {
  const running = runSite(address, options)
  cleanups.push(() => running.stop())
  return running
}

const at = (port: number, host = '127.0.0.1') => ({ host, port })

describe('at a Java SiteAgent', () => {
  test.each(['openqkd', 'upstream'] as const)(
    'the registration is read rightly in the %s numbering, and counts although it is never answered',
    async (dialect) => {
      const made = await agent({ dialect })
      const { site } = run(made.address)
      site.setControlAddress(at(9000), '')
      const began = performance.now()
      await untilRegistration(site.state, 'registered')
      expect(performance.now() - began).toBeLessThan(5_000)
      expect(made.devices()).toEqual([{ id: 'A_B_A', controlAddress: '127.0.0.1:9000' }])
      expect(site.dialect()).toBe('java')
    },
  )

  test('has no reports, and that is shown', async () => {
    const made = await agent()
    const { site } = run(made.address)
    site.setControlAddress(at(9000), '')
    await untilRegistration(site.state, 'registered')
    expect(site.reporting()).toBe(false)
  })

  test('that forgot the device in a restart is told again', async () => {
    const made = await agent()
    const { site } = run(made.address)
    site.setControlAddress(at(9000), '')
    await untilRegistration(site.state, 'registered')
    await made.restart(50)
    await poll(() => made.devices().length).toBe(1)
    await untilRegistration(site.state, 'registered')
  })

  test('that holds an earlier address is registered with all the same, and the user is told in one sentence', async () => {
    const made = await agent()
    const client = dial(made.address)
    cleanups.push(() => client.close())
    const details = { config: { id: 'A_B_A', kind: 'qix' }, controlAddress: '127.0.0.1:8999' }
    callUnary(client, ISiteAgent.method.registerDevice, details).catch(() => {})
    await poll(() => made.devices().length).toBe(1)
    const { site } = run(made.address)
    site.setControlAddress(at(9000), '')
    const told = await untilRegistration(site.state, 'needs-attention')
    expect(told.reason).toBe(
      `the SiteAgent ${made.address} also holds an earlier registration of A_B_A (control address 127.0.0.1:8999), which it cannot forget and may use`,
    )
    expect(told.remedy).toContain('restart that SiteAgent')
    expect(made.devices().map(({ controlAddress }) => controlAddress)).toContain('127.0.0.1:9000')
    await made.restart()
    await untilRegistration(site.state, 'registered')
    expect(made.devices()).toEqual([{ id: 'A_B_A', controlAddress: '127.0.0.1:9000' }])
  })

  test('is not given an id that it cannot use: the run ends and names the form', async () => {
    const made = await agent()
    const running = run(made.address, { registration: { ...registration, id: 'dummyqkd__0__16_alice' } })
    running.site.setControlAddress(at(9000), '')
    const error = await running.ended
    expect(error).toBeInstanceOf(GatewayError)
    expect(error).toMatchObject({ code: 'E_SITE_ID', exitCode: 3 })
    expect((error as GatewayError).message).toContain('FIRST_SECOND_OWN')
    expect(made.devices()).toEqual([])
  })

  test('is not given an IPv6 address, which it would split', async () => {
    const made = await agent()
    const { site } = run(made.address)
    site.setControlAddress(at(9000, '::1'), '')
    expect((await untilRegistration(site.state, 'failed')).reason).toContain('[::1]:9000')
    expect(made.devices()).toEqual([])
  })

  test('keeps the registration at a stop, which is quick all the same', async () => {
    const made = await agent()
    const running = run(made.address)
    running.site.setControlAddress(at(9000), '')
    await untilRegistration(running.site.state, 'registered')
    const began = performance.now()
    await running.stop()
    expect(performance.now() - began).toBeLessThan(1_000)
    expect(made.devices()).toHaveLength(1)
  })
})

test('elsewhere an id that a Java site could not use is only warned about', async () => {
  const made = await startCppSiteAgent({ name: 'A' })
  cleanups.push(() => made.close())
  const { site } = run(made.address, { registration: { ...registration, id: 'dummyqkd__0__16_alice' } })
  site.setControlAddress(at(9000), '')
  await untilRegistration(site.state, 'registered')
  expect(site.warnings().join()).toContain('three parts joined by "_"')
})

test('a SiteAgent of the other kind that comes up at the same address is recognised', async () => {
  const java = await agent()
  const { site } = run(java.address)
  site.setControlAddress(at(9000), '')
  await untilRegistration(site.state, 'registered')
  expect(site.dialect()).toBe('java')
  const port = Number(java.address.split(':')[1])
  await java.close()
  await untilRegistration(site.state, 'failed')
  const cpp = await startCppSiteAgent({ name: 'A', port })
  cleanups.push(() => cpp.close())
  await untilRegistration(site.state, 'registered')
  expect(site.dialect()).toBe('cpp')
})
