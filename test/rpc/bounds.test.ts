import { once } from 'node:events'
import * as http2 from 'node:http2'
import { Server, status as Status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { createLogger, silentLogger } from '../../src/observe/log.js'
import { PassThrough, type Duplex } from 'node:stream'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { unary } from '../../src/rpc/bridge.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { Probe } from '../../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'
import {
  DEFAULT_HTTP2_BOUNDS,
  limitHttp2,
  STRANGER_WINDOW_BYTES,
  WIDE_WINDOW_BYTES,
} from '../../src/rpc/http2-limits.js'
import { ManualClock } from '../drivers/support/manual-clock.js'
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
async function session(under: DeviceUnderTest, from: typeof stranger | undefined): Promise<http2.ClientHttp2Session> {
  const [near, far] = duplexPair()
  under.server.inject(far, from)
  const client = http2.connect('http://device', { createConnection: () => near })
  client.on('error', () => {})
  await once(client, 'remoteSettings')
  return client
}

function openCall(
  client: http2.ClientHttp2Session,
  path: string,
  headers: http2.OutgoingHttpHeaders = {},
): http2.ClientHttp2Stream {
  const stream = client.request({
    ...headers,
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

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
const garbledHeaders = Buffer.from('000005010400000001ffffffffff', 'hex')

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

describe('windows', () => {
  it('are wide for who is known and for the first few strangers, and as they were for the rest', async () => {
    device = await startDevice({}, { http2Bounds: { wideStrangers: 2 } })
    const known = await session(device, site)
    expect(known.remoteSettings.initialWindowSize).toBe(WIDE_WINDOW_BYTES)
    // The connection's own window arrives as an update just after the settings.
    await eventually(() => (known.state.remoteWindowSize ?? 0) >= WIDE_WINDOW_BYTES)
    expect(known.remoteSettings.maxConcurrentStreams).toBe(DEFAULT_HTTP2_BOUNDS.streams.known)
    const first = await session(device, stranger)
    const second = await session(device, undefined)
    const third = await session(device, stranger)
    for (const wide of [first, second]) {
      expect(wide.remoteSettings.initialWindowSize).toBe(STRANGER_WINDOW_BYTES)
      await eventually(() => (wide.state.remoteWindowSize ?? 0) >= STRANGER_WINDOW_BYTES)
      expect(wide.remoteSettings.maxConcurrentStreams).toBe(DEFAULT_HTTP2_BOUNDS.streams.stranger)
    }
    expect(third.remoteSettings.initialWindowSize).toBe(65_535)
    expect(third.state.remoteWindowSize).toBeLessThanOrEqual(65_535)
    // A place that is free again is for the next one.
    const under = device
    first.destroy()
    await eventually(() => under.server.counts().strangers === 2)
    const fourth = await session(device, stranger)
    expect(fourth.remoteSettings.initialWindowSize).toBe(STRANGER_WINDOW_BYTES)
    for (const one of [known, second, third, fourth]) one.destroy()
  })

  it('become wide with the first call that shows who a hidden caller is, whose place goes to the next', async () => {
    device = await startDevice(
      {
        sessionPeer: (_from, metadata) =>
          metadata.get('x-test-token') === 'right' ? 'peer' : metadata.has('x-test-token') ? 'stranger' : 'no session',
      },
      { http2Bounds: { wideStrangers: 1 } },
    )
    const peer = await session(device, undefined)
    const late = await session(device, undefined)
    expect(late.remoteSettings.initialWindowSize).toBe(65_535)
    const path = '/cqp.remote.IDevice/GetLinkStatus'
    const wrong = openCall(late, path, { 'x-test-token': 'wrong' })
    await once(wrong, 'response')
    expect(late.remoteSettings.initialWindowSize).toBe(65_535)
    for (const client of [peer, late]) {
      const changed = once(client, 'remoteSettings')
      openCall(client, path, { 'x-test-token': 'right' }).end(prefix(0))
      const [settings] = (await changed) as [http2.Settings]
      expect(settings.initialWindowSize).toBe(WIDE_WINDOW_BYTES)
      // What the call itself has sent is not yet given back.
      await eventually(() => (client.state.remoteWindowSize ?? 0) >= WIDE_WINDOW_BYTES - 100)
      expect(settings.maxConcurrentStreams).toBe(DEFAULT_HTTP2_BOUNDS.streams.known)
    }
    const next = await session(device, undefined)
    expect(next.remoteSettings.initialWindowSize).toBe(STRANGER_WINDOW_BYTES)
    for (const one of [peer, late, next]) one.destroy()
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

  it.each([
    ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nHost: you\r\n\r\n')],
    ['TLS', Buffer.from('16030100c8010000c40303010203040506', 'hex')],
    ['SSH', Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n')],
    ['a GOAWAY', Buffer.concat([preface, Buffer.from('0000080700000000000000000000000001', 'hex')])],
    ['settings out of range', Buffer.concat([preface, Buffer.from('0000060400000000000004ffffffff', 'hex')])],
  ])('nothing is kept of strangers who speak %s', async (_, words) => {
    device = await startDevice()
    const under = device
    const kept: WeakRef<Duplex>[] = []
    const speak = async (): Promise<void> => {
      const [near, far] = duplexPair()
      kept.push(new WeakRef(far))
      under.server.inject(far, stranger)
      near.resume()
      near.write(words)
      await once(near, 'end')
      near.destroy()
    }
    for (let n = 0; n < 20; n += 1) await speak()
    await eventually(() => {
      collect()
      // What is made once may hold the last one.
      return kept.filter((one) => one.deref() !== undefined).length <= 1
    })
  })

  it('a caller that is gone without a word is asked, and its place is free then; an answer or an open call keeps it', async () => {
    const clock = new ManualClock()
    device = await startDevice({}, { clock })
    const under = device
    // nghttp2 ends this by itself, without a word to anybody: headers that are none.
    const gone = await connectTo(under.address)
    gone.on('error', () => {})
    gone.write(Buffer.concat([preface, Buffer.from('000000040000000000', 'hex'), garbledHeaders]))
    await once(gone, 'data')
    gone.destroy()
    const { client } = await under.channel()
    const [near, far] = duplexPair()
    under.server.inject(far, site)
    const deaf = http2.connect('http://device', { createConnection: () => near })
    deaf.on('error', () => {})
    const call = openCall(deaf, '/cqp.remote.IDevice/GetLinkStatus')
    call.end(prefix(0))
    await once(call, 'response')
    // Nothing reaches it from here on, no ping either.
    near.push = () => true
    const { askEveryMs, answerWithinMs } = DEFAULT_HTTP2_BOUNDS.absence
    for (let n = 0; n < 3; n += 1) {
      await clock.advance(askEveryMs)
      // The answer to the ping comes before that of the call.
      await unary(client, IDevice.method.endSession, {}, soon())
      await clock.advance(answerWithinMs)
    }
    expect(under.server.counts().open).toBe(2)
    deaf.destroy()
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
    // Nor is a place among the strangers with wide windows lost to them.
    const clients = await Promise.all(
      Array.from({ length: DEFAULT_HTTP2_BOUNDS.wideStrangers }, () => session(under, stranger)),
    )
    for (const client of clients) {
      expect(client.remoteSettings.initialWindowSize).toBe(STRANGER_WINDOW_BYTES)
      client.destroy()
    }
  })
})
