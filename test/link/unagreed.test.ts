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

it('keys that waited for a peer without the link service do not go out once the peer is a gateway', async () => {
  const { unagreed, site, ledger } = delivery()
  unagreed.peerIs('foreign')
  unagreed.deliver(keys(1, 2, 3))
  unagreed.peerIs('none')
  // The next WaitForSession comes before it is known with whom the session will be.
  unagreed.use(site.open())
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  expect(site.keys).toEqual([])
  unagreed.peerIs('gateway')
  expect(ledger.counts(unagreed.held)).toMatchObject({
    received: 3n,
    delivered: 0n,
    held: 0n,
    dropped: { unagreed: 3n },
  })
})

it('keys that waited for such a peer go out with the next session with one, in order', async () => {
  const { unagreed, site, ledger } = delivery()
  unagreed.peerIs('foreign')
  unagreed.deliver(keys(1, 2, 3))
  unagreed.peerIs('none')
  unagreed.use(site.open())
  unagreed.peerIs('foreign')
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
  unagreed.peerIs('foreign')
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
