import { Server, status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { addUnary } from '../../src/rpc/bridge.js'
import { KeyTransfer } from '../../src/rpc/gen/cqp/remote/key_transfer_pb.js'
import { IKey } from '../../src/rpc/gen/cqp/remote/keys_pb.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { bind, callUnary } from '../../src/standin/wire.js'
import { callsOf, codeOf, soon, useBench } from './support/bench.js'
import { startPlainDevice, testKeys } from './support/plain-device.js'
import { poll } from './support/poll.js'

const bench = useBench()

describe('what StartNode answers', () => {
  test('NOT_FOUND for an empty path, and for a device id that site A does not know', async () => {
    const { a, b } = await bench.pair()
    const start = (path: ReturnType<typeof pathOf>) =>
      codeOf(callUnary(bench.client(a), ISiteAgent.method.startNode, path))
    expect(await start({ ...pathOf({ site: '', deviceId: '' }, { site: '', deviceId: '' }), hops: [] })).toBe(
      status.NOT_FOUND,
    )
    expect(await start(pathOf({ site: a.url, deviceId: 'stranger' }, { site: b.url, deviceId: 'b' }))).toBe(
      status.NOT_FOUND,
    )
  })

  test('UNAVAILABLE where site B is not reached, after device A was stopped as by EndKeyExchange', async () => {
    const { b, alice, start } = await bench.pair()
    await b.close()
    expect(await codeOf(start())).toBe(status.UNAVAILABLE)
    await alice.calls.until(({ call }) => call === 'WaitForSession ended', soon())
    expect(callsOf(alice).filter((call) => call === 'EndSession')).toHaveLength(2)
  })

  test('OK proves nothing: B does not know its device, the path names other sites, RunSession failed', async () => {
    const { a, b, bob, start } = await bench.pair()
    const ask = (second: string, site = a.url) =>
      codeOf(
        callUnary(
          bench.client(a),
          ISiteAgent.method.startNode,
          pathOf({ site, deviceId: 'a' }, { site: b.url, deviceId: second }),
        ),
      )
    expect(await ask('stranger')).toBe(status.OK)
    expect(await ask('b', 'elsewhere:1')).toBe(status.OK)
    bob.runStatus = status.FAILED_PRECONDITION
    expect(await codeOf(start())).toBe(status.OK)
    // WaitForSession stays open, nobody tries again.
    await poll(() => bob.openStreams).toBe(1)
  })

  test('OK even where the device cannot be reached, after the wait for its connection', async () => {
    const { a, b } = await bench.pair({ connectWaitMs: 200 })
    await bench.register(a, 'gone', '127.0.0.1:1')
    const path = pathOf({ site: a.url, deviceId: 'gone' }, { site: b.url, deviceId: 'b' })
    const began = performance.now()
    expect(await codeOf(callUnary(bench.client(a), ISiteAgent.method.startNode, path))).toBe(status.OK)
    expect(performance.now() - began).toBeGreaterThan(190)
  })
})

describe('a stop', () => {
  test('cancels the streams, then calls EndSession twice, at A and then at B', async () => {
    const { alice, bob, start, end } = await bench.pair()
    await start()
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    const [fromA, fromB] = [alice.calls.history.length, bob.calls.history.length]
    let release = (): void => {}
    alice.endSessionAfter = new Promise((resolve) => (release = resolve))
    const ending = end()
    await alice.calls.until(({ call }) => call === 'EndSession', soon(), fromA)
    await alice.calls.until(({ call }) => call === 'WaitForSession ended', soon(), fromA)
    // EndSession of A is waited for without a deadline; until then B's stream stays open.
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(callsOf(alice, fromA).filter((call) => call === 'EndSession')).toHaveLength(1)
    expect(bob.openStreams).toBe(1)
    release()
    await ending
    for (const calls of [callsOf(alice, fromA), callsOf(bob, fromB)]) {
      expect(calls.filter((call) => call === 'EndSession')).toHaveLength(2)
      expect([...calls].sort()).toEqual(['EndSession', 'EndSession', 'GetStatistics ended', 'WaitForSession ended'])
    }
  })

  test('asked at site B stops only B', async () => {
    const { a, b, alice, bob, start } = await bench.pair()
    await start()
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    const path = pathOf({ site: a.url, deviceId: 'a' }, { site: b.url, deviceId: 'b' })
    await callUnary(bench.client(b), ISiteAgent.method.endKeyExchange, path)
    expect([alice.openStreams, bob.openStreams]).toEqual([1, 0])
  })

  test('where nothing runs is INVALID_ARGUMENT, Unknown device', async () => {
    const { end } = await bench.pair()
    expect(await codeOf(end())).toBe(status.INVALID_ARGUMENT)
  })
})

describe('a stream that ended', () => {
  test.each([status.OK, status.INTERNAL])(
    'with status %i is not opened again until a stop and a start',
    async (code) => {
      const { a, alice, bob, start, end } = await bench.pair()
      await start()
      await poll(() => alice.openStreams + bob.openStreams).toBe(2)
      alice.endStreams(code)
      await a.events.until((e) => e.event === 'stream-ended', soon())
      const from = bob.calls.history.length
      await start()
      // "Hop already active": only RunSession goes out.
      expect(callsOf(bob, from)).toEqual(['RunSession'])
      expect(alice.openStreams).toBe(0)
      await end()
      await start()
      await poll(() => alice.openStreams).toBe(1)
    },
  )

  test('a device that dies is not noticed, and after its return only RunSession reaches it', async () => {
    const { a, b, bob, start, end } = await bench.pair()
    await start()
    await poll(() => bob.openStreams).toBe(1)
    bob.close()
    await b.events.until((e) => e.event === 'stream-ended', soon())
    expect(b.inUse()).toEqual(['b'])
    expect(a.inUse()).toEqual(['a'])
    const back = await startPlainDevice(Number(bob.address.split(':')[1]))
    bench.after(() => back.close())
    await start()
    await back.calls.until(({ call }) => call === 'RunSession', soon())
    expect(callsOf(back)).toEqual(['RunSession'])
    await end()
    await start()
    await poll(() => back.openStreams).toBe(1)
  })
})

describe('registrations', () => {
  test('are appended, the first of an id is used, and one goes with each UnregisterDevice until NOT_FOUND', async () => {
    const { a, alice, start } = await bench.pair()
    await bench.register(a, 'a', '127.0.0.1:1')
    await bench.register(a, 'a', '127.0.0.1:1')
    expect(a.devices()).toHaveLength(3)
    await start()
    await poll(() => alice.openStreams).toBe(1)
    for (let left = 2; left >= 0; left -= 1) {
      await bench.unregister(a, 'a')
      expect(a.devices()).toHaveLength(left)
    }
    expect(await codeOf(bench.unregister(a, 'a'))).toBe(status.NOT_FOUND)
  })

  test('and keys are forgotten in a restart; with a backing store keys and numbering go on', async () => {
    for (const backingStore of [false, true]) {
      const { a, b, alice, bob, start } = await bench.pair({ backingStore })
      await start()
      await poll(() => alice.openStreams + bob.openStreams).toBe(2)
      await Promise.all([alice.send(testKeys(3)), bob.send(testKeys(3))])
      await poll(() => a.receivedKeys().length + b.receivedKeys().length).toBe(6)
      await a.restart()
      expect(a.devices()).toEqual([])
      await bench.register(a, 'a', alice.address)
      await start()
      await poll(() => alice.openStreams).toBe(1)
      await alice.send(testKeys(1, 32, 3))
      await poll(() => a.receivedKeys().length).toBe(1)
      const taken = []
      for (let n = 0; n < (backingStore ? 3 : 1); n += 1) {
        taken.push(await callUnary(bench.client(a), IKey.method.getSharedKey, { siteTo: b.url }))
      }
      const arrived = testKeys(4)
      // With keys in the store the first of them is the new session's initial key.
      expect(taken.map(({ keyId }) => keyId)).toEqual(backingStore ? [2n, 3n, 4n] : [1n])
      expect(taken.map(({ keyValue }) => keyValue)).toEqual(arrived.slice(backingStore ? 1 : 3))
    }
  })
})

describe('keys', () => {
  test('of any length are taken, none at all included', async () => {
    const { a, alice, start } = await bench.pair()
    await start()
    await poll(() => alice.openStreams).toBe(1)
    const keys = [new Uint8Array(0), ...testKeys(1, 16), ...testKeys(1, 32), new Uint8Array(1_000)]
    await alice.send(keys)
    await a.events.until((e) => e.event === 'keys', soon())
    expect(a.receivedKeys().map(({ length }) => length)).toEqual([0, 16, 32, 1_000])
  })

  test('two spellings of one site are two stores, and ids reserved in the other one are of no use', async () => {
    const { a, b, alice, bob } = await bench.pair()
    const spelt = b.url.replace('127.0.0.1', 'localhost')
    const path = pathOf({ site: a.url, deviceId: 'a' }, { site: spelt, deviceId: 'b' })
    await callUnary(bench.client(a), ISiteAgent.method.startNode, path)
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    await alice.send(testKeys(1))
    await a.events.until((e) => e.event === 'keys', soon())
    expect((await callUnary(bench.client(a), IKey.method.getKeyStores, {})).urls).toEqual([spelt])
    expect(await codeOf(callUnary(bench.client(a), IKey.method.getSharedKey, { siteTo: b.url }))).toBe(
      status.INVALID_ARGUMENT,
    )
  })

  test('a second session’s initial key is one of the store, its id travels with the path, and both sites use it up', async () => {
    const { a, b, alice, bob, start, end } = await bench.pair()
    await start()
    await poll(() => alice.openStreams + bob.openStreams).toBe(2)
    await Promise.all([alice.send(testKeys(2)), bob.send(testKeys(2))])
    await poll(() => a.receivedKeys().length + b.receivedKeys().length).toBe(4)
    await end()
    const [fromA, fromB] = [alice.calls.history.length, bob.calls.history.length]
    await start()
    const key = testKeys(1)[0]
    expect(await alice.calls.until(({ call }) => call === 'WaitForSession', soon(), fromA)).toMatchObject({
      initialKey: key,
    })
    expect(await bob.calls.until(({ call }) => call === 'WaitForSession', soon(), fromB)).toMatchObject({
      initialKey: key,
    })
    expect(await bob.calls.until(({ call }) => call === 'RunSession', soon(), fromB)).toMatchObject({
      initialKeyId: 1n,
    })
    expect((await callUnary(bench.client(a), IKey.method.getSharedKey, { siteTo: b.url })).keyId).toBe(2n)
  })

  test('a first session brings the configured fallback key', async () => {
    const fallbackKey = new Uint8Array([1, 2, 3])
    const { alice, start } = await bench.pair({ fallbackKey })
    await start()
    expect(await alice.calls.until(({ call }) => call === 'WaitForSession', soon())).toMatchObject({
      initialKey: fallbackKey,
    })
  })
})

describe('the fork', () => {
  test('reads nothing while its KeyTransfer is down, and stores once it is up', async () => {
    const server = new Server()
    const passed: bigint[] = []
    addUnary(server, KeyTransfer.method.onKeyFromCQP, ({ seqID }) => {
      passed.push(seqID)
      return {}
    })
    const port = await bind(server, '127.0.0.1:0')
    await new Promise<void>((resolve) => server.tryShutdown(() => resolve()))
    const { a, alice, start } = await bench.pair({ keyTransferAddress: `127.0.0.1:${port}` })
    await start()
    await poll(() => alice.openStreams).toBe(1)
    await alice.send(testKeys(2))
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(a.receivedKeys()).toEqual([])
    const again = new Server()
    addUnary(again, KeyTransfer.method.onKeyFromCQP, ({ seqID }) => {
      passed.push(seqID)
      return {}
    })
    await bind(again, `127.0.0.1:${port}`)
    bench.after(() => again.forceShutdown())
    await a.events.until((e) => e.event === 'keys' && e.count === 2, soon())
    expect(passed).toHaveLength(2)
  })

  test('stops reading for good after the message that passes its limit, without ending the call', async () => {
    const { a, alice, start, end } = await bench.pair({ stopsReadingAfterKeys: 10 })
    await start()
    await poll(() => alice.openStreams).toBe(1)
    await alice.send(testKeys(8))
    await alice.send(testKeys(8, 32, 8))
    await alice.send(testKeys(8, 32, 16))
    await a.events.until((e) => e.event === 'note' && e.text.includes('reads nothing more'), soon())
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(a.receivedKeys()).toHaveLength(16)
    expect(alice.openStreams).toBe(1)
    await end()
    await start()
    await poll(() => alice.openStreams).toBe(1)
    await alice.send(testKeys(1, 32, 24))
    await poll(() => a.receivedKeys().length).toBe(17)
  })
})

test('a site that reads nothing lets megabytes pile up in transport buffers and then holds the writer back', async () => {
  const { a, alice, start } = await bench.pair({ faults: { readsNothing: true } })
  await start()
  await poll(() => alice.openStreams).toBe(1)
  let sent = 0
  const flood = async (): Promise<void> => {
    for (; sent < 40; sent += 1) await alice.send(testKeys(1_000, 1_000))
  }
  void flood()
  await poll(() => sent).toBeGreaterThan(3)
  await new Promise((resolve) => setTimeout(resolve, 500))
  expect(sent).toBeLessThan(40)
  expect(a.receivedKeys()).toEqual([])
  a.faults.readsNothing = false
  a.readAgain()
  await poll(() => a.receivedKeys().length, { timeout: 100_000 }).toBe(40 * 1_000)
})
