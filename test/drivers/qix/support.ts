import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import type { ReadonlyCell } from '../../../src/base/cell.js'
import type { Device, DeviceEvent, DeviceState } from '../../../src/device/contract.js'
import type { DeviceEmulator } from '../../../src/device/emulator-contract.js'
import type { DeviceIo, DeviceLine } from '../../../src/io/contract.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { silentLogger } from '../../../src/observe/log.js'
import { driver } from '../../../drivers/qix/driver.js'
import { emulator } from '../../../drivers/qix/emulator.js'

export const base = { clock: systemClock, random: systemRandom, log: silentLogger }

/** Resolves with the first state, the present one included, that `accept` likes. */
export function stateOf(
  cell: ReadonlyCell<DeviceState>,
  accept: (state: DeviceState) => boolean,
): Promise<DeviceState> {
  return new Promise((resolve) => {
    if (accept(cell.value)) return resolve(cell.value)
    const stop = cell.subscribe((state) => {
      if (!accept(state)) return
      stop()
      resolve(state)
    })
  })
}

export function makeDevice(path: string, options: Record<string, string> = {}, io?: DeviceIo): Device {
  return driver.create({ ...base, device: path, side: 'alice', options, io: io ?? createNodeIo(base) })
}

export type KeyEvent = Extract<DeviceEvent, { type: 'key' }>

/** All events of a device, and a way to wait for the next that fits. */
export class Ear {
  readonly events: DeviceEvent[] = []
  readonly #waiting = new Set<() => void>()

  constructor(device: Device) {
    device.subscribe((event) => {
      this.events.push(event)
      for (const wake of [...this.#waiting]) wake()
    })
  }

  get keys(): KeyEvent[] {
    return this.events.filter((event) => event.type === 'key')
  }

  /** Resolves once `enough` holds for the events so far. */
  until(enough: (events: readonly DeviceEvent[]) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!enough(this.events)) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }

  untilKeys(count: number): Promise<void> {
    return this.until((events) => events.filter((event) => event.type === 'key').length >= count)
  }
}

export interface Bench {
  line: DeviceLine
  unit: DeviceEmulator
  device: Device
  ear: Ear
  /** Stops device and emulator. */
  stop(): Promise<void>
}

/** An emulated unit on a PTY with a driver at its other end, both running. */
export async function bench(
  emulatorOptions: Record<string, string>,
  driverOptions: Record<string, string> = {},
): Promise<Bench> {
  const line = await openPtyLine(base)
  const unit = emulator.create({ ...base, line, options: emulatorOptions })
  const device = makeDevice(line.path, driverOptions)
  const ear = new Ear(device)
  const ending = new AbortController()
  const running = [unit.run(ending.signal), device.run(ending.signal)]
  return {
    line,
    unit,
    device,
    ear,
    async stop() {
      ending.abort()
      await Promise.all(running)
      await line.close()
    },
  }
}
