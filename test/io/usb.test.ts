import { EventEmitter } from 'node:events'
import type { Device } from 'usb'
import { beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { createUsbIo } from '../../src/io/usb.js'
import type { UsbBinding } from '../../src/io/usb-binding.js'
import type { CloseReason } from '../../src/io/contract.js'

const never = new AbortController().signal

type Done = (error: Error | undefined, buffer: Buffer, moved: number) => void

interface FakeTransfer {
  buffer: Buffer
  done: Done
  timeoutMs: number
}

function libusbError(errno: number): Error {
  return Object.assign(new Error(`errno ${errno}`), { errno })
}

/** Stands in for an endpoint of the `usb` package: transfers wait until the test lets them end. */
class FakeEndpoint extends EventEmitter {
  readonly descriptor = { wMaxPacketSize: 512 }
  pollActive = false
  readonly waiting: FakeTransfer[] = []
  polls: number[] = []

  constructor(readonly address: number) {
    super()
  }

  makeTransfer(timeoutMs: number, done: Done): unknown {
    const entry: FakeTransfer = { buffer: Buffer.alloc(0), done, timeoutMs }
    return {
      submit: (buffer: Buffer) => {
        entry.buffer = buffer
        this.waiting.push(entry)
      },
      cancel: () => {
        this.waiting.splice(this.waiting.indexOf(entry), 1)
        done(libusbError(3), entry.buffer, 0)
        return true
      },
    }
  }

  startPoll(transfers: number, size: number): void {
    this.pollActive = true
    this.polls = [transfers, size]
  }

  stopPoll(done: () => void): void {
    this.pollActive = false
    setImmediate(done)
  }
}

class FakeDevice {
  readonly deviceDescriptor
  readonly busNumber = 1
  readonly deviceAddress = 4
  readonly calls: string[] = []
  readonly endpoints = [new FakeEndpoint(0x82), new FakeEndpoint(0x02)]
  openError: Error | undefined
  timeout = 0
  readonly interfaces = [
    {
      endpoints: this.endpoints,
      isKernelDriverActive: () => true,
      detachKernelDriver: () => void this.calls.push('detach'),
      claim: () => void this.calls.push('claim'),
      release: (_close: boolean, done: () => void) => {
        this.calls.push('release')
        done()
      },
    },
  ]
  readonly configDescriptor = { bConfigurationValue: 0 }

  constructor(
    idVendor: number,
    idProduct: number,
    private readonly serial: string | undefined,
  ) {
    this.deviceDescriptor = { idVendor, idProduct, iSerialNumber: serial === undefined ? 0 : 3 }
  }

  open(): void {
    if (this.openError !== undefined) throw this.openError
    this.calls.push('open')
  }

  close(): void {
    this.calls.push('close')
  }

  setConfiguration(value: number, done: (error?: Error) => void): void {
    this.calls.push(`configuration ${value}`)
    done()
  }

  getStringDescriptor(_index: number, done: (error: Error | undefined, text?: string) => void): void {
    done(undefined, this.serial)
  }

  controlTransfer(
    type: number,
    request: number,
    value: number,
    index: number,
    data: number | Buffer,
    done: (error: Error | undefined, answer?: Buffer | number) => void,
  ): void {
    this.calls.push(`control ${type.toString(16)} ${request} ${value} ${index}`)
    if (request >= 98) done(libusbError(request === 99 ? 4 : 5))
    else done(undefined, typeof data === 'number' ? Buffer.alloc(data, 7) : data.length)
  }
}

describe('USB through libusb', () => {
  let devices: FakeDevice[]
  let changes: Set<() => void>
  let binding: UsbBinding

  beforeEach(() => {
    devices = [
      new FakeDevice(0x221a, 0x0100, 'A'),
      new FakeDevice(0x221a, 0x0100, 'B'),
      new FakeDevice(0x0aba, 0x0102, undefined),
    ]
    changes = new Set()
    binding = {
      getDeviceList: () => devices as unknown as Device[],
      onChange(listener) {
        changes.add(listener)
        return () => changes.delete(listener)
      },
    }
  })

  const io = (): ReturnType<typeof createUsbIo> => createUsbIo(systemClock, async () => binding)
  const endpoint = (device: number, index: number): FakeEndpoint => {
    const found = devices[device]?.endpoints[index]
    if (found === undefined) throw new Error('no such endpoint')
    return found
  }

  it('lists what is there, and nothing where there is no USB', async () => {
    expect((await io().list()).map(({ serialNumber, place }) => [serialNumber, place])).toEqual([
      ['A', '001/004'],
      ['B', '001/004'],
      [undefined, '001/004'],
    ])
    const none = createUsbIo(systemClock, () => Promise.reject(new Error('no native part')))
    expect(await none.list()).toEqual([])
    none.watch(() => {})()
    await expect(none.open({ vendorId: 1, productId: 2 }, {}, never)).rejects.toMatchObject({ code: 'E_DEVICE_IO' })
  })

  it('opens the one with the serial number, takes it from the kernel and lets the others go', async () => {
    const transport = await io().open(
      { vendorId: 0x221a, productId: 0x0100, serialNumber: 'B' },
      { configuration: 1 },
      never,
    )
    expect(devices[0]?.calls).toEqual(['open', 'close'])
    expect(devices[1]?.calls).toEqual(['open', 'configuration 1', 'detach', 'claim'])
    expect(transport.name).toContain('221a:0100, serial number B')
    await transport.close()
    await transport.close()
    expect(devices[1]?.calls.slice(4)).toEqual(['release', 'close'])
  })

  it.each([
    [-3, 'E_DEVICE_PERMISSION'],
    [-6, 'E_DEVICE_BUSY'],
    [-4, 'E_DEVICE_ABSENT'],
    [-99, 'E_DEVICE_IO'],
  ])('says why a device cannot be opened: libusb error %d is %s', async (errno, code) => {
    for (const device of devices) device.openError = libusbError(errno)
    await expect(io().open({ vendorId: 0x221a, productId: 0x0100 }, {}, never)).rejects.toMatchObject({ code })
  })

  it('says that a device is not there', async () => {
    await expect(io().open({ vendorId: 1, productId: 2 }, {}, never)).rejects.toMatchObject({ code: 'E_DEVICE_ABSENT' })
    await expect(
      io().open({ vendorId: 0x221a, productId: 0x0100, serialNumber: 'C' }, {}, never),
    ).rejects.toMatchObject({ code: 'E_DEVICE_ABSENT' })
  })

  it('reads what came, also where less came than asked for before the time was over', async () => {
    const transport = await io().open({ vendorId: 0x221a, productId: 0x0100 }, {}, never)
    const reading = transport.read(0x82, 8, 100)
    endpoint(0, 0).waiting[0]?.buffer.set([1, 2, 3])
    endpoint(0, 0).waiting[0]?.done(libusbError(2), Buffer.alloc(0), 3)
    expect([...(await reading)]).toEqual([1, 2, 3])
    expect(transport.packetBytes(0x82)).toBe(512)
    expect(() => transport.packetBytes(0x83)).toThrow('no endpoint 83')
    await transport.close()
  })

  it('counts a write that was not taken whole as failed', async () => {
    const transport = await io().open({ vendorId: 0x221a, productId: 0x0100 }, {}, never)
    const writing = transport.write(0x02, Uint8Array.of(1, 2, 3), 100)
    expect([...(endpoint(0, 1).waiting[0]?.buffer ?? [])]).toEqual([1, 2, 3])
    endpoint(0, 1).waiting[0]?.done(libusbError(2), Buffer.alloc(0), 2)
    await expect(writing).rejects.toMatchObject({ code: 'E_DEADLINE' })
    await transport.close()
  })

  it('stops a transfer that is not wanted any more', async () => {
    const transport = await io().open({ vendorId: 0x221a, productId: 0x0100 }, {}, never)
    const stop = new AbortController()
    const reading = transport.read(0x82, 8, 10_000, stop.signal)
    stop.abort()
    await expect(reading).rejects.toMatchObject({ code: 'E_CANCELLED' })
    const second = transport.read(0x82, 8, 10_000)
    const ended = expect(second).rejects.toMatchObject({ code: 'E_CANCELLED' })
    await transport.close()
    await ended
  })

  it('keeps transfers in flight while it streams, and stops them', async () => {
    const transport = await io().open({ vendorId: 0x221a, productId: 0x0100 }, {}, never)
    const heard: number[] = []
    const stop = transport.stream(0x82, 8_192, 4, (chunk) => heard.push(chunk.length))
    expect(endpoint(0, 0).polls).toEqual([4, 8_192])
    endpoint(0, 0).emit('data', Buffer.alloc(16))
    endpoint(0, 0).emit('data', Buffer.alloc(0))
    await stop()
    endpoint(0, 0).emit('data', Buffer.alloc(8))
    expect(heard).toEqual([16])
    expect(endpoint(0, 0).pollActive).toBe(false)
    await transport.close()
  })

  it.each([
    ['a transfer says so', (): void => void endpoint(0, 0).emit('error', libusbError(5))],
    [
      'it is missing from the list',
      (): void => {
        devices.splice(0, 1)
        for (const listener of [...changes]) listener()
      },
    ],
  ])('notices that the device was unplugged when %s', async (_name, pull) => {
    const transport = await io().open({ vendorId: 0x221a, productId: 0x0100 }, {}, never)
    transport.stream(0x82, 8_192, 4, () => {})
    const closed = new Promise<CloseReason>((resolve) => transport.onClose(resolve))
    pull()
    expect(await closed).toMatchObject({ cause: 'unplugged' })
    await transport.close()
    expect(changes.size).toBe(0)
    expect(await new Promise((resolve) => transport.onClose(resolve))).toMatchObject({ cause: 'unplugged' })
  })

  it('makes control requests; one that the device does not know fails alone, and none outlives the device', async () => {
    const transport = await io().open({ vendorId: 0x0aba, productId: 0x0102 }, {}, never)
    const control = { requestType: 0xc1, request: 16, value: 0, index: 0 }
    expect([...(await transport.controlIn(control, 4, 100))]).toEqual([7, 7, 7, 7])
    await transport.controlOut({ ...control, requestType: 0x41 }, Uint8Array.of(1), 100)
    expect(devices[2]?.calls).toContain('control c1 16 0 0')
    const fail = (request: number): Promise<void> =>
      expect(transport.controlIn({ ...control, request }, 4, 100)).rejects.toMatchObject({ code: 'E_DEVICE_IO' })
    await fail(99)
    expect(await transport.controlIn(control, 1, 100)).toHaveLength(1)
    const closed = new Promise<CloseReason>((resolve) => transport.onClose(resolve))
    await fail(98)
    expect(await closed).toMatchObject({ cause: 'unplugged' })
  })
})
