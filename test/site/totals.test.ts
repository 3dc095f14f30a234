import { expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { parseHostPort } from '../../src/base/host-port.js'
import { systemRandom } from '../../src/base/random.js'
import { silentLogger } from '../../src/observe/log.js'
import { openChannel } from '../../src/rpc/channel.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { openSiteConnection } from '../../src/site/site-connection.js'
import { TotalsSubscription } from '../../src/site/totals.js'
import { startCppSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { poll } from '../standin/support/poll.js'

test('reports are followed again as soon as a SiteAgent that was away answers, however long the pause', async () => {
  const agent = await startCppSiteAgent({ name: 'A' })
  const { address } = agent
  const connection = openSiteConnection(parseHostPort(address, 'test'), () =>
    openChannel({ address, what: 'SiteAgent' }),
  )
  const stop = new AbortController()
  const ask = async (signal: AbortSignal): Promise<void> => {
    await connection.call(ISiteAgent.method.getSiteDetails, {}, 1_000, signal)
  }
  let broken = 0
  const totals = new TotalsSubscription({
    ...{ connection, ask, clock: systemClock, random: systemRandom, log: silentLogger },
    ...{ retryFirstMs: 600_000, retryMaxMs: 600_000, onBroken: () => (broken += 1) },
  })
  const running = totals.run(stop.signal)
  try {
    await poll(() => totals.reporting).toBe(true)
    await agent.restart()
    await poll(() => broken).toBe(1)
    expect(totals.reporting).toBe(false)
    // What the registrar does after each of its calls.
    const answered = async (): Promise<boolean> => {
      await ask(stop.signal).then(
        () => totals.answered(),
        () => totals.silent(),
      )
      return totals.reporting
    }
    await poll(answered).toBe(true)
  } finally {
    stop.abort()
    await running
    await connection.close()
    await agent.close()
  }
})
