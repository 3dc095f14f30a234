/** The metrics of running gateways, scraped as Prometheus does, while the devices and the network misbehave. */
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { keysAddUp, type Metric, parsePrometheus, sumOf, valueOf } from '../observe/prometheus-text.js'
import { closeLab, eventually, type GatewayProcess, startGateway, tempFolder } from './support/lab.js'
import { startTwoSites } from './support/two-sites.js'

afterEach(closeLab)

async function addressOf(gateway: GatewayProcess): Promise<string> {
  return eventually('the address of the metrics', async () => {
    const metrics = (await gateway.status().catch(() => undefined))?.parts['server']?.facts?.['metrics']
    return typeof metrics === 'string' && /^127\.0\.0\.1:\d+$/.test(metrics) ? metrics : undefined
  })
}

async function scrape(address: string): Promise<{ text: string; metrics: ReadonlyMap<string, Metric> }> {
  const text = await (await fetch(`http://${address}/metrics`)).text()
  return { text, metrics: parsePrometheus(text) }
}

it('account for every key at both sites through faults, agree with each other, and hold no key', async () => {
  const { units, agents, gateways } = await startTwoSites({ rate: 200, flags: ['--metrics', '127.0.0.1:0'] })
  const addresses = await Promise.all(gateways.map(addressOf))
  const texts: string[] = []
  const both = async (): Promise<readonly ReadonlyMap<string, Metric>[]> => {
    const read = await Promise.all(addresses.map(scrape))
    texts.push(...read.map(({ text }) => text))
    for (const { metrics } of read) expect(keysAddUp(metrics)).toBe(true)
    return read.map(({ metrics }) => metrics)
  }
  const faults: readonly (readonly [number, string, ...string[]])[] = [
    [0, 'corrupt', '3'],
    [1, 'drop', '4'],
    [0, 'repeat', '4'],
    [1, 'compromised', '2'],
  ]
  for (const [unit, name, ...args] of faults) {
    await units[unit]?.fault(name, ...args)
    const before = Math.min(...agents.map(({ count }) => count))
    await eventually('60 further keys at both', async () => {
      await both()
      return agents.every(({ count }) => count >= before + 60)
    })
  }
  // The way between the sites breaks: the counts still hold, and what happened has a name.
  agents[1].kill('SIGSTOP')
  await eventually('a batch is owed, on its way or waits', async () => {
    const [left] = await both()
    return left !== undefined && sumOf(left, 'qkdgw_keys_held') > 0
  })
  agents[1].kill('SIGCONT')

  const last = await eventually('both sides tell the same of both SiteAgents', async () => {
    const [left, right] = await both()
    if (left === undefined || right === undefined) return undefined
    const total = (metrics: ReadonlyMap<string, Metric>, site: string): number =>
      valueOf(metrics, 'qkdgw_site_keys_generated', { site }) ?? NaN
    const same = total(left, 'here') === total(right, 'there') && total(left, 'there') === total(right, 'here')
    return same && total(left, 'here') > 200 ? { left, right } : undefined
  })
  for (const metrics of [last.left, last.right]) {
    expect(valueOf(metrics, 'qkdgw_link_state', { state: 'delivering' })).toBe(1)
    expect(valueOf(metrics, 'qkdgw_session_state', { state: 'started' })).toBe(1)
    expect(valueOf(metrics, 'qkdgw_tunnel_state', { state: 'proven' })).toBe(1)
    expect(valueOf(metrics, 'qkdgw_device_state', { state: 'producing' })).toBe(1)
    expect(valueOf(metrics, 'qkdgw_sites_skew_max_seconds')).toBeGreaterThanOrEqual(0)
    expect(valueOf(metrics, 'qkdgw_keys_sacrificed_total')).toBeGreaterThan(0)
    for (const site of ['here', 'there']) {
      const confirmed = valueOf(metrics, 'qkdgw_site_last_confirmed_timestamp_seconds', { site }) ?? 0
      expect(Math.abs(Date.now() / 1_000 - confirmed)).toBeLessThan(60)
    }
  }
  expect(valueOf(last.left, 'qkdgw_device_keys_discarded_total', { reason: 'repeated' })).toBe(4)
  const keys = await agents[0].keys()
  const written = texts.join('')
  for (const key of keys) expect(written.includes(key.slice(0, 16))).toBe(false)
})

it('are off where that is said, and a port that is taken keeps no gateway from its work', async () => {
  const device = join(tempFolder(), 'tty')
  const first = startGateway({ device, side: 'alice', id: 'M_N_M', flags: ['--metrics', '127.0.0.1:0'] })
  const address = await addressOf(first)
  const second = startGateway({ device: `${device}2`, side: 'bob', id: 'M_N_N', flags: ['--metrics', address] })
  expect(await second.said(/metrics: .* is taken/)).toContain(address)
  const { parts } = await second.untilPart('server', 'serving')
  expect(parts['server']?.facts?.['metrics']).toContain('is taken')
  const off = startGateway({ device: `${device}3`, side: 'bob', id: 'M_N_O', flags: ['--metrics', 'off'] })
  expect((await off.untilPart('server', 'serving')).parts['server']?.facts?.['metrics']).toBe('off')
  const wrong = startGateway({ device: `${device}4`, side: 'bob', id: 'M_N_P', flags: ['--metrics', '192.0.2.1:9'] })
  expect((await wrong.ended).code).toBe(3)
  expect(wrong.stderr()).toContain('--metrics')
})
