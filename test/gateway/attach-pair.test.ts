/** Pairs of devices that make their keys by calls between them, through two whole gateways, tunnels and SiteAgents. */
import { readFileSync, statSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { startCli } from '../support/cli.js'
import { startCCoreSiteAgent, startNode, type CCoreSiteAgent } from './support/c-core-site-agent.js'
import { installClavis2Host, optionFlags } from './support/clavis2-host.js'
import { closeLab, eventually, startEmbeddedSshd, startGateway, type GatewayProcess } from './support/lab.js'

afterEach(closeLab)

/** The same key at both ends, as somebody carried it there. */
const CARRIED = '0123456789ABCDEF'.repeat(4)

interface PairEnd {
  readonly device: string
  readonly flags: readonly string[]
}

interface PairSites {
  readonly agents: readonly [CCoreSiteAgent, CCoreSiteAgent]
  readonly gateways: readonly [GatewayProcess, GatewayProcess]
  /** Waits for so many keys at both, and shows that they are the same in the same order. */
  expectEqual(count: number): Promise<void>
}

async function startPair(driver: string, ends: readonly [PairEnd, PairEnd]): Promise<PairSites> {
  const [sshA, sshB, agentA, agentB] = await Promise.all([
    startEmbeddedSshd(),
    startEmbeddedSshd(),
    startCCoreSiteAgent(),
    startCCoreSiteAgent(),
  ])
  const start = (index: 0 | 1): GatewayProcess =>
    startGateway({
      device: ends[index].device,
      side: index === 0 ? 'alice' : 'bob',
      ssh: index === 0 ? sshA : sshB,
      siteAgent: (index === 0 ? agentA : agentB).address,
      flags: ['--driver', driver, ...ends[index].flags],
    })
  const gateways = [start(0), start(1)] as const
  await Promise.all(gateways.map((gateway) => gateway.untilPart('registration', 'registered')))
  await Promise.all(gateways.map((gateway) => gateway.untilPart('device', 'identified')))
  const [a, b] = gateways
  await startNode(agentA.address, agentB.address, [a.id, b.id])
  return {
    agents: [agentA, agentB],
    gateways,
    async expectEqual(count) {
      await Promise.all([agentA.untilKeys(count), agentB.untilKeys(count)])
      const [left, right] = await Promise.all([agentA.keys(), agentB.keys()])
      const common = Math.min(left.length, right.length)
      expect(common).toBeGreaterThanOrEqual(count)
      expect(left.slice(0, common)).toEqual(right.slice(0, common))
      expect(new Set(left).size).toBe(left.length)
    },
  }
}

describe('a Clavis2 pair', () => {
  it('gives both SiteAgents the same keys in the same order, whatever its programs and datagrams do', async () => {
    const [alice, bob] = await Promise.all([installClavis2Host(CARRIED), installClavis2Host(CARRIED)])
    const sites = await startPair('clavis2', [alice, bob])
    await sites.expectEqual(10)
    let count = 10
    const commanded = [
      [alice, 'drop 2'],
      [bob, 'drop 2'],
      [bob, 'delay 150'],
      [bob, 'delay 0'],
      [alice, 'corrupt 2'],
      [bob, 'corrupt 2'],
      [bob, 'stranger 3'],
      [alice, 'garbage 5'],
      [alice, 'hang 1500'],
      [bob, 'hang 1500'],
      [alice, 'exit 3'],
      [bob, 'exit 3'],
    ] as const
    for (const [host, fault] of commanded) {
      await host.fault(fault)
      const most = Math.max(count, ...sites.agents.map((agent) => agent.count))
      count = most + 4
      await sites.expectEqual(count)
    }
    // Keys that were made before may still have come after the program ended; a busy machine may start it once more.
    const facts = await eventually('its program was started again', async () => {
      const present = (await sites.gateways[0].status()).parts['device']?.facts
      return Number(present?.['programStarts']) >= 2 && present
    })
    expect(facts).toMatchObject({ initialKey: 'as installed by hand' })
    expect(statSync(alice.file).mode & 0o777).toBe(0o600)
    expect(readFileSync(alice.file, 'utf8')).toContain(CARRIED)
    const [keys] = [await sites.agents[0].keys()]
    for (const gateway of sites.gateways) for (const key of keys) expect(gateway.stderr()).not.toContain(key)
  }, 120_000)
})

describe('an EKPQC pair', () => {
  /** An emulated board as a process of its own. */
  async function startBoard(options: Readonly<Record<string, string>>): Promise<string> {
    const flags = Object.entries(options).flatMap(([name, value]) => ['--option', `${name}=${value}`])
    const board = startCli(['emulate', 'ekpqc', '--json', '--until-stdin-ends', ...flags])
    return board.line('the path of the board', (line) => (line['event'] === 'ready' ? String(line['path']) : undefined))
  }

  it('gives a whole lesson over the link: sequences, bases, comparison, and equal keys at both SiteAgents', async () => {
    const fibre = `attach-${process.pid}`
    const [a, b] = await Promise.all([startBoard({ fibre, speed: '1000' }), startBoard({ fibre, speed: '1000' })])
    const flags = [
      ...optionFlags({ speed: '1000', 'key-bytes': '8', 'runs-per-key': '16' }),
      ...['--bytes-per-key', '8', '--allow-unsafe', 'not-secret-keys'],
    ]
    const sites = await startPair('ekpqc', [
      { device: a, flags },
      { device: b, flags },
    ])
    // A key takes 16 runs, and some keys go into the comparison between the gateways.
    await eventually('keys at both', () => sites.agents.every(({ count }) => count >= 2), 90_000)
    await sites.expectEqual(2)
    for (const gateway of sites.gateways) {
      for (const step of [1, 2, 3, 4, 5]) await gateway.said(new RegExp(`run 0, step ${step} of 5`))
      await gateway.said(/demonstrator, not secure/)
      const { warnings, parts } = await gateway.status()
      expect(warnings.join()).toMatch(/NOT SECRET/)
      await eventually(
        'bits are compared',
        async () => Number((await gateway.status()).parts['device']?.facts?.['bitsCompared']) > 0,
      )
      expect(parts['device']?.facts?.['bitsDiffering']).toBe(0)
    }
  }, 120_000)
})
