/** What goes wrong at one device only costs keys, never a difference: bytes at both sites are compared. */
import { afterEach, describe, expect, it } from 'vitest'
import {
  countsHold,
  type Gateway,
  type GatewayOptions,
  keyOf,
  offer,
  startGateway,
  startSession,
  until,
} from './bench.js'

const running: Gateway[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.crash()))
})

async function twoGateways(options: GatewayOptions = {}): Promise<[left: Gateway, right: Gateway]> {
  const pair: [Gateway, Gateway] = [await startGateway(options), await startGateway(options)]
  running.push(...pair)
  await startSession(...pair)
  return pair
}

async function equalWith(left: Gateway, right: Gateway, id: number): Promise<void> {
  const last = Buffer.from(keyOf(id)).toString('hex')
  await until(`both have key ${id}`, () => [left, right].every(({ site }) => site.keys.includes(last)))
  await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
  expect(left.site.keys).toEqual(right.site.keys)
  expect(new Set(left.site.keys).size).toBe(left.site.keys.length)
  expect(countsHold(left, right)).toBe(true)
}

const dropped = ({ link }: Gateway, reason: string): bigint => link.counts().dropped[reason] ?? 0n

const SIDES = [
  ['left', 0],
  ['right', 1],
] as const

describe.each(SIDES)('at the %s device', (_, index) => {
  it('lost and compromised keys are given up at both', async () => {
    const pair = await twoGateways()
    const [left, right] = pair
    const lacking = [0, 7, 8, 40, 59]
    for (const one of pair) offer(one, 0, 60, one === pair[index] ? lacking : [])
    await until('the rest came', () => right.site.keys.length >= 50)
    for (const one of pair) offer(one, 60, 120)
    await equalWith(left, right, 119)
    for (const id of lacking) expect(left.site.keys).not.toContain(Buffer.from(keyOf(id)).toString('hex'))
    const healthy = pair[1 - index]
    expect(healthy === undefined ? 0n : dropped(healthy, 'missing')).toBe(5n)
  })

  it('one wrong bit costs the batch at both, and the next ones are delivered', async () => {
    const pair = await twoGateways()
    const [left, right] = pair
    for (const one of pair) offer(one, 0, 60)
    await equalWith(left, right, 59)
    for (const one of pair) {
      offer(one, 60, 100)
      const key = keyOf(100)
      if (one === pair[index]) key[31] = (key[31] ?? 0) ^ 1
      one.link.offerKey(100n, key)
      offer(one, 101, 130)
    }
    await until('it was noticed at both', () => pair.every((one) => dropped(one, 'mismatch') > 0n))
    for (const one of pair) offer(one, 130, 180)
    await equalWith(left, right, 179)
    expect(left.site.keys).not.toContain(Buffer.from(keyOf(100)).toString('hex'))
    expect(left.link.linkStatusReport().state).not.toBe('stopped')
  })

  it('repeated frames give each key once, also where the repetition has other bytes', async () => {
    const pair = await twoGateways()
    const [left, right] = pair
    for (const one of pair) {
      offer(one, 0, 60)
      if (one !== pair[index]) continue
      offer(one, 0, 60)
      offer(one, 20, 40, [], 'another device')
    }
    await until('they came', () => right.site.keys.length >= 50)
    const faulty = pair[index]
    // After their batch was delivered they are late.
    if (faulty !== undefined) offer(faulty, 0, 60)
    for (const one of pair) offer(one, 60, 120)
    await equalWith(left, right, 119)
    expect(faulty === undefined ? 0n : dropped(faulty, 'repeated')).toBe(80n)
    expect(faulty === undefined ? 0n : dropped(faulty, 'late')).toBe(60n)
  })

  it('frames in another order come out in the order of their numbers, and none is lost', async () => {
    const pair = await twoGateways({ hold: { gapWaitMs: 10_000 } })
    const [left, right] = pair
    const shuffled = Array.from({ length: 120 }, (_, nth) => (nth * 37) % 120)
    for (const one of pair) if (one !== pair[index]) offer(one, 0, 120)
    const faulty = pair[index]
    for (let nth = 0; nth < 120; nth += 30) {
      if (faulty !== undefined) for (const id of shuffled.slice(nth, nth + 30)) offer(faulty, id, id + 1)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await until('they came', () => right.site.keys.length >= 100)
    for (const one of pair) offer(one, 120, 140)
    await equalWith(left, right, 139)
    const order = Array.from({ length: 140 }, (_, id) => Buffer.from(keyOf(id)).toString('hex'))
    expect(left.site.keys).toEqual(order.filter((key) => left.site.keys.includes(key)))
    for (const one of pair) expect([dropped(one, 'late'), dropped(one, 'missing')]).toEqual([0n, 0n])
  })

  it('a numbering that begins anew without a word gives out nothing until the numbers are new ones', async () => {
    const pair = await twoGateways()
    const [left, right] = pair
    for (const one of pair) offer(one, 0, 60)
    await equalWith(left, right, 59)
    for (const one of pair) {
      if (one === pair[index]) offer(one, 0, 30, [], 'after its restart')
      else offer(one, 60, 90)
    }
    await until('late', () => pair.some((one) => dropped(one, 'late') === 30n))
    expect(left.site.keys).toEqual(right.site.keys)
    for (const one of pair) offer(one, 90, 150)
    await equalWith(left, right, 149)
  })

  it('a numbering that begins anew and says so does not mix its keys with the old ones', async () => {
    const pair = await twoGateways()
    const [left, right] = pair
    for (const one of pair) offer(one, 0, 60)
    await equalWith(left, right, 59)
    const faulty = pair[index]
    if (faulty !== undefined) offer(faulty, 60, 70)
    faulty?.link.deviceRenumbered('it was switched off')
    expect(faulty === undefined ? 0n : dropped(faulty, 'renumbered')).toBeGreaterThanOrEqual(10n)
    if (faulty !== undefined) offer(faulty, 0, 40, [], 'after its restart')
    await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
    for (const one of pair) {
      if (one !== pair[index]) one.link.deviceRenumbered('both are')
      offer(one, 40, 100, [], 'both anew')
    }
    const last = Buffer.from(keyOf(99, 'both anew')).toString('hex')
    await until('keys flow', () => pair.every(({ site }) => site.keys.includes(last)))
    expect(left.site.keys).toEqual(right.site.keys)
    expect(countsHold(left, right)).toBe(true)
    for (let id = 0; id < 40; id += 1) {
      expect(left.site.keys).not.toContain(Buffer.from(keyOf(id, 'after its restart')).toString('hex'))
    }
  })
})
