import { expect, it } from 'vitest'
import { Ledger } from '../../src/link/counts.js'
import { UnagreedDelivery } from '../../src/link/unagreed.js'
import { FakeSite } from './bench.js'

function delivery(): { unagreed: UnagreedDelivery; site: FakeSite; ledger: Ledger; uncertain: number[] } {
  const ledger = new Ledger()
  const uncertain: number[] = []
  const onUncertain = (keys: number): number => uncertain.push(keys)
  const unagreed = new UnagreedDelivery({ keyBytes: 1, maxHeldKeys: 10, maxKeys: 4, ledger, onUncertain })
  return { unagreed, site: new FakeSite(), ledger, uncertain }
}

const keys = (...values: number[]): Uint8Array[] => values.map((value) => Uint8Array.of(value))

it('keys that waited go out before later ones with the next WaitForSession', async () => {
  const { unagreed, site, ledger } = delivery()
  unagreed.deliver(keys(1, 2, 3))
  unagreed.use(site.open())
  unagreed.deliver(keys(4, 5))
  await site.has(5)
  expect(site.keys).toEqual(['01', '02', '03', '04', '05'])
  expect(ledger.counts(unagreed.held)).toMatchObject({ received: 5n, delivered: 5n, held: 0n, dropped: {} })
})

it('keys on a stream that ended under them are not sent again, are counted, and are told of', async () => {
  const { unagreed, site, ledger, uncertain } = delivery()
  const stream = site.open()
  stream.send = async () => {
    stream.cancel()
    return 'ended'
  }
  unagreed.use(stream)
  unagreed.deliver(keys(1, 2))
  await new Promise((resolve) => setImmediate(resolve))
  unagreed.use(site.open())
  unagreed.deliver(keys(3))
  await site.has(1)
  expect(site.keys).toEqual(['03'])
  expect(uncertain).toEqual([2])
  expect(ledger.counts(unagreed.held)).toMatchObject({ received: 3n, delivered: 1n, dropped: { uncertain: 2n } })
})
