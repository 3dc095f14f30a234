import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import type { ReadonlyCell } from '../../../src/base/cell.js'
import type { DeviceEvent, DeviceState } from '../../../src/device/contract.js'
import type { DeviceEmulator } from '../../../src/device/emulator-contract.js'
import type { DeviceLine } from '../../../src/io/contract.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { silentLogger } from '../../../src/observe/log.js'
import { createTdc1Device, type Tdc1Device } from '../../../drivers/tdc1/driver.js'
import { emulator } from '../../../drivers/tdc1/emulator.js'

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

/** What a device tells, added up. */
export class Ear {
  readonly times: bigint[] = []
  readonly patterns: number[] = []
  /** Gaps, each with the number of tags before it. */
  readonly gaps: { after: number; reason: string }[] = []
  readonly discarded = new Map<string, number>()
  readonly figures: { name: string; value: number }[] = []
  readonly #waiting = new Set<() => void>()

  hear(event: DeviceEvent): void {
    if (event.type === 'tags') {
      this.times.push(...event.timesPs)
      this.patterns.push(...event.patterns)
    } else if (event.type === 'gap') this.gaps.push({ after: this.times.length, reason: event.reason })
    else if (event.type === 'discarded')
      this.discarded.set(event.reason, (this.discarded.get(event.reason) ?? 0) + event.count)
    else if (event.type === 'figure') this.figures.push({ name: event.path.join(' '), value: event.value })
    for (const look of [...this.#waiting]) look()
  }

  /** Resolves once `enough` holds. */
  until(enough: (ear: Ear) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!enough(this)) return
        this.#waiting.delete(look)
        resolve()
      }
      this.#waiting.add(look)
      look()
    })
  }

  untilTags(more: number): Promise<void> {
    const goal = this.times.length + more
    return this.until((ear) => ear.times.length >= goal)
  }
}

export interface Bench {
  line: DeviceLine
  unit: DeviceEmulator
  device: Tdc1Device
  ear: Ear
  readonly stopDevice: () => Promise<void>
  stop(): Promise<void>
}

export function makeDevice(path: string, options: Record<string, string> = {}): { device: Tdc1Device; ear: Ear } {
  const device = createTdc1Device({ ...base, device: path, side: 'alice', options, io: createNodeIo(base) })
  const ear = new Ear()
  device.subscribe((event) => ear.hear(event))
  return { device, ear }
}

/** An emulated unit on a PTY with a driver at its other end, both running. */
export async function bench(
  emulatorOptions: Record<string, string>,
  driverOptions: Record<string, string> = {},
): Promise<Bench> {
  const line = await openPtyLine(base)
  const unit = emulator.create({ ...base, line, options: emulatorOptions })
  const { device, ear } = makeDevice(line.path, driverOptions)
  const unitEnding = new AbortController()
  const deviceEnding = new AbortController()
  const unitRunning = unit.run(unitEnding.signal)
  const deviceRunning = device.run(deviceEnding.signal)
  const stopDevice = async (): Promise<void> => {
    deviceEnding.abort()
    await deviceRunning
  }
  return {
    line,
    unit,
    device,
    ear,
    stopDevice,
    async stop() {
      await stopDevice()
      unitEnding.abort()
      await unitRunning
      await line.close()
    },
  }
}

/** True where no time is lower than the one before. */
export function ascends(times: readonly bigint[]): boolean {
  return times.every((time, i) => i === 0 || time >= (times[i - 1] ?? 0n))
}
