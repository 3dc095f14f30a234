import { afterEach, describe, expect, it } from 'vitest'
import { SitesAccount } from '../../src/link/sites-account.js'
import { call, countsHold, type Gateway, offer, startGateway, startSession, until } from './bench.js'

const running: Gateway[] = []

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.crash()))
})

function accountAt(roundTripMs: number | undefined) {
  const time = { nowMs: 1_000_000, monotonicMs: 0 }
  const clock = { nowMs: () => time.nowMs, monotonicMs: () => time.monotonicMs }
  const account = new SitesAccount(clock, () => roundTripMs)
  return {
    account,
    pass: (ms: number) => {
      time.nowMs += ms
      time.monotonicMs += ms
    },
  }
}

describe('the account of both SiteAgents', () => {
  it('reckons half the round trip into the skew, in whichever order it hears of a batch', () => {
    const left = accountAt(20)
    left.account.takenInHere(1, 40n)
    left.pass(25)
    left.account.takenInThere(1, 40n)
    expect(left.account.figures()).toMatchObject({ skewMs: 15, here: { total: 40n, confirmedMs: 1_000_000 } })
    expect(left.account.figures().there).toEqual({ total: 40n, confirmedMs: 1_000_025 })

    const right = accountAt(20)
    right.account.takenInThere(1, 40n)
    right.pass(5)
    right.account.takenInHere(1, 40n)
    expect(right.account.figures().skewMs).toBe(15)
  })

  it('takes no batch for skewed that was under way while the two had lost sight of each other', () => {
    const { account, pass } = accountAt(undefined)
    account.takenInHere(1, 1n)
    account.disconnected()
    pass(60_000)
    account.takenInThere(1, 1n)
    expect(account.figures().skewMs).toBeUndefined()
  })

  it('remembers the greatest skew of the last batches and no more than those', () => {
    const { account, pass } = accountAt(undefined)
    for (let serial = 1; serial <= 150; serial += 1) {
      account.takenInHere(serial, undefined)
      pass(serial === 1 ? 500 : serial === 100 ? 70 : 3)
      account.takenInThere(serial, undefined)
    }
    expect(account.figures()).toMatchObject({ skewMs: 3, skewMaxMs: 70 })
  })
})

describe('the status of a link', () => {
  it('tells both totals at both sites, when they were confirmed, and since when it stands as it does', async () => {
    const [left, right] = [await startGateway(), await startGateway()]
    running.push(left, right)
    const before = left.link.linkStatusReport()
    expect(before).toMatchObject({ state: 'idle', reason: 'no session' })
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(left.link.linkStatusReport().sinceMs).toBe(before.sinceMs)

    const streams = await startSession(left, right)
    offer(left, 0, 100)
    offer(right, 0, 100)
    await until('99 keys are at both', () => left.site.keys.length === 99 && right.site.keys.length === 99)
    await until('both know it', () =>
      [left, right].every(({ link }) => link.linkStatusReport().facts?.['otherTotal'] === '99'),
    )
    for (const { link } of [left, right]) {
      const { facts, state, sinceMs } = link.linkStatusReport()
      expect(state).toBe('delivering')
      expect(sinceMs).toBeGreaterThanOrEqual(before.sinceMs)
      expect(facts).toMatchObject({ siteTotal: '99', otherTotal: '99', sacrificed: '1' })
      expect(Number(facts?.['lastConfirmedMs'])).toBeGreaterThan(before.sinceMs)
      expect(Number(facts?.['otherConfirmedMs'])).toBeGreaterThan(before.sinceMs)
      expect(Number(facts?.['skewMs'])).toBeGreaterThanOrEqual(0)
      expect(facts?.['stages']).toMatchObject({ onItsWay: { batches: 0, keys: 0 }, due: { batches: 0, keys: 0 } })
    }

    streams.left.cancel()
    await left.link.endSession(call())
    expect(left.link.linkStatusReport()).toMatchObject({ state: 'idle', reason: 'no session' })
    expect(countsHold(left, right)).toBe(true)
  })

  it('shows which batches stand where while one SiteAgent does not read', async () => {
    const [left, right] = [await startGateway(), await startGateway()]
    running.push(left, right)
    await startSession(left, right)
    right.site.holdReports = true
    offer(left, 0, 50)
    offer(right, 0, 50)
    const stage = (gateway: Gateway, name: string): unknown =>
      (gateway.link.linkStatusReport().facts?.['stages'] as Record<string, unknown> | undefined)?.[name]
    await until('the left has it', () => left.site.keys.length === 49)
    await until('the left is ahead', () => (stage(left, 'ahead') as { keys: number }).keys === 49)
    await until('the right waits', () => (stage(right, 'onItsWay') as { keys: number }).keys === 49)
    expect(left.link.linkStatusReport().warnings?.join()).toContain('49 keys are at one site only')
    right.site.flush()
    await until('settled', () => (stage(left, 'ahead') as { keys: number }).keys === 0)
  })
})
