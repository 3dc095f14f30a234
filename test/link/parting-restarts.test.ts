import { afterEach, expect, it } from 'vitest'
import { memoryJournal } from '../../src/link/journal.js'
import { call, FakeSite, type Gateway, offer, startGateway, startSession, until } from './bench.js'

const running = new Set<Gateway>()
afterEach(async () => {
  await Promise.all([...running].map((one) => one.crash()))
  running.clear()
})

it('a parting is over once both stores are new, though a gateway was restarted in between', async () => {
  const journal = memoryJournal()
  const site = new FakeSite()
  let left = await startGateway({ journal, site })
  const right = await startGateway()
  running.add(left).add(right)
  await startSession(left, right)
  let next = 0
  const feed = async (what: string, holds: () => boolean): Promise<void> => {
    await until(what, () => {
      if (holds()) return true
      offer(left, next, next + 20)
      offer(right, next, next + 20)
      next += 20
      return false
    })
  }
  await feed('first keys', () => right.site.keys.length >= 40)
  await until('rest', () => !left.link.isSettling() && !right.link.isSettling())
  right.site.takeIn(['00'])
  const both = (): Gateway[] => [left, right]
  await feed('parted', () => both().every(({ link }) => link.linkStatusReport().state === 'diverged'))
  await left.crash()
  running.delete(left)
  site.restart()
  right.site.restart()
  right.link.siteAgentRestarted()
  await right.link.endSession(call())
  left = await startGateway({ journal, site })
  running.add(left)
  expect(left.link.linkStatusReport().state).toBe('diverged')
  await startSession(left, right)
  await feed('keys flow again', () => site.keys.length >= 40 && site.keys.join() === right.site.keys.join())
  expect(both().map(({ link }) => link.linkStatusReport().state)).not.toContain('diverged')
})

it('a batch that is on its way for more than 5 s is warned of in status', async () => {
  const left = await startGateway()
  const right = await startGateway()
  running.add(left).add(right)
  left.site.reading = false
  await startSession(left, right)
  offer(left, 0, 50)
  offer(right, 0, 50)
  const warnings = (): string => left.link.linkStatusReport().warnings?.join() ?? ''
  await until('on its way', () => left.link.linkStatusReport().facts?.['inFlight'] !== 0)
  expect(warnings()).toBe('')
  await until(
    'warned of',
    () => /a batch of \d+ keys has been on its way to this SiteAgent for \d+ s/.test(warnings()),
    20_000,
  )
  left.site.reading = true
  left.site.streams.at(-1)?.read()
  await until('it is over', () => right.site.keys.length > 0 && warnings() === '')
})
