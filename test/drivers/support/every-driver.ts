/** Every driver whose device is emulated, at the end of a real tty and, for those with a USB cable, of the local socket. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import { findEntry } from '../../../src/device/catalogue.js'
import type { Device, DeviceState, Side } from '../../../src/device/contract.js'
import type { DeviceEmulator } from '../../../src/device/emulator-contract.js'
import { isRandomDevice } from '../../../src/device/random-source.js'
import type { DeviceLine } from '../../../src/io/contract.js'
import { createMemoryLines } from '../../../src/io/memory-line.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { createMemoryUsb } from '../../../src/io/usb-memory.js'
import { serveUsb } from '../../../src/io/usb-socket-server.js'
import { tapSerial, type WireListener } from '../../../src/io/wire-trace.js'
import { silentLogger } from '../../../src/observe/log.js'

export interface DriverCase {
  readonly driver: string
  readonly side: Side
  /** Options that make it quick. */
  readonly driverOptions: Readonly<Record<string, string>>
  readonly emulatorOptions: Readonly<Record<string, string>>
  readonly cables: 'serial' | 'usb' | 'serial and usb'
  /** The state in which it does what it is there for, without a session. */
  readonly works: DeviceState['state']
}

const serial = { side: 'alice', driverOptions: {}, emulatorOptions: {}, cables: 'serial', works: 'producing' } as const

export const DRIVER_CASES: readonly DriverCase[] = [
  { ...serial, driver: 'qix', emulatorOptions: { rate: '200' } },
  { ...serial, driver: 'tdc1', emulatorOptions: { rate: '2000' } },
  {
    ...serial,
    driver: 'ekpqc',
    driverOptions: { speed: '100' },
    emulatorOptions: { speed: '100' },
    works: 'identified',
  },
  {
    ...serial,
    driver: 'nox',
    side: 'bob',
    driverOptions: { 'step-ms': '1' },
    emulatorOptions: { rate: '2000' },
    cables: 'serial and usb',
  },
  { ...serial, driver: 'led-emitter', driverOptions: { 'burst-interval-ms': '5' }, cables: 'serial and usb' },
  { ...serial, driver: 'qcicada' },
  { ...serial, driver: 'swiftrng' },
  { ...serial, driver: 'truerng' },
  { ...serial, driver: 'quantis', cables: 'usb' },
  { ...serial, driver: 'counter-cc1', emulatorOptions: { 'dwell-s': '0.05' } },
  { ...serial, driver: 'counter-abacus', driverOptions: { 'poll-ms': '50' }, emulatorOptions: { 'sampling-ms': '50' } },
]

export interface EmulatedEnd {
  readonly emulator: DeviceEmulator
  readonly line: DeviceLine
  /** What `attach` is to be given for it. */
  readonly path: string
  readonly usbOptions: Readonly<Record<string, string>>
  stop(): Promise<void>
}

/** The emulator of a driver, running, with its cables in a folder of its own. */
export async function startEmulator({ driver, emulatorOptions }: DriverCase): Promise<EmulatedEnd> {
  const base = { clock: systemClock, random: systemRandom, log: silentLogger }
  const factory = await findEntry(driver).loadEmulator?.()
  if (factory === undefined) throw new Error(`${driver} has no emulator`)
  const folder = await mkdtemp(join(tmpdir(), 'qkd-gw-every-'))
  const { cables = 'serial', baudRate } = factory
  const line =
    cables === 'usb'
      ? createMemoryLines().create('unused')
      : await openPtyLine({ ...base, baudRate, link: join(folder, 'tty') })
  const usb = createMemoryUsb(systemClock)
  const socket = join(folder, 'usb')
  const stopUsb = cables === 'serial' ? undefined : await serveUsb(socket, usb.io)
  const emulator = factory.create({ ...base, line, options: emulatorOptions, usb })
  const ending = new AbortController()
  const running = emulator.run(ending.signal)
  return {
    emulator,
    line,
    path: cables === 'usb' ? 'usb:' : line.path,
    usbOptions: cables === 'serial' ? {} : { 'usb-socket': socket },
    async stop() {
      ending.abort()
      await running
      await stopUsb?.()
      await line.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export interface Bench extends EmulatedEnd {
  readonly device: Device
  /** Settles only where the driver ended by itself. */
  readonly ended: Promise<void>
}

/** The emulator with its driver at the other end, both running; `tap` hears what goes over the serial line. */
export async function startBench(chosen: DriverCase, tap?: WireListener): Promise<Bench> {
  const base = { clock: systemClock, random: systemRandom, log: silentLogger }
  const end = await startEmulator(chosen)
  const driver = await findEntry(chosen.driver).loadDriver()
  const io = createNodeIo(base)
  const device = driver.create({
    ...base,
    device: end.path,
    side: chosen.side,
    options: { ...chosen.driverOptions, ...end.usbOptions },
    io: tap === undefined ? io : { ...io, openSerial: tapSerial(io.openSerial, tap) },
  })
  const stopping = new AbortController()
  const running = device.run(stopping.signal)
  const using = useUp(device, stopping.signal)
  return {
    ...end,
    device,
    ended: running,
    async stop() {
      stopping.abort()
      await Promise.all([running, using])
      await end.stop()
    },
  }
}

/** A random source that nobody reads says nothing either. */
async function useUp(device: Device, signal: AbortSignal): Promise<void> {
  if (!isRandomDevice(device)) return
  while (!signal.aborted) {
    await device.source.read(20_000, 5_000, signal).then(
      (bytes) => bytes.fill(0),
      () => new Promise((resolve) => setTimeout(resolve, 20)),
    )
  }
}

/** Resolves with the state once `accept` likes it; rejects after `timeoutMs`, saying where it stands. */
export function untilState(
  device: Device,
  what: string,
  accept: (state: DeviceState) => boolean,
  timeoutMs = 30_000,
): Promise<DeviceState> {
  return new Promise((resolve, reject) => {
    if (accept(device.state.value)) return resolve(device.state.value)
    const timer = setTimeout(() => {
      stop()
      reject(new Error(`${what}: not within ${timeoutMs} ms; it is ${JSON.stringify(device.state.value)}`))
    }, timeoutMs)
    const stop = device.state.subscribe((state) => {
      if (!accept(state)) return
      clearTimeout(timer)
      stop()
      resolve(state)
    })
  })
}
