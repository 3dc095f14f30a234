import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { parseHostPort } from '../../src/base/host-port.js'
import { systemRandom } from '../../src/base/random.js'
import { silentLogger } from '../../src/observe/log.js'
import { openChannel } from '../../src/rpc/channel.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { openSiteConnection, plainReason } from '../../src/site/site-connection.js'
import { TotalsSubscription } from '../../src/site/totals.js'
import { startCppSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startJavaSiteAgent } from '../../src/standin/java-site-agent.js'
import { startRelay } from '../../src/standin/relay.js'
import { runSite, untilRegistration } from './support/run-site.js'
import { poll } from '../standin/support/poll.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

test('a frozen connection is noticed in bounded time, doubted, left, and replaced by one that works', async () => {
  const agent = await startCppSiteAgent({ name: 'A' })
  const relay = await startRelay(parseHostPort(agent.address, 'test'))
  const running = runSite(`${relay.host}:${relay.port}`, { callTimeoutMs: 300 })
  cleanups.push(
    () => agent.close(),
    () => relay.close(),
    () => running.stop(),
  )
  const { site } = running
  site.setControlAddress({ host: '127.0.0.1', port: 9000 }, '')
  await untilRegistration(site.state, 'registered')
  await poll(() => site.reporting()).toBe(true)
  const doubts: { confirmed: boolean; reporting: boolean }[] = []
  site.state.subscribe((state) => {
    if (state.state === 'registered') doubts.push({ confirmed: state.confirmed, reporting: site.reporting() })
  })
  relay.stop('present')
  await poll(() => doubts.at(-1)?.confirmed).toBe(true)
  expect(doubts[0]).toEqual({ confirmed: false, reporting: false })
  await poll(() => site.reporting()).toBe(true)
  expect(agent.devices()).toHaveLength(1)
})

test('a call that is not answered names the method, the SiteAgent and the time', async () => {
  const agent = await startJavaSiteAgent({ name: 'A' })
  cleanups.push(() => agent.close())
  const connection = openSiteConnection(parseHostPort(agent.address, 'test'), () =>
    openChannel({ address: agent.address, what: 'test' }),
  )
  cleanups.push(() => connection.close())
  const call = connection.call(ISiteAgent.method.endKeyExchange, {}, 100, new AbortController().signal)
  await expect(call).rejects.toMatchObject({
    code: 'E_DEADLINE',
    message: `EndKeyExchange at the SiteAgent ${agent.address}: no answer within 100 ms`,
  })
})

test('reports that a SiteAgent does not serve are known to be missing, and not asked for at every turn', async () => {
  const agent = await startJavaSiteAgent({ name: 'A' })
  cleanups.push(() => agent.close())
  const connection = openSiteConnection(parseHostPort(agent.address, 'test'), () =>
    openChannel({ address: agent.address, what: 'test' }),
  )
  const totals = new TotalsSubscription({
    connection,
    ask: () => Promise.resolve(),
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    retryFirstMs: 1,
    retryMaxMs: 1,
    onBroken: () => {},
  })
  const stop = new AbortController()
  const running = totals.run(stop.signal)
  cleanups.push(
    () => connection.close(),
    async () => {
      stop.abort()
      await running
    },
  )
  await poll(() => totals.served).toBe(false)
  expect(totals.reporting).toBe(false)
})

test('what gRPC says of a failed connection becomes plain words', () => {
  const details = 'No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: '
  expect(plainReason(details)).toBe('nobody listens there (connect ECONNREFUSED 127.0.0.1:1)')
  expect(plainReason('read ECONNRESET')).toBe('the connection was reset (read ECONNRESET)')
  expect(plainReason('something else')).toBe('something else')
})
