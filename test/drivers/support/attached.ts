import { systemClock } from '../../../src/base/clock.js'
import type { ReadonlyCell } from '../../../src/base/cell.js'
import { type Device, type DeviceState, type Driver, type Side } from '../../../src/device/contract.js'
import type { DeviceEmulator, EmulatorFactory } from '../../../src/device/emulator-contract.js'
import type { DeviceLine } from '../../../src/io/contract.js'
import { createMemoryLines, type MemoryLines } from '../../../src/io/memory-line.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { type Logger, silentLogger } from '../../../src/observe/log.js'
import { seededRandom } from './pair.js'

export interface AttachOptions {
  driver: Driver
  emulator: EmulatorFactory
  side?: Side
  driverOptions?: Record<string, string>
  emulatorOptions?: Record<string, string>
  /** A real tty; default an in-memory line. */
  pty?: boolean
  log?: Logger
  seed?: number
}

/** A driver and its emulator at the two ends of a cable, running. */
export interface Attached {
  readonly device: Device
  readonly emulator: DeviceEmulator
  readonly line: DeviceLine
  stop(): Promise<void>
}

let lineNumber = 0
const lines: MemoryLines = createMemoryLines()

export async function attach(options: AttachOptions): Promise<Attached> {
  const { driver, side = 'alice', log = silentLogger, seed = 1 } = options
  const random = seededRandom(seed)
  const clock = systemClock
  lineNumber += 1
  const line =
    options.pty === true
      ? await openPtyLine({ clock, random, baudRate: options.emulator.baudRate })
      : lines.create(`line${lineNumber}`)
  const stop = new AbortController()
  const emulator = options.emulator.create({ line, options: options.emulatorOptions ?? {}, clock, random, log })
  const device = driver.create({
    device: line.path,
    side,
    options: options.driverOptions ?? {},
    io: createNodeIo({ clock, log, memoryLines: lines }),
    clock,
    random: seededRandom(seed + 100),
    log,
  })
  const running = [emulator.run(stop.signal), device.run(stop.signal)]
  return {
    device,
    emulator,
    line,
    async stop() {
      stop.abort()
      await Promise.all(running)
      await line.close()
    },
  }
}

/** Resolves once the device is in one of these states. */
export function untilDevice(state: ReadonlyCell<DeviceState>, ...names: DeviceState['state'][]): Promise<DeviceState> {
  return new Promise((resolve) => {
    const look = (): boolean => {
      if (!names.includes(state.value.state)) return false
      unsubscribe()
      resolve(state.value)
      return true
    }
    const unsubscribe = state.subscribe(look)
    look()
  })
}
