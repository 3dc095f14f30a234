import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { type Burst, createEmitterDriver, driver, type EmitterDevice } from '../../../drivers/led-emitter/driver.js'
import { LedEmulator } from '../../../drivers/led-emitter/emulator.js'
import { bytesOfQubits, PRODUCT_ID, qubitsOf, VENDOR_ID } from '../../../drivers/led-emitter/protocol.js'
import { systemClock } from '../../../src/base/clock.js'
import type { Random } from '../../../src/base/random.js'
import type { DeviceLine } from '../../../src/io/contract.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { createMemoryUsb, type MemoryUsb } from '../../../src/io/usb-memory.js'
import { silentLogger } from '../../../src/observe/log.js'
import { untilDevice } from '../support/attached.js'
import { contextFor, seededRandom } from '../support/pair.js'

const base = { clock: systemClock, random: seededRandom(2), log: silentLogger }

describe('the states of an LED emitter', () => {
  it('lie four in a byte, the first in the high or in the low bits', () => {
    expect([...qubitsOf(Uint8Array.of(0b00_01_10_11), 'high')]).toEqual([0, 1, 2, 3])
    expect([...qubitsOf(Uint8Array.of(0b00_01_10_11), 'low')]).toEqual([3, 2, 1, 0])
  })

  it('come back in either order', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.constantFrom('high', 'low'), (bytes, order) => {
        expect([...bytesOfQubits(qubitsOf(bytes, order), order)]).toEqual([...bytes])
      }),
    )
  })
})

describe('the LED emitter driver', () => {
  let usb: MemoryUsb
  let device: EmitterDevice
  let emulator: LedEmulator
  let line: DeviceLine | undefined
  let stop: AbortController
  let running: Promise<unknown>
  let bursts: Burst[]

  async function begin(options: Record<string, string> = {}, random?: Random): Promise<void> {
    line = await openPtyLine({ ...base })
    usb = createMemoryUsb(systemClock)
    emulator = new LedEmulator({ ...base, line, usb, usbSerial: 'LED1' })
    device = createEmitterDriver(() => usb.io).create({
      ...contextFor('alice', systemClock, { 'burst-interval-ms': '1', ...options }),
      device: line.path,
      io: createNodeIo(base),
      ...(random === undefined ? {} : { random }),
    })
    bursts = []
    device.subscribeBursts((burst) => bursts.push(burst))
    stop = new AbortController()
    running = Promise.all([emulator.run(stop.signal), device.run(stop.signal)])
  }
  afterEach(async () => {
    stop.abort()
    await running
    await line?.close()
  })

  it('sets the emitter on a real tty, XOFF byte included, and sends bursts of random states', async () => {
    await begin()
    await emulator.untilBytes(256 * 20)
    expect(emulator.control).toEqual([0x46, 0x13, 0x24, 0x50, 0x1c, 0x24])
    expect(await line?.lineRate()).toBe(9_600)
    expect(emulator.facts()).toMatchObject({ bytesBeforeSettings: 0 })
    expect(bursts[0]?.qubits).toHaveLength(1_024)
    expect(new Set(bursts[0]?.qubits)).toEqual(new Set([0, 1, 2, 3]))
    expect(bursts.map(({ number }) => number).slice(0, 3)).toEqual([1n, 2n, 3n])
    expect(Buffer.from(bursts[0]?.qubits ?? []).equals(Buffer.from(bursts[1]?.qubits ?? []))).toBe(false)
    expect(device.state.value.state).toBe('producing')
    expect(device.facts()).toMatchObject({ random: 'os', randomState: 'producing' })
  })

  it('sends nothing of a random source that is dead, and says so', async () => {
    await begin({}, { bytes: (length) => new Uint8Array(length).fill(3), fraction: () => 0.5 })
    const state = await untilDevice(device.state, 'silent')
    expect(state).toMatchObject({ reason: expect.stringContaining('repetition count') as string })
    expect(emulator.facts()).toMatchObject({ bytes: 0 })
  })

  it('sets the emitter anew after its USB cable was pulled and put back', async () => {
    await begin()
    await emulator.untilBytes(256)
    await emulator.fault('unplug')
    await untilDevice(device.state, 'silent', 'absent')
    await emulator.fault('plug')
    await untilDevice(device.state, 'producing')
    expect(emulator.control).toHaveLength(12)
  })

  it('does not take the tagger, which has the same ids, for an emitter', async () => {
    await begin({ 'usb-serial': 'TAGGER' })
    usb.attach({ vendorId: VENDOR_ID, productId: PRODUCT_ID, serialNumber: 'TAGGER', endpoints: { 0x82: 512 } })
    const refused = new Promise<void>((resolve) => {
      device.state.subscribe((state) => {
        if (state.state === 'silent' && state.reason.includes('no endpoint 2')) resolve()
      })
    })
    await refused
    expect(emulator.control).toEqual([])
  })

  it('names a wrong option', () => {
    stop = new AbortController()
    running = Promise.resolve()
    const create = (options: Record<string, string>): unknown =>
      driver.create(contextFor('alice', systemClock, options))
    expect(() => create({ random: 'dice' })).toThrow('random: names no random source')
    expect(() => create({ 'burst-qubits': '1023' })).toThrow('multiple of 4')
  })
})
