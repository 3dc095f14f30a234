import { afterEach, describe, expect, it } from 'vitest'
import { status as Status } from '@grpc/grpc-js'
import { serverStream } from '../../src/rpc/bridge.js'
import type { KeyStream } from '../../src/rpc/device-port.js'
import { IDevice, RawKeysSchema } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { rawKeysBytes } from '../../src/rpc/key-stream.js'
import { create, toBinary } from '@bufbuild/protobuf'
import { connectTo, soon, startDevice, type DeviceUnderTest } from './support/device.js'
import { openChannel } from '../../src/rpc/channel.js'

let device: DeviceUnderTest | undefined
afterEach(async () => {
  await device?.close()
  device = undefined
})

const keys = (count: number, length = 32): Uint8Array[] =>
  Array.from({ length: count }, (_, index) => new Uint8Array(length).fill(index % 251))

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })

describe('a stream of keys', () => {
  it('carries keys in order, whole messages, and the initial key is taken out of the request', async () => {
    device = await startDevice()
    let initial: Uint8Array | undefined
    device.port.onStream = (stream, initialKey) => {
      initial = initialKey
      void stream
        .send(keys(3))
        .then(() => stream.send(keys(10_000)))
        .then(() => stream.send([]))
        .then(() => stream.end(0, ''))
    }
    const { client } = await device.channel()
    const call = serverStream(client, IDevice.method.waitForSession, { initialKey: new Uint8Array([7, 8]) }, soon())
    const sizes: number[] = []
    for await (const { keyData } of call) sizes.push(keyData.length)
    expect(sizes).toEqual([3, 10_000, 0])
    expect(initial).toEqual(new Uint8Array([7, 8]))
    await expect(call.status).resolves.toMatchObject({ code: Status.OK })
  })

  it('ends with the status it was given', async () => {
    device = await startDevice()
    device.port.onStream = (stream) => stream.end(Status.CANCELLED, 'a newer WaitForSession took over')
    const { client } = await device.channel()
    const call = serverStream(client, IDevice.method.waitForSession, {}, soon())
    await expect(call.status).resolves.toMatchObject({
      code: Status.CANCELLED,
      details: 'a newer WaitForSession took over',
    })
  })

  it('never makes a message that ends the call of a SiteAgent', async () => {
    device = await startDevice()
    const outcomes: string[] = []
    device.port.onStream = (stream) => {
      const send = outcomes.length === 0 ? keys(10_001) : keys(2, 2_200_000)
      void stream.send(send).then((outcome) => outcomes.push(outcome))
    }
    const { client } = await device.channel()
    const tooMany = serverStream(client, IDevice.method.waitForSession, {}, soon())
    await expect(tooMany.status).resolves.toMatchObject({ code: Status.INTERNAL })
    const tooLong = serverStream(client, IDevice.method.waitForSession, {}, soon())
    await expect(tooLong.status).resolves.toMatchObject({ code: Status.INTERNAL })
    expect(outcomes).toEqual(['ended', 'ended'])
  })

  it.each([0, 1, 127, 128, 16_383, 16_384])('knows the length of a message with keys of %i bytes', (length) => {
    const some = keys(5, length)
    expect(rawKeysBytes(some)).toBe(toBinary(RawKeysSchema, create(RawKeysSchema, { keyData: some })).length)
  })

  it('is not writable while the SiteAgent reads nothing, and goes on when it does', async () => {
    device = await startDevice()
    const streams: KeyStream[] = []
    const arrived = new Promise<KeyStream>((resolve) => {
      if (device === undefined) return
      device.port.onStream = (stream) => {
        streams.push(stream)
        resolve(stream)
      }
    })
    const { client } = await device.throughTunnel({ host: '127.0.0.1', port: 5 })
    const stop = new AbortController()
    const call = serverStream(client, IDevice.method.waitForSession, {}, { deadlineMs: Infinity, signal: stop.signal })
    const stream = await arrived
    expect(stream.writable).toBe(true)
    const batch = keys(10_000, 400)
    let stalled: Promise<'sent' | 'ended'> | undefined
    for (let n = 0; n < 30 && stalled === undefined; n += 1) {
      const sending = stream.send(batch)
      const first = await Promise.race([
        sending,
        new Promise<'waits'>((resolve) => setTimeout(() => resolve('waits'), 300)),
      ])
      if (first === 'waits') stalled = sending
    }
    expect(stalled).toBeDefined()
    expect(stream.writable).toBe(false)
    const messages = call[Symbol.asyncIterator]()
    await messages.next()
    let outcome: string | undefined
    void stalled?.then((result) => (outcome = result))
    while (outcome === undefined) await messages.next()
    expect(outcome).toBe('sent')
    stop.abort()
    await aborted(stream.signal)
    expect(await stream.send(keys(1))).toBe('ended')
    expect(stream.writable).toBe(false)
  })

  it('lets a message under way end when the SiteAgent cancels', async () => {
    device = await startDevice()
    const arrived = new Promise<KeyStream>((resolve) => {
      if (device !== undefined) device.port.onStream = resolve
    })
    const { client } = await device.channel()
    const stop = new AbortController()
    const call = serverStream(client, IDevice.method.waitForSession, {}, { deadlineMs: Infinity, signal: stop.signal })
    const stream = await arrived
    const outcomes = Promise.all(Array.from({ length: 8 }, () => stream.send(keys(10_000, 400))))
    stop.abort()
    expect((await outcomes).at(-1)).toBe('ended')
    expect(stream.signal.aborted).toBe(true)
    expect((await call.status).code).toBe(Status.CANCELLED)
  })

  it('leaves nothing behind when its SiteAgent vanishes between two messages, fifty times', async () => {
    device = await startDevice()
    const { address, port } = device
    const ended: Promise<void>[] = []
    let sent = 0
    port.onStream = (stream) => {
      ended.push(aborted(stream.signal))
      void (async () => {
        while ((await stream.send(keys(100))) === 'sent') sent += 1
      })()
    }
    for (let n = 0; n < 50; n += 1) {
      const socket = await connectTo(address)
      const channel = await openChannel({
        address: `127.0.0.1:${address.port}`,
        what: 'test',
        dial: () => Promise.resolve(socket),
      })
      const call = serverStream(channel.client, IDevice.method.waitForSession, {}, soon())
      const messages = call[Symbol.asyncIterator]()
      await messages.next()
      await messages.next()
      // What the kernel does when a process is killed.
      socket.resetAndDestroy()
      await call.status
      await channel.close()
    }
    await Promise.all(ended)
    expect(ended).toHaveLength(50)
    expect(sent).toBeGreaterThan(50)
    await eventually(() => device?.server.counts().open === 0)
  })
})

async function eventually(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10))
}
