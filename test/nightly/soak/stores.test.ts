import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { GatewayStatus } from '../../../src/gateway/status-socket.js'
import { unreadKeys } from './figures.js'
import { memoryTrend } from './memory.js'
import { said } from './said.js'
import { MixedStores } from './mixed.js'
import { Sessions } from './sessions.js'
import { Stores } from './stores.js'

/** A SiteAgent's store of which the test says what it holds. */
class FakeStore {
  held: string[] = []
  batches: number[] = []

  take(...keys: string[]): this {
    this.held.push(...keys)
    this.batches.push(keys.length)
    return this
  }

  keys(): Promise<number> {
    return Promise.resolve(this.held.length)
  }

  digest(from: number, count: number): Promise<string> {
    const text = this.held.slice(from, from + count).join(' ')
    return Promise.resolve(createHash('sha256').update(text).digest('hex'))
  }
}

function pair(): { A: FakeStore; B: FakeStore; stores: Stores } {
  const A = new FakeStore()
  const B = new FakeStore()
  return { A, B, stores: new Stores({ A, B }) }
}

describe('two stores of C++ SiteAgents', () => {
  it('are equal while both hold the same, and one batch apart while it is owed', async () => {
    const { A, B, stores } = pair()
    A.take('1', '2').take('3', '4', '5')
    B.take('1', '2')
    expect(await stores.compare()).toEqual({ found: 'owed', to: 'B', owedKeys: 3, batches: 1, keys: 2 })
    B.take('3', '4', '5')
    expect(await stores.compare()).toEqual({ found: 'equal', keys: 5 })
  })

  it('are different from the first key on that is not the same', async () => {
    const { A, B, stores } = pair()
    A.take('1', '2').take('3', '4')
    B.take('1', '2').take('4', '5')
    expect(await stores.compare()).toMatchObject({ found: 'different' })
    expect(await stores.isFirstDifferent(3)).toBe(true)
    expect(await stores.isFirstDifferent(2)).toBe(false)
    expect(await stores.isFirstDifferent(4)).toBe(false)
  })

  it('are different where one has what is no whole batch more', async () => {
    const { A, B, stores } = pair()
    A.take('1', '2').take('3', '4', '5')
    B.take('1', '2').take('3')
    expect(await stores.compare()).toMatchObject({ found: 'different' })
  })

  it('are different where what was compared is gone', async () => {
    const { A, B, stores } = pair()
    A.take('1', '2')
    B.take('1', '2')
    await stores.compare()
    A.held = []
    expect(await stores.compare()).toMatchObject({ found: 'different' })
  })

  it('are compared from where they stood when their difference was accepted', async () => {
    const { A, B, stores } = pair()
    A.take('1', '2', '3')
    B.take('1', '2')
    await stores.compare()
    await stores.accepted()
    A.take('4', '5')
    B.take('4', '5')
    expect(await stores.compare()).toEqual({ found: 'equal', keys: 4 })
    B.take('7')
    A.take('6')
    expect(await stores.compare()).toMatchObject({ found: 'different' })
  })

  it('may stay as they are after one alone was emptied, and no longer once keys come on top of that', async () => {
    const { A, B, stores } = pair()
    A.take('1', '2')
    B.take('1', '2')
    await stores.compare()
    A.held = []
    stores.renewed()
    expect(await stores.compare()).toEqual({ found: 'oneRenewed' })
    expect(await stores.isFirstDifferent(1)).toBe(true)
    A.take('3')
    B.take('3')
    expect(await stores.compare()).toMatchObject({ found: 'different' })
  })
})

describe('sessions of two Java SiteAgents', () => {
  const sessionsOf = () => {
    const A = { store: new FakeStore(), reader: 0 }
    const B = { store: new FakeStore(), reader: 0 }
    const session = ({ store, reader }: typeof A) => ({
      reader,
      keys: store.held.length,
      batches: store.batches,
      digest: (from: number, count: number) => store.digest(from, count),
    })
    return { A, B, sessions: new Sessions({ A: () => session(A), B: () => session(B) }) }
  }

  it('must begin with the same key', async () => {
    const { A, B, sessions } = sessionsOf()
    sessions.begin()
    for (const site of [A, B]) site.reader += 1
    A.store.take('1', '2').take('3')
    B.store.take('1', '2')
    expect(await sessions.compare()).toEqual({ found: 'owed', to: 'B', owedKeys: 1, batches: 1, keys: 2 })
    B.store.held = ['2', '3']
    expect(await sessions.compare()).toMatchObject({ found: 'different' })
  })

  it('of which only one was begun anew is not compared with the older one of the other site', async () => {
    const { A, B, sessions } = sessionsOf()
    A.reader = B.reader = 1
    B.store.take('1', '2')
    sessions.begin()
    A.reader += 1
    expect(await sessions.compare()).toEqual({ found: 'equal', keys: 0 })
  })
})

describe('a C++ and a Java SiteAgent', () => {
  const mixed = () => {
    const cpp = new FakeStore()
    const java = { store: new FakeStore(), reader: 0 }
    const session = () => ({
      reader: java.reader,
      keys: java.store.held.length,
      batches: java.store.batches,
      digest: (from: number, count: number) => java.store.digest(from, count),
    })
    const stores = new MixedStores(cpp, session, { cpp: 'A', java: 'B' })
    stores.begin({ A: 0, B: 0 })
    java.reader = 1
    return { cpp, java: java.store, stores, newReader: () => (java.reader += 1) }
  }

  it('agree where the keys of a Java session are an unbroken run of the other one', async () => {
    const { cpp, java, stores } = mixed()
    cpp.take('1', '2').take('3', '4').take('5')
    java.take('3', '4').take('5')
    expect(await stores.compare()).toEqual({ found: 'equal', keys: 3 })
  })

  it('owe each other whole batches at the end of a session, and nothing else', async () => {
    const { cpp, java, stores } = mixed()
    cpp.take('1', '2').take('3', '4')
    java.take('1', '2')
    expect(await stores.compare()).toMatchObject({ found: 'owed', to: 'B', owedKeys: 2, batches: 1 })
    java.take('3', '4').take('5')
    expect(await stores.compare()).toMatchObject({ found: 'owed', to: 'A', owedKeys: 1 })
    java.held = ['1', '2', '3']
    expect(await stores.compare()).toMatchObject({ found: 'different' })
  })

  it.each([
    { owed: 3, cpp: ['6', '7'], java: ['3', '4', '5', '6', '7'], found: 'equal' },
    { owed: 3, cpp: ['6', '7'], java: ['3', '4', '5', '6'], found: 'owed', to: 'B', owedKeys: 1 },
    { owed: 3, cpp: ['6'], java: ['3', '4', '5', '6', '7'], found: 'owed', to: 'A', owedKeys: 1 },
    { owed: 3, cpp: [], java: ['3', '4', '5'], found: 'equal' },
    { owed: 3, cpp: ['6', '7'], java: ['3', '4', '5', '7'], found: 'owed', to: 'A', owedKeys: 4 },
    { owed: 2, cpp: ['6', '7'], java: ['3', '4', '5', '6', '7'], found: 'owed', to: 'A', owedKeys: 5 },
  ])(
    'in the session after, $java are $found where $owed were owed and the new store holds $cpp',
    async ({ owed, cpp: held, java: came, ...found }) => {
      const { cpp, java, stores, newReader } = mixed()
      stores.renewed('A')
      stores.begin({ A: 0, B: owed })
      newReader()
      for (const key of held) cpp.take(key)
      for (const key of came) java.take(key)
      expect(await stores.compare()).toMatchObject(found)
    },
  )

  it('differ where a key of the session is missing, changed or out of order at the C++ site', async () => {
    for (const keys of [
      ['1', '3', '4'],
      ['1', '2', '9'],
      ['2', '1', '3'],
    ]) {
      const { cpp, java, stores } = mixed()
      cpp.take('1', '2', '3', '4')
      java.take(...keys)
      expect(await stores.compare()).toMatchObject({ found: 'different' })
    }
  })
})

it('a Java site may lack what its gateway dropped as uncertain, one small batch at most, and what one that died had sent', () => {
  const figures = (pid: number, uncertain: number) => ({ pid, uncertain, owedHere: 0, owedThere: 0, inDoubt: 0 })
  expect(unreadKeys(figures(1, 10), figures(1, 10))).toBe(0)
  expect(unreadKeys(figures(1, 10), figures(1, 13))).toBe(3)
  expect(unreadKeys(figures(1, 10), figures(1, 254))).toBe(64)
  expect(unreadKeys(figures(1, 10), figures(2, 0))).toBe(64)
})

it('what a gateway says of stores that have parted is read with the number of the key', () => {
  const status = (state: string, reason: string): GatewayStatus => ({
    ...{ version: '0', pid: 1, id: 'A_B_A', device: '', startedAtMs: 0, warnings: [], counts: {} },
    parts: { link: { state, sinceMs: 0, reason } },
  })
  const parted = status('diverged', 'from key 17 on the two stores differ: a batch was lost')
  expect(said(status('idle', ''), parted)).toMatchObject({ by: 'B', firstDifferingKey: 17 })
  expect(said(status('owed', 'no session'), undefined)).toBeUndefined()
})

it('memory that grows with each cycle has a slope, and memory that fills a cache and stays has none', () => {
  const cycles = Array.from({ length: 100 }, (_, index) => index * 10)
  const growing = memoryTrend(cycles.map((cycle) => ({ cycle, kib: 100_000 + cycle * 20 })))
  expect(growing.slopeKibPerThousand).toBe(20_000)
  const filling = memoryTrend(cycles.map((cycle) => ({ cycle, kib: 100_000 + Math.min(cycle, 400) * 20 })))
  expect(filling.slopeKibPerThousand).toBe(0)
})
