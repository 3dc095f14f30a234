import { afterEach, expect, it } from 'vitest'
import { type Gateway, offer, startGateway, startSession, until } from './bench.js'

const running: Gateway[] = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.crash()))
})

it('an operator may accept that one SiteAgent alone was restarted, and both sites go on with equal keys', async () => {
  const left = await startGateway()
  const right = await startGateway()
  running.push(left, right)
  await startSession(left, right)
  offer(left, 0, 100)
  offer(right, 0, 100)
  await until('keys came', () => left.site.keys.length > 50 && right.site.keys.length === left.site.keys.length)
  const before = right.site.keys.length
  left.site.restart()
  left.link.siteAgentRestarted()
  await left.link.endSession({
    originator: { address: '127.0.0.1', port: 1, via: 'local' },
    signal: new AbortController().signal,
    metadata: new Map(),
    setTrailer: () => {},
  })
  await startSession(left, right)
  offer(left, 200, 300)
  offer(right, 200, 300)
  await until('the parting is told', () => left.link.linkStatusReport().state === 'diverged')
  left.link.acceptDivergence()
  // What was verified for the stores as they were is dropped; what comes from now on is delivered.
  offer(left, 300, 430)
  offer(right, 300, 430)
  await until('keys come again', () => left.site.keys.length > 50 && right.site.keys.length > before + 50)
  await until('as many came', () => right.site.keys.length - before === left.site.keys.length)
  expect(right.site.keys.slice(before)).toEqual(left.site.keys)
  expect(left.link.linkStatusReport().state).not.toBe('diverged')
})
