import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { createMemoryUsb, type MemoryUsb, type UsbPlug } from '../../src/io/usb-memory.js'
import type { UsbIo, UsbTransport } from '../../src/io/usb-contract.js'
import { createSocketUsb } from '../../src/io/usb-socket.js'
import { serveUsb } from '../../src/io/usb-socket-server.js'

const never = new AbortController().signal
const SELECTOR = { vendorId: 0x221a, productId: 0x0100 }
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe('USB over a local socket', () => {
  let folder: string
  let path: string
  let usb: MemoryUsb
  let plug: UsbPlug
  let host: UsbIo
  let stop: () => Promise<void>
  let written: string[]
  let taking: Promise<void>

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'qkd-gw-usb-test-'))
    path = join(folder, 'usb')
    usb = createMemoryUsb(systemClock)
    written = []
    taking = Promise.resolve()
    plug = usb.attach({
      ...SELECTOR,
      serialNumber: 'S',
      endpoints: { 0x82: 512, 0x02: 64 },
      onBulkOut: async (endpoint, bytes) => {
        await taking
        written.push(`${endpoint}: ${hex(bytes)}`)
      },
      onControlIn: ({ request }, length) => (request === 99 ? undefined : new Uint8Array(length).fill(request)),
    })
    stop = await serveUsb(path, usb.io)
    host = createSocketUsb(path, systemClock)
  })
  afterEach(async () => {
    await stop()
    rmSync(folder, { recursive: true, force: true })
  })

  const open = (): Promise<UsbTransport> => host.open(SELECTOR, {}, never)

  it('is for its owner only, lists the device, and has one host at a time', async () => {
    expect(statSync(path).mode & 0o077).toBe(0)
    expect(await host.list()).toMatchObject([{ ...SELECTOR, serialNumber: 'S' }])
    const first = await open()
    await expect(open()).rejects.toMatchObject({ code: 'E_DEVICE_BUSY' })
    await first.close()
    await expect(host.open({ ...SELECTOR, serialNumber: 'T' }, {}, never)).rejects.toMatchObject({
      code: 'E_DEVICE_ABSENT',
    })
  })

  it('carries reads, streams, writes and requests', async () => {
    const transport = await open()
    expect(transport.packetBytes(0x82)).toBe(512)
    expect(() => transport.packetBytes(0x81)).toThrow('no endpoint 81')
    plug.send(0x82, Uint8Array.of(1, 2, 3))
    expect(hex(await transport.read(0x82, 512, 5_000))).toBe('010203')
    expect(await transport.read(0x82, 512, 20)).toHaveLength(0)
    await transport.write(0x02, Uint8Array.of(0xaa, 0xbb), 5_000)
    expect(written).toEqual(['2: aabb'])
    const control = { requestType: 0xc1, request: 7, value: 0, index: 0 }
    expect(hex(await transport.controlIn(control, 2, 5_000))).toBe('0707')
    await expect(transport.controlIn({ ...control, request: 99 }, 2, 5_000)).rejects.toMatchObject({
      code: 'E_DEVICE_IO',
    })
    const streamed = new Promise<Uint8Array>((resolve) => transport.stream(0x82, 512, 4, resolve))
    plug.send(0x82, Uint8Array.of(9))
    expect(hex(await streamed)).toBe('09')
    await transport.close()
  })

  it('gives up a write that the device does not take in time, and one that is not wanted any more', async () => {
    const transport = await open()
    let take = (): void => {}
    taking = new Promise((resolve) => (take = resolve))
    await expect(transport.write(0x02, Uint8Array.of(1), 30)).rejects.toMatchObject({ code: 'E_DEADLINE' })
    const stopping = new AbortController()
    const unwanted = transport.write(0x02, Uint8Array.of(2), 30_000, stopping.signal)
    stopping.abort()
    await expect(unwanted).rejects.toMatchObject({ code: 'E_CANCELLED' })
    take()
    await transport.close()
  })

  it('tells of the unplug at once, also to who waits, and wakes the host when the device is back', async () => {
    const transport = await open()
    const ended = new Promise((resolve) => transport.onClose(resolve))
    const reading = transport.read(0x82, 512, 60_000)
    plug.unplug()
    await expect(reading).rejects.toMatchObject({ code: 'E_DEVICE_IO' })
    expect(await ended).toMatchObject({ cause: 'unplugged' })
    await expect(open()).rejects.toMatchObject({ code: 'E_DEVICE_ABSENT' })
    const back = new Promise<void>((resolve) => {
      const unwatch = host.watch(() => {
        if (!plug.plugged) return
        unwatch()
        resolve()
      })
    })
    plug.plug()
    await back
    await (await open()).close()
  })

  it('is an absent device where no emulator listens, and an unplug where the emulator goes away', async () => {
    const transport = await open()
    const ended = new Promise((resolve) => transport.onClose(resolve))
    await stop()
    expect(await ended).toMatchObject({ cause: 'unplugged' })
    await expect(open()).rejects.toMatchObject({ code: 'E_DEVICE_ABSENT' })
    expect(await host.list()).toEqual([])
    stop = async () => {}
  })
})
