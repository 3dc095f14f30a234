import { once } from 'node:events'
import * as http2 from 'node:http2'
import { Server, status as Status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { createLogger, silentLogger } from '../../src/observe/log.js'
import { PassThrough } from 'node:stream'
import { unary } from '../../src/rpc/bridge.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { Probe } from '../../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'
import { DEFAULT_HTTP2_BOUNDS, limitHttp2, WIDE_WINDOW_BYTES } from '../../src/rpc/http2-limits.js'
import { connectTo, duplexPair, soon, startDevice, type DeviceUnderTest } from './support/device.js'

let device: DeviceUnderTest | undefined
afterEach(async () => {
  await device?.close()
  device = undefined
})

const stranger = { host: '203.0.113.9', port: 1 }
const site = { host: '45.55.2.5', port: 1 }

async function eventually(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

/** A bare HTTP/2 session into the server, as if from `from`. */
async function session(under: DeviceUnderTest, from: typeof stranger): Promise<http2.ClientHttp2Session> {
  const [near, far] = duplexPair()
  under.server.inject(far, from)
  const client = http2.connect('http://device', { createConnection: () => near })
  client.on('error', () => {})
  await once(client, 'remoteSettings')
  return client
}

function openCall(client: http2.ClientHttp2Session, path: string): http2.ClientHttp2Stream {
  const stream = client.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  stream.on('error', () => {})
  return stream
}

/** Resolves when a call is over, failed or not. */
const closing = (stream: http2.ClientHttp2Stream): Promise<void> =>
  new Promise((resolve) => stream.once('close', () => resolve()))

/** The first bytes of a message of `length` bytes. */
const prefix = (length: number): Buffer =>
  Buffer.from([0, length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255])

describe('windows', () => {
  it('are wide for who is known and as they were for strangers', async () => {
    device = await startDevice()
    const known = await session(device, site)
    const unknown = await session(device, stranger)
    expect(known.remoteSettings.initialWindowSize).toBe(WIDE_WINDOW_BYTES)
    expect(unknown.remoteSettings.initialWindowSize).toBe(65_535)
    // The connection's own window arrives as an update just after the settings.
    await eventually(() => (known.state.remoteWindowSize ?? 0) >= WIDE_WINDOW_BYTES)
    expect(known.remoteSettings.maxConcurrentStreams).toBe(DEFAULT_HTTP2_BOUNDS.streams.known)
    expect(unknown.remoteSettings.maxConcurrentStreams).toBe(DEFAULT_HTTP2_BOUNDS.streams.stranger)
    known.destroy()
    unknown.destroy()
  })

  it('are left alone, and that is said, where grpc-js has no place for them', () => {
    const server = new Server()
    Reflect.set(server, 'createHttp2Server', undefined)
    const lines = new PassThrough()
    const limits = limitHttp2(
      server,
      DEFAULT_HTTP2_BOUNDS,
      systemClock,
      createLogger({ level: 'warn', format: 'json', destination: lines }),
    )
    expect(limits.active).toBe(false)
    expect(String(lines.read())).toContain('HTTP/2 windows')
    expect(limitHttp2(new Server(), DEFAULT_HTTP2_BOUNDS, systemClock, silentLogger).active).toBe(true)
  })
})

describe('under load', () => {
  it('the SiteAgent is served within a second while strangers hold every connection they can get', async () => {
    device = await startDevice({}, { connectionBounds: { total: 40, strangers: 30 } })
    const under = device
    const strangers = await Promise.all(Array.from({ length: 20 }, () => session(under, stranger)))
    for (let n = 0; n < 200; n += 1) {
      const [, far] = duplexPair()
      under.server.inject(far, stranger)
    }
    expect(under.server.counts()).toMatchObject({ strangers: 30, evicted: 190 })
    const { client } = await under.throughTunnel(site)
    const startedMs = performance.now()
    await unary(client, IDevice.method.endSession, {}, soon())
    expect(performance.now() - startedMs).toBeLessThan(1_000)
    // So is a peer that nobody has heard of yet: it takes a place of the address that holds most.
    const another = await under.throughTunnel({ host: '198.51.100.4', port: 1 })
    await unary(another.client, Probe.method.echo, { nonce: new Uint8Array(1) }, soon())
    for (const client of strangers) client.destroy()
  })

  it('a stranger who never ends its request holds a bounded number of bytes', async () => {
    device = await startDevice(
      {},
      { http2Bounds: { strangerRequestBytes: 100_000, bytesInFlight: { known: 1e8, stranger: 300_000 } } },
    )
    const under = device
    const client = await session(under, stranger)
    const big = openCall(client, '/qkdgw.probe.v1.Probe/Echo')
    const closed = closing(big)
    big.write(prefix(1_000_000))
    big.write(Buffer.alloc(200_000))
    await closed
    expect(big.rstCode).toBe(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM)
    // Many small ones together: some are cut, the rest stay below the bound.
    const many = Array.from({ length: 10 }, () => openCall(client, '/qkdgw.probe.v1.Probe/Echo'))
    let cut = 0
    for (const call of many) {
      call.on('close', () => (cut += 1))
      call.write(prefix(1_000_000))
      call.write(Buffer.alloc(60_000))
    }
    await eventually(() => cut >= 5)
    expect(under.server.counts().requestBytesInFlight).toBeLessThanOrEqual(300_000)
    const { client: other } = await under.throughTunnel(site)
    await unary(other, IDevice.method.endSession, {}, soon())
    client.destroy()
    await eventually(() => under.server.counts().requestBytesInFlight === 0)
  })

  it('a refused caller that goes on sending is cut off', async () => {
    device = await startDevice()
    const client = await session(device, stranger)
    const call = openCall(client, '/cqp.remote.IDevice/WaitForSession')
    call.resume()
    const [headers] = (await once(call, 'response')) as [http2.IncomingHttpHeaders]
    expect(headers['grpc-status']).toBe(String(Status.PERMISSION_DENIED))
    await closing(call)
    expect(call.rstCode).toBe(http2.constants.NGHTTP2_NO_ERROR)
    client.destroy()
  })

  it('a request that is no protobuf fails alone', async () => {
    device = await startDevice()
    const client = await session(device, site)
    const call = openCall(client, '/cqp.remote.IDevice/RunSession')
    call.end(Buffer.concat([prefix(3), Buffer.from([0xff, 0xff, 0xff])]))
    const [headers] = (await once(call, 'response')) as [http2.IncomingHttpHeaders]
    expect(headers['grpc-status']).toBe(String(Status.INTERNAL))
    client.destroy()
    const { client: other } = await device.channel()
    await unary(other, IDevice.method.endSession, {}, soon())
  })

  it('a connection that speaks no HTTP/2 is closed and forgotten', async () => {
    device = await startDevice()
    const socket = await connectTo(device.address)
    socket.write('GET / HTTP/1.1\r\n\r\n')
    socket.resume()
    await once(socket, 'close')
    const under = device
    await eventually(() => under.server.counts().open === 0)
  })

  it('two thousand attempts of every kind leave nothing behind', async () => {
    device = await startDevice()
    const under = device
    for (let round = 0; round < 100; round += 1) {
      await Promise.all(
        Array.from({ length: 20 }, async (_, n) => {
          if (n % 4 === 0) {
            const socket = await connectTo(under.address)
            socket.on('error', () => {})
            if (n % 8 === 0) socket.resetAndDestroy()
            else socket.destroy()
            return
          }
          const [near, far] = duplexPair()
          under.server.inject(far, n % 4 === 1 ? undefined : stranger)
          if (n % 4 === 3) {
            near.destroy()
            return
          }
          const client = http2.connect('http://device', { createConnection: () => near })
          client.on('error', () => {})
          const call = openCall(client, '/cqp.remote.IDevice/WaitForSession')
          call.end(prefix(0))
          await closing(call)
          client.destroy()
        }),
      )
    }
    await eventually(() => under.server.counts().open === 0)
    expect(under.server.counts().refusals.total).toBeGreaterThan(900)
    expect(under.server.counts().requestBytesInFlight).toBe(0)
  })
})
