import { describe, expect, it } from 'vitest'
import type { DurableState } from '../../src/link/agreement/durable.js'
import { audit, compareStores, type SiteEvidence } from '../../src/link/audit.js'
import { memoryJournal } from '../../src/link/journal.js'
import { offer, startGateway, startSession, until } from './bench.js'

const base: DurableState = {
  lineage: 'ab',
  settled: 4,
  position: 40,
  nextSerial: 5,
  ahead: [],
  sending: [],
  total: 40n,
  ...{ store: '', empty: false, stores: { mine: '', theirs: '' } },
  offset: 0n,
  diverged: undefined,
  accepting: false,
}

function site(name: string, changes: Partial<DurableState> = {}): SiteEvidence {
  return { name, journal: { atMs: 0, state: { ...base, ...changes } } }
}

describe('the audit of two journals', () => {
  it('says that sites agree which stand at the same batch with the same totals', () => {
    expect(audit(site('A'), site('B')).verdict).toBe('agree')
    expect(audit(site('A'), site('B')).sentence).toContain('40 and 40')
    expect(audit(site('A', { total: 45n, offset: 5n }), site('B', { offset: -5n }))).toMatchObject({ verdict: 'agree' })
    expect(audit(site('A', { total: undefined }), site('B'))).toMatchObject({ verdict: 'agree' })
  })

  it('names the first key of a batch that one site is owed', () => {
    const ahead = site('A', { ahead: [{ serial: 5, count: 7 }], total: 47n, position: 47 })
    for (const result of [audit(ahead, site('B')), audit(site('B'), ahead)]) {
      expect(result).toMatchObject({ verdict: 'owed', keys: 7, firstDifferingKey: 41n })
    }
    // The other one has it by now and wrote that down.
    expect(audit(ahead, site('B', { settled: 5, total: 47n, position: 47 }))).toMatchObject({ verdict: 'agree' })
  })

  it('says from which key on they differ', () => {
    expect(audit(site('A', { total: 43n }), site('B'))).toMatchObject({ verdict: 'differ', firstDifferingKey: 41n })
    const said = site('B', { diverged: { firstDifferingKey: 12n, reason: 'x' } })
    expect(audit(site('A'), said)).toMatchObject({ verdict: 'differ', firstDifferingKey: 12n })
    expect(audit({ ...site('A'), total: 50n }, site('B'))).toMatchObject({ verdict: 'differ', firstDifferingKey: 41n })
  })

  it('claims nothing where the journals cannot tell', () => {
    expect(audit(site('A', { lineage: '' }), site('B')).verdict).toBe('unknown')
    expect(audit(site('A', { lineage: 'cd' }), site('B')).verdict).toBe('unknown')
    expect(audit(site('A', { settled: 3 }), site('B')).verdict).toBe('unknown')
    const sending = site('A', { sending: [{ serial: 5, count: 3, order: 'first' }] })
    expect(audit(sending, site('B'))).toMatchObject({ verdict: 'unsettled', keys: 3 })
  })

  it('takes a batch that a running gateway has on its way for no doubt, and says that it is', () => {
    const sending = [{ serial: 5, count: 3, order: 'first' as const }]
    const moving = { ...site('A', { sending }), moving: { serial: 5, count: 3 } }
    const found = audit(moving, site('B'))
    expect(found).toMatchObject({ verdict: 'agree' })
    expect(found.sentence).toContain('3 more are on their way')
    expect(audit({ ...moving, moving: { serial: 6, count: 3 } }, site('B')).verdict).toBe('unsettled')
  })

  it('compares what SiteAgents tell by themselves without taking equal numbers for equal keys', () => {
    const store = (name: string, total: bigint | undefined) => ({ name, total })
    expect(compareStores(store('A', 9n), store('B', 9n)).verdict).toBe('agree')
    expect(compareStores(store('A', 9n), store('B', 9n)).sentence).toContain('only their gateways or --spend-key')
    expect(compareStores(store('A', 9n), store('B', 4n))).toMatchObject({ verdict: 'unsettled', keys: 5 })
    const silent = compareStores(store('A', undefined), store('B', 4n))
    expect(silent).toMatchObject({ verdict: 'unknown' })
    expect(silent.sentence).toMatch(/^A told no total/)
  })

  it('finds two running sites in agreement once they rest', async () => {
    const journals = [memoryJournal(), memoryJournal()] as const
    const left = await startGateway({ journal: journals[0] })
    const right = await startGateway({ journal: journals[1] })
    await startSession(left, right)
    offer(left, 0, 200)
    offer(right, 0, 200)
    await until('all delivered', () => left.link.counts().held === 0n && right.link.counts().held === 0n)
    await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    const [a, b] = journals.map((journal, index) => ({
      name: index === 0 ? 'A' : 'B',
      journal: journal.records.at(-1),
    }))
    if (a?.journal === undefined || b?.journal === undefined) throw new Error('no record')
    expect(audit({ name: 'A', journal: a.journal }, { name: 'B', journal: b.journal }).verdict).toBe('agree')
    await Promise.all([left.crash(), right.crash()])
  })
})
