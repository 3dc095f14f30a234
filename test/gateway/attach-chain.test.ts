import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { startCCoreSiteAgent, startNode, type CCoreSiteAgent } from './support/c-core-site-agent.js'
import {
  closeLab,
  pairKey,
  startDebianSshd,
  startEmbeddedSshd,
  startGateway,
  startUnit,
  type GatewayProcess,
  type Unit,
} from './support/lab.js'

afterEach(closeLab)

interface Chain {
  readonly units: readonly [Unit, Unit]
  readonly agents: readonly [CCoreSiteAgent, CCoreSiteAgent]
  readonly gateways: readonly [GatewayProcess, GatewayProcess]
}

/** Site A behind Debian's sshd, site B behind the embedded one; the SiteAgents run on gRPC's C core. */
async function startChain(pair: string, rate: number): Promise<Chain> {
  const [unitA, unitB, sshA, sshB, agentA, agentB] = await Promise.all([
    startUnit({ pair, rate }),
    startUnit({ pair, rate }),
    startDebianSshd(),
    startEmbeddedSshd(),
    startCCoreSiteAgent(),
    startCCoreSiteAgent(),
  ])
  const a = startGateway({
    ...{ device: unitA.path, side: 'alice', ssh: sshA, siteAgent: agentA.address, logLevel: 'trace' },
  })
  const b = startGateway({
    ...{ device: unitB.path, side: 'bob', ssh: sshB, siteAgent: agentB.address, logLevel: 'trace' },
  })
  await Promise.all([a.untilPart('registration', 'registered'), b.untilPart('registration', 'registered')])
  await startNode(agentA.address, agentB.address, [a.id, b.id])
  return { units: [unitA, unitB], agents: [agentA, agentB], gateways: [a, b] }
}

/** The sum over everything that became of the keys which the device gave. */
function accountedFor(counts: Readonly<Record<string, unknown>>): number {
  const dropped = Object.values(counts['dropped'] as Record<string, number>).reduce((sum, keys) => sum + keys, 0)
  return Number(counts['delivered']) + Number(counts['held']) + Number(counts['sacrificed']) + dropped
}

const rate = 250

describe('two attached devices', () => {
  it('give both SiteAgents the same thousand keys although one line corrupts, drops and repeats frames', async () => {
    const pair = `chain-${Date.now()}`
    const { units, agents, gateways } = await startChain(pair, rate)
    const [agentA, agentB] = agents
    const faults: [string, string][] = [
      ['corrupt', '3'],
      ['drop', '5'],
      ['repeat', '4'],
      ['compromised', '2'],
      ['corrupt', '1'],
      ['drop', '1'],
    ]
    for (const [index, [name, count]] of faults.entries()) {
      await agentA.untilKeys(60 + index * 120)
      await units[0].fault(name, count)
    }
    await Promise.all([agentA.untilKeys(1_000), agentB.untilKeys(1_000)])
    const keys = await Promise.all([agentA.keys(), agentB.keys()])
    const compared = Math.min(keys[0].length, keys[1].length)
    expect(compared).toBeGreaterThanOrEqual(1_000)
    expect(keys[0].slice(0, compared)).toEqual(keys[1].slice(0, compared))
    expect(new Set(keys[0]).size).toBe(keys[0].length)

    // What they hold is what the units sent, in the units' own order.
    const status = await gateways[0].status()
    // (They number their frames by the clock: 250 a second since 1970; the last minute is enough.)
    const lastId = BigInt(Math.ceil((Date.now() * rate) / 1_000) + rate)
    const order = new Map<string, bigint>()
    for (let id = lastId - 60n * BigInt(rate); id <= lastId; id += 1n) order.set(pairKey(pair, id), id)
    const ids = keys[0].map((key) => order.get(key) ?? -1n)
    expect(ids.every((id, index) => id > (ids[index - 1] ?? 0n))).toBe(true)
    expect(status.counts['discardedByDevice']).toMatchObject({ corrupt: 4, repeated: 4, compromised: 2 })

    // Nothing is lost without a name, at either side.
    for (const gateway of gateways) {
      const { counts } = await gateway.status()
      expect(accountedFor(counts)).toBe(counts['received'])
    }

    // No key, no part of a key, in anything that either gateway wrote.
    await Promise.all(gateways.map((gateway) => gateway.stop()))
    for (const gateway of gateways) {
      const written = `${gateway.stdout()}${gateway.stderr()}${readFileSync(join(gateway.stateFolder, `${gateway.id}.journal`), 'latin1')}`
      for (const key of keys[0]) {
        expect(written.includes(key)).toBe(false)
        expect(written.includes(Buffer.from(key, 'hex').toString('base64').slice(0, 24))).toBe(false)
        expect(written.includes(key.slice(0, 16))).toBe(false)
      }
    }
  })
})
