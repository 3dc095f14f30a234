import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import type { AgreementEvent } from '../../src/link/agreement/events.js'
import { DEFAULT_BATCH } from '../../src/link/options.js'
import { watchSite } from '../../src/link/site-watch.js'
import {
  call,
  countsHold,
  FakeSite,
  type FakeStream,
  type Gateway,
  type GatewayOptions,
  offer,
  startGateway,
  startSession,
  until,
} from './bench.js'

const running = new Set<Gateway>()

async function site(dialect: FakeSite['dialectNow'], options: GatewayOptions = {}): Promise<Gateway> {
  const started = await startGateway(options)
  started.site.dialectNow = dialect
  running.add(started)
  return started
}

afterEach(async () => {
  await Promise.all([...running].map((one) => one.crash()))
  running.clear()
})

/** Keys of one session at a site, in order. */
function recorded(one: Gateway): string[] {
  return [...one.site.keys]
}

async function session(
  left: Gateway,
  right: Gateway,
  from: number,
): Promise<{ streams: { left: FakeStream; right: FakeStream }; next: number }> {
  const streams = await startSession(left, right)
  let next = from
  await until('keys at both', () => {
    if (streams.left.taken >= 30 && streams.right.taken >= 30) return true
    offer(left, next, next + 20)
    offer(right, next, next + 20)
    next += 20
    return false
  })
  return { streams, next }
}

async function stop(left: Gateway, right: Gateway, streams: { left: FakeStream; right: FakeStream }): Promise<void> {
  streams.left.cancel()
  await left.link.endSession(call())
  streams.right.cancel()
  await right.link.endSession(call())
}

/** True if `part` is an unbroken run of `whole`. */
function isRun(part: readonly string[], whole: readonly string[]): boolean {
  const at = whole.indexOf(part[0] ?? '')
  return at >= 0 && part.every((key, index) => whole[at + index] === key)
}

describe('two Java sites', () => {
  it('begin each session with the same key, and no key comes twice', async () => {
    const left = await site('java')
    const right = await site('java')
    const seen: string[] = []
    let next = 0
    for (let cycle = 0; cycle < 4; cycle += 1) {
      const one = await session(left, right, next)
      next = one.next
      await stop(left, right, one.streams)
      const [a, b] = [recorded(left), recorded(right)]
      const shorter = Math.min(a.length, b.length)
      expect(shorter).toBeGreaterThanOrEqual(30)
      expect(a.slice(0, shorter)).toEqual(b.slice(0, shorter))
      // One small batch may be at one site only when the streams are cut.
      expect(Math.abs(a.length - b.length)).toBeLessThanOrEqual(64)
      const keys = a.length > b.length ? a : b
      expect(keys.some((key) => seen.includes(key))).toBe(false)
      seen.push(...keys)
    }
    expect(left.link.linkStatusReport().state).not.toBe('diverged')
    expect(countsHold(left, right)).toBe(true)
  })

  it('get nothing while only one of them has asked anew', async () => {
    const left = await site('java')
    const right = await site('java')
    const { next } = await session(left, right, 0)
    await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    const anew = left.site.open()
    left.link.waitForSession(new Uint8Array(), anew)
    offer(left, next, next + 100)
    offer(right, next, next + 100)
    await until('said', () => /only one of the two/.test(left.link.linkStatusReport().reason ?? ''))
    expect(anew.taken).toBe(0)
    const other = right.site.open()
    right.link.waitForSession(new Uint8Array(), other)
    await until('both begin again', () => anew.taken >= 30 && other.taken >= 30)
    const shorter = Math.min(left.site.keys.length, right.site.keys.length)
    expect(left.site.keys.slice(0, shorter)).toEqual(right.site.keys.slice(0, shorter))
  })
})

describe('a C++ and a Java site', () => {
  it.each([
    { left: 'cpp', right: 'java' },
    { left: 'java', right: 'cpp' },
  ] as const)('($left left): each Java session is an unbroken run of the C++ keys', async ({ left: a, right: b }) => {
    const left = await site(a)
    const right = await site(b)
    const [cpp, java] = a === 'cpp' ? [left, right] : [right, left]
    let next = 0
    for (let cycle = 0; cycle < 4; cycle += 1) {
      const one = await session(left, right, next)
      next = one.next
      await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
      await until('all reports are in', () => cpp.site.keys.includes(java.site.keys.at(-1) ?? ''))
      expect(isRun(java.site.keys, cpp.site.keys)).toBe(true)
      expect(left.link.linkStatusReport().warnings?.join()).toMatch(/inferred/)
      expect(new Set(cpp.site.keys).size).toBe(cpp.site.keys.length)
      await stop(left, right, one.streams)
    }
    expect(left.link.linkStatusReport().state).not.toBe('diverged')
    expect(right.link.linkStatusReport().state).not.toBe('diverged')
    expect(countsHold(left, right)).toBe(true)
  })
})

describe('a site of which nobody knows yet whether it tells totals', () => {
  it('is given the grace, then inferred; its total counts as soon as it tells one', () => {
    const totals = new FakeSite()
    totals.dialectNow = 'unknown'
    totals.reportsOpen = false
    let nowMs = 0
    const clock = { ...systemClock, monotonicMs: () => nowMs }
    const told: AgreementEvent[] = []
    const watch = watchSite(totals, clock, 5_000, (event) => told.push(event))
    const facts = (): unknown[] =>
      told
        .splice(0)
        .map((event) => (event.type === 'siteFacts' ? [event.confirmation, event.restartsNumbering] : event.type))
    watch.look()
    expect(facts()).toEqual([['none', false]])
    nowMs = 4_999
    watch.look()
    expect(facts()).toEqual([])
    nowMs = 5_000
    watch.look()
    expect(facts()).toEqual([['inferred', false]])
    totals.dialectNow = 'cpp'
    totals.reportsOpen = true
    totals.takeIn(['k'])
    watch.look()
    expect(facts()).toEqual([['total', false]])
    totals.reportsOpen = false
    watch.look()
    expect(facts()).toEqual(['reportsInterrupted', ['none', false]])
    nowMs = 9_000
    totals.dialectNow = 'java'
    watch.look()
    expect(facts()).toEqual([['inferred', true]])
  })

  it('gets small batches, the same keys as the other one, and status says that they are inferred', async () => {
    const silent = new FakeSite()
    silent.reportsOpen = false
    const left = await site('cpp')
    const right = await site('unknown', { site: silent, timing: { reportsGraceMs: 200 } })
    await startSession(left, right)
    offer(left, 0, 400)
    offer(right, 0, 400)
    await until('keys at both', () => left.site.keys.length >= 150 && right.site.keys.length >= 150)
    expect(right.link.linkStatusReport().facts).toMatchObject({ confirmation: 'inferred' })
    expect(right.link.linkStatusReport().warnings?.join()).toMatch(/inferred/)
    await until('rest', () => left.site.keys.length === right.site.keys.length)
    expect(left.site.keys).toEqual(right.site.keys)
    expect(Math.max(...right.site.sizes)).toBeLessThanOrEqual(DEFAULT_BATCH.maxInferredKeys)
  })
})
