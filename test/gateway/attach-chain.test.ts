import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { closeLab, eventually, pairKey } from './support/lab.js'
import { accountedFor, startTwoSites } from './support/two-sites.js'

afterEach(closeLab)

const rate = 250

describe('two attached devices', () => {
  it('give both SiteAgents the same thousand keys although one line corrupts, drops and repeats frames', async () => {
    const { pair, units, agents, gateways } = await startTwoSites({ rate, logLevel: 'trace' })
    const [agentA, agentB] = agents
    const faults: [string, string][] = [
      ['corrupt', '3'],
      ['drop', '5'],
      ['repeat', '4'],
      ['compromised', '2'],
      ['corrupt', '1'],
      ['drop', '1'],
    ]
    for (const [name, count] of faults) {
      await units[0].fault(name, count)
      // Each is over before the next begins.
      const sent = Number(units[0].facts()['sent'])
      await eventually('30 further frames', () => Number(units[0].facts()['sent']) >= sent + 30)
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
    expect(status.counts['discardedByDevice']).toMatchObject({ repeated: 4, compromised: 2 })
    // Damaged neighbours may count as one: a broken start of frame leaves nothing to tell them apart by.
    const { corrupt = 0 } = status.counts['discardedByDevice'] as Record<string, number>
    expect(corrupt).toBeGreaterThan(0)

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
