import { beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { createMemoryUsb, type MemoryUsb, type UsbPlug } from '../../src/io/usb-memory.js'

const never = new AbortController().signal
const SELECTOR = { vendorId: 0x221a, productId: 0x0100 }

describe('USB inside one process', () => {
  let usb: MemoryUsb
  let plug: UsbPlug
  let written: string[]

  beforeEach(() => {
    usb = createMemoryUsb(systemClock)
    written = []
    plug = usb.attach(
      {
        ...SELECTOR,
        serialNumber: 'S',
        endpoints: { 0x82: 512, 0x02: 64 },
        onBulkOut: (endpoint, bytes) => void written.push(`${endpoint}: ${Buffer.from(bytes).toString('hex')}`),
        onControlIn: ({ request }, length) => new Uint8Array(length).fill(request),
        onOpen: (open) => written.push(open ? 'open' : 'closed'),
      },
      10,
    )
  })

  it('holds what the host has not read yet, up to its bound', async () => {
    plug.send(0x82, new Uint8Array(12).fill(1))
    const host = await usb.io.open(SELECTOR, {}, never)
    expect(await host.read(0x82, 8, 10)).toHaveLength(8)
    expect(await host.read(0x82, 8, 10)).toHaveLength(2)
    expect(await host.read(0x82, 8, 10)).toHaveLength(0)
    expect(plug.lost).toBe(2)
    const reading = host.read(0x82, 8, 1_000)
    plug.send(0x82, Uint8Array.of(5))
    expect([...(await reading)]).toEqual([5])
  })

  it('streams in order until stopped', async () => {
    const host = await usb.io.open(SELECTOR, {}, never)
    const heard: number[] = []
    const stop = host.stream(0x82, 4, 2, (chunk) => heard.push(...chunk))
    plug.send(0x82, Uint8Array.of(1, 2, 3, 4, 5, 6))
    await stop()
    plug.send(0x82, Uint8Array.of(7))
    expect(heard).toEqual([1, 2, 3, 4, 5, 6])
  })

  it('takes writes and requests, one host at a time', async () => {
    const host = await usb.io.open({ ...SELECTOR, serialNumber: 'S' }, {}, never)
    await host.write(0x02, Uint8Array.of(1, 2), 10)
    expect([...(await host.controlIn({ requestType: 0xc1, request: 3, value: 0, index: 0 }, 2, 10))]).toEqual([3, 3])
    await expect(usb.io.open(SELECTOR, {}, never)).rejects.toMatchObject({ code: 'E_DEVICE_BUSY' })
    await host.close()
    expect(written).toEqual(['open', '2: 0102', 'closed'])
    await expect(host.write(0x02, Uint8Array.of(1), 10)).rejects.toMatchObject({ code: 'E_DEVICE_IO' })
  })

  it('is unplugged in the middle of a read and comes back at another place', async () => {
    let changes = 0
    const unwatch = usb.io.watch(() => (changes += 1))
    const host = await usb.io.open(SELECTOR, {}, never)
    const reading = expect(host.read(0x82, 8, 10_000)).rejects.toMatchObject({ code: 'E_DEVICE_IO' })
    const before = (await usb.io.list())[0]?.place
    plug.unplug()
    await reading
    expect(await usb.io.list()).toEqual([])
    await expect(usb.io.open(SELECTOR, {}, never)).rejects.toMatchObject({ code: 'E_DEVICE_ABSENT' })
    plug.plug()
    expect((await usb.io.list())[0]?.place).not.toBe(before)
    expect(changes).toBe(2)
    unwatch()
    await (await usb.io.open(SELECTOR, {}, never)).close()
  })
})
