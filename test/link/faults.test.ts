import { afterEach, describe, expect, it } from 'vitest'
import { memoryJournal } from '../../src/link/journal.js'
import {
  call,
  countsHold,
  FakeSite,
  type Gateway,
  type GatewayOptions,
  offer,
  startGateway,
  startSession,
  until,
} from './bench.js'

const running = new Set<Gateway>()

async function gateway(options?: GatewayOptions): Promise<Gateway> {
  const started = await startGateway(options)
  running.add(started)
  return started
}

async function crash(one: Gateway): Promise<void> {
  running.delete(one)
  await one.crash()
}

afterEach(async () => {
  await Promise.all([...running].map((one) => one.crash()))
  running.clear()
})

/** Offers keys of both devices until `holds`. */
async function feed(left: Gateway, right: Gateway, from: number, what: string, holds: () => boolean): Promise<number> {
  let next = from
  await until(what, () => {
    if (holds()) return true
    offer(left, next, next + 20)
    offer(right, next, next + 20)
    next += 20
    return false
  })
  return next
}

const equalStores = (left: Gateway, right: Gateway): boolean => left.site.keys.join() === right.site.keys.join()

describe('a gateway that dies', () => {
  it('on the left, with a batch in doubt, comes back and both sites go on equal, whichever way the doubt ends', async () => {
    for (const takesOnCancel of [true, false]) {
      const journal = memoryJournal()
      const site = new FakeSite()
      let left = await gateway({ journal, site })
      const right = await gateway()
      await startSession(left, right)
      let next = await feed(left, right, 0, 'first keys', () => right.site.keys.length >= 40)
      await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
      site.reading = false
      site.takesOnCancel = takesOnCancel
      const before = site.keys.length
      offer(left, next, next + 20)
      offer(right, next, next + 20)
      next += 20
      await until('a batch on its way', () => journal.records.at(-1)?.state.sending.length === 1)
      await until('it is written', () => left.link.linkStatusReport().facts?.['inFlight'] !== 0)
      await new Promise((resolve) => setTimeout(resolve, 20))
      site.holdReports = true
      await crash(left)
      expect(site.keys.length > before).toBe(takesOnCancel)
      site.reading = true
      site.holdReports = false
      left = await gateway({ journal, site })
      await right.link.endSession(call())
      for (const stream of right.site.streams) stream.cancel()
      await startSession(left, right)
      const target = site.keys.length + 40
      await feed(left, right, next, 'more keys', () => site.keys.length >= target && equalStores(left, right))
      expect(left.link.linkStatusReport().state).not.toBe('diverged')
      expect(new Set(site.keys).size).toBe(site.keys.length)
      expect(countsHold(right)).toBe(true)
      await crash(left)
      await crash(right)
    }
  })

  it('on the right while it owes a batch, and both sides then name the first key that differs', async () => {
    const left = await gateway()
    const journal = memoryJournal()
    const site = new FakeSite()
    let right = await gateway({ journal, site })
    const { right: stream } = await startSession(left, right)
    let next = await feed(left, right, 0, 'first keys', () => site.keys.length >= 40)
    await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    stream.cancel()
    site.reading = false
    const again = site.open()
    right.link.waitForSession(new Uint8Array(), again)
    const before = site.keys.length
    next = await feed(left, right, next, 'the left site is ahead', () => left.site.keys.length > before)
    await until('owed, and said so', () =>
      /owed to the other one/.test(left.link.linkStatusReport().warnings?.join() ?? ''),
    )
    await crash(right)
    site.reading = true
    right = await gateway({ journal, site })
    await left.link.endSession(call())
    for (const open of left.site.streams) open.cancel()
    await startSession(left, right)
    await feed(left, right, next, 'said', () => left.link.linkStatusReport().state === 'diverged')
    await until('said at both', () => right.link.linkStatusReport().state === 'diverged')
    expect(left.link.linkStatusReport().reason).toContain(`from key ${before + 1} on`)
    expect(right.link.linkStatusReport().reason).toContain(`from key ${before + 1} on`)
  })
})

describe('stores that have parted', () => {
  it('get no more keys until the operator accepts it, and go on together then', async () => {
    const left = await gateway()
    const right = await gateway()
    await startSession(left, right)
    let next = await feed(left, right, 0, 'first keys', () => right.site.keys.length >= 40)
    await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    // Somebody else gives keys to the right SiteAgent.
    right.site.takeIn(['00', '01', '02'])
    next = await feed(left, right, next, 'said', () => right.link.linkStatusReport().state === 'diverged')
    await until('said at both', () => left.link.linkStatusReport().state === 'diverged')
    const lengths = [left.site.keys.length, right.site.keys.length]
    offer(left, next, next + 100)
    offer(right, next, next + 100)
    next += 100
    await new Promise((resolve) => setTimeout(resolve, 150))
    expect([left.site.keys.length, right.site.keys.length]).toEqual(lengths)
    left.link.acceptDivergence()
    await feed(left, right, next, 'keys flow', () => right.site.keys.length > 60 + (lengths[1] ?? 0))
    expect(left.link.linkStatusReport().state).not.toBe('diverged')
    await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    expect(left.site.keys.at(-1)).toBe(right.site.keys.at(-1))
    expect(countsHold(left, right)).toBe(true)
  })

  it('are recognised as new when both SiteAgents were restarted', async () => {
    const left = await gateway()
    const right = await gateway()
    await startSession(left, right)
    let next = await feed(left, right, 0, 'first keys', () => right.site.keys.length >= 40)
    await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    for (const one of [left, right]) {
      one.site.restart()
      one.link.siteAgentRestarted()
    }
    await left.link.endSession(call())
    await right.link.endSession(call())
    await startSession(left, right)
    next = await feed(left, right, next, 'keys flow', () => right.site.keys.length >= 40 && equalStores(left, right))
    // And one alone parts them.
    right.site.restart()
    right.link.siteAgentRestarted()
    await left.link.endSession(call())
    for (const stream of left.site.streams) stream.cancel()
    await startSession(left, right)
    await feed(left, right, next, 'said', () => left.link.linkStatusReport().state === 'diverged')
    expect(left.link.linkStatusReport().reason).toContain('from key 1 on')
    left.site.restart()
    right.site.restart()
    left.link.siteAgentRestarted()
    right.link.siteAgentRestarted()
    await left.link.endSession(call())
    await startSession(left, right)
    await feed(left, right, next + 5_000, 'keys flow', () => right.site.keys.length >= 40 && equalStores(left, right))
  })
})

describe('the link between two gateways', () => {
  it('is opened again by itself while both SiteAgents wait', async () => {
    const left = await gateway()
    const right = await gateway()
    await startSession(left, right)
    let next = 0
    for (let cut = 0; cut < 5; cut += 1) {
      const target = right.site.keys.length + 40
      next = await feed(left, right, next, 'keys flow', () => right.site.keys.length >= target)
      right.cutLink()
    }
    await feed(left, right, next, 'equal at last', () => right.site.keys.length > 200 && equalStores(left, right))
    expect(left.link.sessionStatus().state).toBe('started')
    expect(countsHold(left, right)).toBe(true)
  })

  it('stops loudly where the two devices are no pair, and sends nothing', async () => {
    const left = await gateway()
    const right = await gateway()
    await startSession(left, right)
    offer(left, 0, 400)
    offer(right, 0, 400, [], 'another device')
    await until('stopped', () => {
      offer(left, 400, 401)
      return left.link.linkStatusReport().state === 'stopped' && right.link.linkStatusReport().state === 'stopped'
    })
    expect(left.link.linkStatusReport().reason).toMatch(/not a pair/)
    expect(left.site.keys).toEqual([])
    expect(right.site.keys).toEqual([])
    expect(countsHold(left, right)).toBe(true)
  })

  it('delivers nothing between ends of another kind or key length, and says so', async () => {
    const left = await gateway()
    for (const other of [{ kind: 'other' }, { bytesPerKey: 16 }]) {
      const right = await gateway(other)
      await expect(startSession(left, right)).rejects.toThrow(/kind: |bytesPerKey: /)
      expect(right.link.sessionStatus().reason).toMatch(/kind: |bytesPerKey: /)
      await crash(right)
    }
  })

  it('keeps a site that reads nothing and the other one in step, and loses nothing within its bounds', async () => {
    const left = await gateway({ hold: { maxKeys: 300 } })
    const right = await gateway({ hold: { maxKeys: 300 } })
    left.site.reading = false
    await startSession(left, right)
    offer(left, 0, 1_000)
    offer(right, 0, 1_000)
    await until('one batch waits', () => left.link.linkStatusReport().facts?.['inFlight'] !== 0)
    expect(right.site.keys).toEqual([])
    const { dropped } = left.link.counts()
    expect(Object.keys(dropped)).toEqual(expect.arrayContaining(['overflow']))
    left.site.reading = true
    left.site.streams.at(-1)?.read()
    await until('all is delivered', () => left.link.counts().held < 20n && equalStores(left, right))
    expect(left.site.keys.length).toBeGreaterThan(250)
    expect(countsHold(left, right)).toBe(true)
  })
})

describe('a clean stop of a gateway', () => {
  it('settles what is on its way, and names the key where one site lacks a batch', async () => {
    const left = await gateway()
    const right = await gateway()
    const streams = await startSession(left, right)
    const next = await feed(left, right, 0, 'first keys', () => right.site.keys.length >= 40)
    await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    right.site.reading = false
    const before = right.site.keys.length
    await feed(left, right, next, 'the left site is ahead', () => left.site.keys.length > before)
    streams.right.cancel()
    running.delete(left)
    const result = await left.stop()
    expect(result).toEqual({
      outcome: 'owed',
      keys: left.site.keys.length - before,
      firstDifferingKey: BigInt(before + 1),
    })
    expect(countsHold(left)).toBe(true)
    expect(left.link.counts().held).toBe(0n)
  })
})
