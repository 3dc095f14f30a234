import { createHash } from 'node:crypto'
import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { IKey } from '../../src/rpc/gen/cqp/remote/keys_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import type { StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { callUnary } from '../../src/standin/wire.js'
import { callsOf, codeOf, soon, useBench } from './support/bench.js'
import { testKeys } from './support/plain-device.js'

const bench = useBench()
const { pair } = bench

describe('the eight steps', () => {
  test('StartNode at site A makes both sites ask their devices, and site B start the session with A’s device as peer', async () => {
    const { a, alice, bob, start } = await pair()
    await start()
    await alice.calls.until(({ call }) => call === 'WaitForSession', soon())
    await alice.calls.until(({ call }) => call === 'GetStatistics', soon())
    await bob.calls.until(({ call }) => call === 'WaitForSession', soon())
    const run = await bob.calls.until(({ call }) => call === 'RunSession', soon())
    expect(run).toMatchObject({ peerAddress: alice.address, initialKeyId: 0n })
    expect(callsOf(alice)).not.toContain('RunSession')
    expect(a.events.history.filter((e) => e.event === 'step').map((e) => (e.event === 'step' ? e.step : 0))).toEqual([
      1, 3, 4, 4, 5,
    ])
  })

  test('the statistics of a device are asked for with an empty exclusion list, that is everything', async () => {
    const { alice, start } = await pair()
    await start()
    const asked = await alice.calls.until(({ call }) => call === 'GetStatistics', soon())
    expect(asked).toMatchObject({ filter: { listIsExclude: true, filters: [] } })
  })

  test('steps 6 and 7 come in the order that is asked for', async () => {
    const { bob, start } = await pair({}, { rightOrder: ['WaitForSession', 'GetStatistics', 'RunSession'] })
    await start()
    await bob.calls.until(({ call }) => call === 'RunSession', soon())
    expect(callsOf(bob)).toEqual(['WaitForSession', 'GetStatistics', 'RunSession'])
  })

  test('a device address that stands in the path already is overwritten', async () => {
    const { a, b, bob, alice } = await pair()
    const path = pathOf({ site: a.url, deviceId: 'a' }, { site: b.url, deviceId: 'b' })
    const hop = path.hops[0]
    if (hop?.first !== undefined) hop.first.deviceAddress = '192.0.2.1:1'
    await callUnary(bench.client(a), ISiteAgent.method.startNode, path)
    expect(await bob.calls.until(({ call }) => call === 'RunSession', soon())).toMatchObject({
      peerAddress: alice.address,
    })
  })
})

describe('keys', () => {
  test('are numbered by arrival from 1 over all sessions, and the digest is that of their bytes in order', async () => {
    const { a, alice, start, end } = await pair()
    const keys = testKeys(5)
    await start()
    await alice.calls.until(({ call }) => call === 'WaitForSession', soon())
    await alice.send(keys.slice(0, 3))
    await a.events.until((e) => e.event === 'keys' && e.count === 3, soon())
    await end()
    const seen = alice.calls.history.length
    await start()
    // From the second session on, the initial key is one of the store.
    expect(await alice.calls.until(({ call }) => call === 'WaitForSession', soon(), seen)).toMatchObject({
      initialKey: keys[0],
    })
    await alice.send(keys.slice(3))
    const event = await a.events.until((e) => e.event === 'keys' && e.count === 5, soon())
    const digest = createHash('sha256').update(Buffer.concat(keys)).digest('hex')
    expect(event).toMatchObject({ digest })
    expect(a.digest(5)).toBe(digest)
    expect(a.digest(2)).toBe(
      createHash('sha256')
        .update(Buffer.concat(keys.slice(0, 2)))
        .digest('hex'),
    )
    expect(a.receivedKeys()).toEqual(keys)
  })

  test('a message above 4 MiB ends WaitForSession, and the site does not ask again', async () => {
    const { a, alice, start } = await pair()
    await start()
    await alice.calls.until(({ call }) => call === 'WaitForSession', soon())
    await alice.send([new Uint8Array(4 * 1024 * 1024)])
    const ended = await a.events.until((e) => e.event === 'stream-ended', soon())
    expect(ended).toMatchObject({ code: status.RESOURCE_EXHAUSTED })
    expect(a.receivedKeys()).toEqual([])
    await start()
    expect(callsOf(alice).filter((call) => call === 'WaitForSession')).toHaveLength(1)
  })
})

describe('asking for keys', () => {
  test('a store that does not exist, no key at once, an id that does not come', async () => {
    const { a, b, alice, bob, start } = await pair()
    const ask = (agent: StandinSiteAgent, siteTo: string, id?: bigint) =>
      callUnary(bench.client(agent), IKey.method.getSharedKey, {
        siteTo,
        ...(id === undefined ? {} : { opt: { case: 'keyId' as const, value: id } }),
      })
    expect(await codeOf(ask(a, b.url))).toBe(status.INVALID_ARGUMENT)
    await start()
    expect(await codeOf(ask(a, b.url))).toBe(status.RESOURCE_EXHAUSTED)
    expect(await codeOf(ask(a, b.url, 77n))).toBe(status.NOT_FOUND)
    const [key = new Uint8Array()] = testKeys(1)
    await alice.calls.until(({ call }) => call === 'WaitForSession', soon())
    await alice.send([key])
    await a.events.until((e) => e.event === 'keys', soon())
    // B has not got it yet: the id is a placeholder there, and asked for it answers OK with an empty key.
    const first = await ask(a, b.url)
    expect(first).toMatchObject({ keyId: 1n, keyValue: key })
    expect(await ask(b, a.url, 1n)).toMatchObject({ keyId: 1n, keyValue: new Uint8Array() })
    // What arrives later is free to be given out again.
    await bob.calls.until(({ call }) => call === 'WaitForSession', soon())
    await bob.send([key])
    await b.events.until((e) => e.event === 'keys', soon())
    expect(await ask(b, a.url)).toMatchObject({ keyId: 1n, keyValue: key })
  })
})
