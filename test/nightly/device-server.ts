/**
 * The long form of the device server's bounds. Prints one JSON document:
 *   attempts      connections and calls of strangers, of every kind, and the heap before and after, bytes
 *   served        longest time that a SiteAgent's call took meanwhile, ms (must stay below 1,000)
 *   killed        WaitForSession readers whose connection was reset between two messages
 *   watched       GetLinkStatus streams opened and left
 * Exit code 0 only if all bounds held. Options: --attempts 100000 --kills 1000 --watches 10000
 */
import { once } from 'node:events'
import * as http2 from 'node:http2'
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { serverStream, unary } from '../../src/rpc/bridge.js'
import { openChannel } from '../../src/rpc/channel.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { connectTo, duplexPair, soon, startDevice, type DeviceUnderTest } from '../rpc/support/device.js'

const { values } = parseArgs({
  options: {
    attempts: { type: 'string', default: '100000' },
    kills: { type: 'string', default: '1000' },
    watches: { type: 'string', default: '10000' },
  },
})
/** What the heap may grow by over all attempts, bytes. */
const MAX_GROWTH_BYTES = 16 * 1024 * 1024
const MAX_SERVED_MS = 1_000
const site = { host: '45.55.2.5', port: 1 }

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** Heap in use after two collections, with time for what waits for the event loop. */
async function heapBytes(): Promise<number> {
  for (let n = 0; n < 2; n += 1) {
    await new Promise((resolve) => setTimeout(resolve, 200))
    collect()
  }
  return process.memoryUsage().heapUsed
}

async function attempt(device: DeviceUnderTest, n: number): Promise<void> {
  const stranger = { host: `203.0.${(n >> 8) & 255}.${n & 255}`, port: 1 }
  if (n % 6 === 0) {
    const socket = await connectTo(device.address)
    socket.on('error', () => {})
    socket.resetAndDestroy()
    return
  }
  const [near, far] = duplexPair()
  device.server.inject(far, n % 6 === 1 ? undefined : stranger)
  if (n % 6 === 2) {
    near.destroy()
    return
  }
  if (n % 6 === 5) {
    // Speaks something else, and leaves as soon as it is told to.
    near.resume()
    near.write('GET / HTTP/1.1\r\nHost: you\r\n\r\n')
    await once(near, 'end')
    near.destroy()
    return
  }
  const client = http2.connect('http://device', { createConnection: () => near })
  client.on('error', () => {})
  const call = client.request({
    ':method': 'POST',
    ':path': n % 6 === 3 ? '/qkdgw.probe.v1.Probe/Echo' : '/cqp.remote.IDevice/WaitForSession',
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  call.on('error', () => {})
  const over = new Promise<void>((resolve) => {
    call.once('end', resolve)
    call.once('close', resolve)
  })
  call.resume()
  // A message that says it is longer than what comes: never whole, and its stream is never ended.
  call.write(Buffer.from([0, 0, 1, 0, 0, 1, 2, 3]))
  if (n % 6 === 3) setImmediate(() => client.destroy())
  await over
  client.destroy()
}

async function attempts(device: DeviceUnderTest, count: number) {
  const { client } = await device.throughTunnel(site)
  let servedMs = 0
  const run = async (from: number, to: number): Promise<void> => {
    for (let n = from; n < to; n += 50) {
      await Promise.all(Array.from({ length: Math.min(50, to - n) }, (_, k) => attempt(device, n + k)))
      const startedMs = performance.now()
      await unary(client, IDevice.method.endSession, {}, soon())
      servedMs = Math.max(servedMs, performance.now() - startedMs)
      device.port.calls.length = 0
    }
  }
  // What is made once (caches, compiled code) is not growth.
  await run(0, Math.floor(count / 10))
  const before = await heapBytes()
  await run(Math.floor(count / 10), count)
  return { attempts: count, heapBefore: before, heapAfter: await heapBytes(), servedMs: Math.round(servedMs) }
}

async function kills(device: DeviceUnderTest, count: number) {
  let open = 0
  device.port.onStream = (stream) => {
    open += 1
    stream.signal.addEventListener('abort', () => (open -= 1), { once: true })
    void (async () => {
      const keys = Array.from({ length: 100 }, () => new Uint8Array(32))
      while ((await stream.send(keys)) === 'sent');
    })()
  }
  for (let n = 0; n < count; n += 1) {
    const socket = await connectTo(device.address)
    const channel = await openChannel({
      address: `127.0.0.1:${device.address.port}`,
      what: 'test',
      dial: () => Promise.resolve(socket),
    })
    const call = serverStream(channel.client, IDevice.method.waitForSession, {}, soon())
    const messages = call[Symbol.asyncIterator]()
    await messages.next()
    await messages.next()
    socket.resetAndDestroy()
    await call.status
    await channel.close()
    device.port.calls.length = 0
    device.port.streams.length = 0
  }
  while (open > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  return count
}

/** Node ends a connection on which more than 1,000 calls are cancelled in a row (its guard against rapid resets). */
const WATCHES_A_CONNECTION = 500

async function watches(device: DeviceUnderTest, count: number) {
  const before = await heapBytes()
  for (let n = 0; n < count; n += WATCHES_A_CONNECTION) {
    const channel = await openChannel({ address: `127.0.0.1:${device.address.port}`, what: 'test' })
    for (let k = 0; k < WATCHES_A_CONNECTION; k += 50) {
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          for await (const _ of serverStream(channel.client, IDevice.method.getLinkStatus, {}, soon())) break
        }),
      )
    }
    await channel.close()
  }
  return { watched: count, heapBefore: before, heapAfter: await heapBytes() }
}

const device = await startDevice()
const strangers = await attempts(device, Number(values.attempts))
const killed = await kills(device, Number(values.kills))
const watched = await watches(device, Number(values.watches))
const { open, requestBytesInFlight } = device.server.counts()
await device.close()
const held =
  strangers.heapAfter - strangers.heapBefore < MAX_GROWTH_BYTES &&
  watched.heapAfter - watched.heapBefore < MAX_GROWTH_BYTES &&
  strangers.servedMs < MAX_SERVED_MS &&
  requestBytesInFlight === 0
process.stdout.write(`${JSON.stringify({ held, strangers, killed, watched, open, requestBytesInFlight }, null, 2)}\n`)
process.exit(held ? 0 : 1)
