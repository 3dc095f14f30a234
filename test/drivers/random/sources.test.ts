import { describe, expect, it } from 'vitest'
import { qcicadaEmulator, swiftrngEmulator, truerngEmulator } from '../../../drivers/random/emulators.js'
import { driver as os } from '../../../drivers/random/os.js'
import { driver as qcicada } from '../../../drivers/random/qcicada.js'
import { QuantisEmulator } from '../../../drivers/random/quantis-emulator.js'
import { createQuantisDriver } from '../../../drivers/random/quantis.js'
import { driver as swiftrng } from '../../../drivers/random/swiftrng.js'
import { driver as truerng } from '../../../drivers/random/truerng.js'
import { systemClock } from '../../../src/base/clock.js'
import type { Device, Driver } from '../../../src/device/contract.js'
import type { EmulatorFactory } from '../../../src/device/emulator-contract.js'
import { isRandomDevice, type RandomSource } from '../../../src/device/random-source.js'
import { createMemoryUsb } from '../../../src/io/usb-memory.js'
import { attach, untilDevice } from '../support/attached.js'
import { contextFor, seededRandom } from '../support/pair.js'

const never = new AbortController().signal

function sourceOf(device: Device): RandomSource {
  if (!isRandomDevice(device)) throw new Error('no random device')
  return device.source
}

const serial: [string, Driver, EmulatorFactory, boolean][] = [
  ['TrueRNG', truerng, truerngEmulator, false],
  ['SwiftRNG', swiftrng, swiftrngEmulator, false],
  ['QCicada', qcicada, qcicadaEmulator, true],
]

// They wait more than they work: several at a time.
describe.concurrent.each(serial)('%s as a random source', (_name, driver, emulator, quantum) => {
  it('gives tested bytes on a real tty, each once', async ({ onTestFinished }) => {
    const attached = await attach({ driver, emulator, pty: true })
    onTestFinished(() => attached.stop())
    const source = sourceOf(attached.device)
    expect(source.claimsQuantum).toBe(quantum)
    const bytes = await source.read(20_000, 15_000, never)
    expect(new Set(bytes).size).toBe(256)
    expect(Buffer.from(bytes).equals(await source.read(20_000, 15_000, never))).toBe(false)
    expect(attached.device.state.value.state).toBe('producing')
    expect(attached.device.facts()).toMatchObject({ healthy: true, healthFailures: 0 })
  })

  it.for([
    ['stuck', 'repetition count'],
    ['biased', 'adaptive proportion'],
  ] as const)('is stopped loudly when it is %s', async ([fault, test], { onTestFinished }) => {
    const attached = await attach({ driver, emulator, driverOptions: { 'silent-after-ms': '1000' } })
    onTestFinished(() => attached.stop())
    const source = sourceOf(attached.device)
    await source.read(100, 15_000, never)
    await attached.emulator.fault(fault, [])
    const reading = async (): Promise<never> => {
      for (;;) await source.read(10_000, 15_000, never)
    }
    await expect(reading()).rejects.toMatchObject({ code: 'E_RANDOM_SOURCE' })
    expect(await untilDevice(attached.device.state, 'silent')).toMatchObject({
      reason: expect.stringContaining(test) as string,
    })
    await expect(source.read(1, 1_000, never)).rejects.toThrow(test)
  })

  it('works again after it was unplugged and put back', async ({ onTestFinished }) => {
    const attached = await attach({ driver, emulator, pty: true })
    onTestFinished(() => attached.stop())
    const source = sourceOf(attached.device)
    await source.read(100, 15_000, never)
    await attached.line.unplug()
    await untilDevice(attached.device.state, 'absent')
    await attached.line.plug()
    await untilDevice(attached.device.state, 'producing')
    expect(await source.read(70_000, 15_000, never)).toHaveLength(70_000)
  })
})

describe('a SwiftRNG below version 2.0', () => {
  it('has its bytes hashed here', async () => {
    const attached = await attach({
      driver: swiftrng,
      emulator: swiftrngEmulator,
      emulatorOptions: { version: 'V1.7' },
    })
    await sourceOf(attached.device).read(10_000, 15_000, never)
    const { bytesReceived, bytesGiven, bytesReady } = attached.device.facts()
    expect(Number(bytesReceived)).toBeGreaterThanOrEqual(2 * (Number(bytesGiven) + Number(bytesReady)))
    await attached.stop()
  })
})

describe('a QCicada that reports a failure', () => {
  it('is not used, whatever its bytes look like', async () => {
    const attached = await attach({ driver: qcicada, emulator: qcicadaEmulator, emulatorOptions: { flags: '65' } })
    await expect(sourceOf(attached.device).read(100, 15_000, never)).rejects.toThrow('it reports repetition')
    await attached.stop()
  })
})

describe('Quantis USB as a random source', () => {
  it('gives tested bytes, is stopped when stuck, and comes back after it was unplugged', async () => {
    const usb = createMemoryUsb(systemClock)
    const stop = new AbortController()
    const emulator = new QuantisEmulator(usb, systemClock, seededRandom(5))
    const device = createQuantisDriver(() => usb.io).create(contextFor('alice', systemClock))
    const running = [emulator.run(stop.signal), device.run(stop.signal)]
    const source = sourceOf(device)
    expect(await source.read(5_000, 15_000, never)).toHaveLength(5_000)
    expect(device.state.value).toMatchObject({
      state: 'producing',
      identity: 'Quantis USB, version 513, 4000 kbit/s a module',
    })
    emulator.plug.unplug()
    await untilDevice(device.state, 'absent')
    emulator.plug.plug()
    await untilDevice(device.state, 'producing')
    expect(await source.read(70_000, 15_000, never)).toHaveLength(70_000)
    await emulator.fault('stuck', ['255'])
    const reading = async (): Promise<never> => {
      for (;;) await source.read(10_000, 15_000, never)
    }
    await expect(reading()).rejects.toMatchObject({ code: 'E_RANDOM_SOURCE' })
    await untilDevice(device.state, 'silent')
    stop.abort()
    await Promise.all(running)
  })

  it('does not use a unit without a working module', async () => {
    const usb = createMemoryUsb(systemClock)
    const stop = new AbortController()
    const emulator = new QuantisEmulator(usb, systemClock, seededRandom(5))
    await emulator.fault('status', ['0'])
    const device = createQuantisDriver(() => usb.io).create(contextFor('alice', systemClock))
    const refused = new Promise<void>((resolve) => {
      device.state.subscribe((state) => {
        if (state.state === 'absent' && state.reason.includes('no module works')) resolve()
      })
    })
    const running = device.run(stop.signal)
    await refused
    stop.abort()
    await running
  })
})

describe("the operating system's source", () => {
  it('is tested like the others', async () => {
    const stop = new AbortController()
    const device = os.create(contextFor('alice', systemClock))
    const running = device.run(stop.signal)
    expect(await sourceOf(device).read(100_000, 15_000, never)).toHaveLength(100_000)
    stop.abort()
    await running
    const dead = os.create({
      ...contextFor('alice', systemClock),
      random: { bytes: (length) => new Uint8Array(length), fraction: () => 0 },
    })
    const ending = new AbortController()
    const dying = dead.run(ending.signal)
    await expect(sourceOf(dead).read(1, 15_000, never)).rejects.toMatchObject({ code: 'E_RANDOM_SOURCE' })
    expect(dead.state.value.state).toBe('silent')
    ending.abort()
    await dying
  })
})
