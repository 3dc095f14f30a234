import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createNoxDriver, driver } from '../../../drivers/nox/driver.js'
import { NoxEmulator, type NoxEmulatorOptions } from '../../../drivers/nox/emulator.js'
import { DATA_ENDPOINT, parseChannelMap, PRODUCT_ID, VENDOR_ID } from '../../../drivers/nox/protocol.js'
import { systemClock } from '../../../src/base/clock.js'
import type { Device, DeviceEvent } from '../../../src/device/contract.js'
import { noxConfiguration } from '../../../src/device/event-formats/nox.js'
import type { DeviceLine } from '../../../src/io/contract.js'
import { createMemoryLines } from '../../../src/io/memory-line.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { createMemoryUsb, type MemoryUsb } from '../../../src/io/usb-memory.js'
import { silentLogger } from '../../../src/observe/log.js'
import { untilDevice } from '../support/attached.js'
import { contextFor, seededRandom } from '../support/pair.js'

const base = { clock: systemClock, random: seededRandom(2), log: silentLogger }

class Ear {
  readonly events: DeviceEvent[] = []
  readonly #waiting = new Set<() => void>()

  constructor(device: Device) {
    device.subscribe((event) => {
      this.events.push(event)
      for (const look of [...this.#waiting]) look()
    })
  }

  get times(): bigint[] {
    return this.events.flatMap((event) => (event.type === 'tags' ? [...event.timesPs] : []))
  }

  get patterns(): number[] {
    return this.events.flatMap((event) => (event.type === 'tags' ? [...event.patterns] : []))
  }

  until(enough: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!enough()) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }
}

describe('the NOX driver', () => {
  const lines = createMemoryLines()
  let usb: MemoryUsb
  let line: DeviceLine
  let device: Device
  let ear: Ear
  let stop: AbortController
  let running: Promise<void>[]
  let count = 0

  beforeEach(() => {
    usb = createMemoryUsb(systemClock)
    stop = new AbortController()
    running = []
  })
  afterEach(async () => {
    stop.abort()
    await Promise.all(running)
    await line.close()
  })

  /** The cable first, so that an emulator at its end hears everything. */
  async function lay(pty = false): Promise<void> {
    line = pty ? await openPtyLine({ ...base }) : lines.create(`nox${(count += 1)}`)
  }

  function begin(options: Record<string, string> = {}): void {
    device = createNoxDriver(() => usb.io).create({
      ...contextFor('bob', systemClock, { 'step-ms': '1', ...options }),
      device: line.path,
      io: createNodeIo({ ...base, memoryLines: lines }),
    })
    ear = new Ear(device)
    running.push(device.run(stop.signal))
  }

  function emulate(options: Partial<NoxEmulatorOptions> = {}): NoxEmulator {
    const emulator = new NoxEmulator({ ...base, line, usb, rate: 20_000, ...options })
    running.push(emulator.run(stop.signal))
    return emulator
  }

  it('initialises, starts and decodes the published records, and stops the tagger when it leaves', async () => {
    const plug = usb.attach({ vendorId: VENDOR_ID, productId: PRODUCT_ID, endpoints: { [DATA_ENDPOINT]: 512 } })
    plug.send(DATA_ENDPOINT, Buffer.from('24ffffffffff4fff', 'hex')) // Left from before: must not be taken.
    await lay()
    begin()
    let control = ''
    const started = new Promise<void>((resolve) => {
      line.onData((chunk) => {
        control += Buffer.from(chunk).toString()
        if (control.endsWith('R')) resolve()
      })
    })
    await started
    expect(control).toBe('WSABCDER')
    plug.send(DATA_ENDPOINT, noxConfiguration())
    const records = ['2400000000001000', '2400000000101000', '2412345678903abc', '24007bfa48002000', '24fffffffff04fff']
    // In the order of time; cut where it hurts.
    const order = [records[0], records[1], records[3], records[2], records[4]]
    const bytes = Buffer.from(order.join(''), 'hex')
    for (let at = 0; at < bytes.length; at += 3) plug.send(DATA_ENDPOINT, bytes.subarray(at, at + 3))
    await ear.until(() => ear.times.length === 5)
    expect(ear.times).toEqual([0n, 7_692n, 1_000_000_000_000n, 37_590_141_120_545n, 528_611_359_507_690n])
    expect(ear.patterns).toEqual([1, 1, 2, 4, 8])
    expect(device.state.value).toMatchObject({ state: 'producing' })
    expect(device.facts()).toMatchObject({ detections: 5, configurations: 1 })
    stop.abort()
    await Promise.all(running)
    expect(control).toBe('WSABCDERS')
  })

  it('streams from a tagger on a real tty, across the wrap of its counter, in ascending order', async () => {
    await lay(true)
    const emulator = emulate({ firstCount: 2 ** 48 - 40_000_000_000 })
    begin()
    await ear.until(() => ear.times.length > 3_000)
    ear.times.reduce((before, time) => {
      expect(time).toBeGreaterThanOrEqual(before)
      return time
    })
    expect(device.facts()).toMatchObject({ wraps: 1, outOfOrder: 0 })
    expect(emulator.facts()).toMatchObject({ baud: 9_600, starts: 1 })
    expect(new Set(ear.patterns)).toEqual(new Set([1, 2, 4, 8]))
  })

  it('maps channels to states as told', async () => {
    await lay()
    begin({ channels: '3210' })
    const plug = usb.attach({ vendorId: VENDOR_ID, productId: PRODUCT_ID, endpoints: { [DATA_ENDPOINT]: 512 } })
    await untilDevice(device.state, 'identified')
    plug.send(DATA_ENDPOINT, Buffer.from('2400000000001000', 'hex'))
    await ear.until(() => ear.patterns.length === 1)
    expect(ear.patterns).toEqual([8])
  })

  it.each(['corrupt', 'split'])('marks a gap after %s bytes and goes on', async (fault) => {
    await lay()
    const emulator = emulate()
    begin()
    await ear.until(() => ear.times.length > 100)
    await emulator.fault(fault, [])
    await ear.until(() => ear.events.some(({ type }) => type === 'gap'))
    const before = ear.times.length
    await ear.until(() => ear.times.length > before + 100)
  })

  it('counts a record out of its order and does not take it for a wrap', async () => {
    await lay()
    const emulator = emulate()
    begin()
    await ear.until(() => ear.times.length > 100)
    await emulator.fault('reorder', [])
    await ear.until(() => ear.events.some(({ type }) => type === 'discarded'))
    expect(device.facts()).toMatchObject({ outOfOrder: 1, wraps: 0 })
  })

  it('gives out what its buffer held of a burst larger than that, and goes on in ascending time', async () => {
    await lay()
    const emulator = emulate()
    begin()
    await ear.until(() => ear.times.length > 100)
    const detections = (): number => Number(device.facts()['detections'])
    const before = detections()
    await emulator.fault('overflow', ['9000'])
    expect(emulator.facts()).toMatchObject({ overflowRecords: 808 })
    await ear.until(() => detections() > before + 8_192 + 100)
    const { times } = ear
    expect(times.every((time, i) => i === 0 || time > (times[i - 1] ?? 0n))).toBe(true)
    // That records are missing shows nowhere.
    expect(device.facts()).toMatchObject({ wraps: 0, outOfOrder: 0 })
  })

  it('is the same device again after its USB cable was pulled in the middle of a record', async () => {
    await lay()
    const emulator = emulate()
    begin()
    await ear.until(() => ear.times.length > 100)
    await emulator.fault('unplug', ['50'])
    await ear.until(() => ear.events.some(({ type }) => type === 'gap'))
    const before = ear.times.length
    await ear.until(() => ear.times.length > before + 100)
    expect(emulator.facts()).toMatchObject({ starts: 2 })
  })

  it('is shown as silent while no detection comes', async () => {
    await lay()
    const emulator = emulate()
    begin({ 'silent-after-ms': '200', remedies: 'off' })
    await ear.until(() => ear.times.length > 10)
    await emulator.fault('hang', ['0'])
    await untilDevice(device.state, 'silent')
    await emulator.fault('resume', [])
    await untilDevice(device.state, 'producing')
  })

  it('waits for a USB side that is not there, and says so', async () => {
    await lay()
    begin()
    const state = await untilDevice(device.state, 'silent')
    expect(state).toMatchObject({ reason: expect.stringContaining('USB 221a:0100 is not there') as string })
    emulate()
    await ear.until(() => ear.times.length > 0)
  })

  it('takes the tagger with the given serial number', async () => {
    await lay()
    usb.attach({ vendorId: VENDOR_ID, productId: PRODUCT_ID, serialNumber: 'LED', endpoints: { 2: 64 } })
    emulate({ usbSerial: 'T1' })
    begin({ 'usb-serial': 'T1' })
    await ear.until(() => ear.times.length > 0)
  })
})

describe("the NOX driver's options", () => {
  it('are checked', () => {
    expect(parseChannelMap('3102')).toEqual([3, 1, 0, 2])
    expect(parseChannelMap('0012')).toBeUndefined()
    expect(() => driver.create(contextFor('bob', systemClock, { channels: '0124' }))).toThrow('an order of 0123')
  })
})
