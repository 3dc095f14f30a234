import { describe, expect, it } from 'vitest'
import { driver } from '../../../drivers/dummyqkd/driver.js'
import { systemClock } from '../../../src/base/clock.js'
import { isPairDevice, type KeyOrdering, type PairDevice } from '../../../src/device/pair-contract.js'
import { contextFor, peerOf, record, sessionWith } from '../support/pair.js'

function create(side: 'alice' | 'bob', options: Record<string, string>): PairDevice {
  const device = driver.create(contextFor(side, systemClock, options, side === 'alice' ? 3 : 4))
  if (!isPairDevice(device)) throw new Error('no pair device')
  return device
}

async function runPair(
  options: Record<string, string>,
  ordering: KeyOrdering,
  sessions: number,
): Promise<{ alice: { id: bigint; hex: string }[]; bob: { id: bigint; hex: string }[] }> {
  const alice = create('alice', { ...options, qubits: '1000', 'frame-ms': '5' })
  const bob = create('bob', options)
  const stop = new AbortController()
  const running = [alice.run(stop.signal), bob.run(stop.signal)]
  const heard = [record(alice), record(bob)] as const
  for (let i = 1; i <= sessions; i += 1) {
    const [atAlice, atBob] = [sessionWith(peerOf(bob.pair.services)), sessionWith(peerOf(alice.pair.services))]
    await bob.pair.prepare(atBob)
    await alice.pair.prepare(atAlice)
    alice.pair.start(ordering)
    bob.pair.start(ordering)
    await heard[1].untilKeys(20 * i)
    await alice.pair.quiesce()
    await bob.pair.quiesce()
    await Promise.all([alice.pair.end(), bob.pair.end()])
    expect([...atAlice.failures, ...atBob.failures]).toEqual([])
  }
  stop.abort()
  await Promise.all(running)
  return { alice: heard[0].keys, bob: heard[1].keys }
}

describe('a Dummy pair', () => {
  it.each([
    ['byArrival', '16', 'known'],
    ['byArrival', '32', 'random'],
    ['byId', '16', 'random'],
    ['byId', '32', 'known'],
  ] as const)(
    '%s with %s-byte keys and %s bases gives both sites the same keys over three sessions',
    async (ordering, keyBytes, bases) => {
      const { alice, bob } = await runPair({ 'key-bytes': keyBytes, bases }, ordering, 3)
      expect(bob.length).toBeGreaterThanOrEqual(60)
      expect(bob).toEqual(alice)
      expect(new Set(alice.map(({ hex }) => hex)).size).toBe(alice.length)
    },
  )
})
