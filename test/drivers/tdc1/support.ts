import { systemClock } from '../../../src/base/clock.js'
import { systemRandom } from '../../../src/base/random.js'
import type { TaggingDevice } from '../../../src/device/contract.js'
import type { DeviceEmulator } from '../../../src/device/emulator-contract.js'
import type { DeviceLine } from '../../../src/io/contract.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { openPtyLine } from '../../../src/io/pty.js'
import { silentLogger } from '../../../src/observe/log.js'
import { createTdc1Device } from '../../../drivers/tdc1/driver.js'
import { Ear } from '../../device/event-formats/ear.js'
import { emulator } from '../../../drivers/tdc1/emulator.js'
import { BAUD_RATE } from '../../../drivers/tdc1/protocol.js'

export const base = { clock: systemClock, random: systemRandom, log: silentLogger }

export interface Bench {
  line: DeviceLine
  unit: DeviceEmulator
  device: TaggingDevice
  ear: Ear
  readonly stopDevice: () => Promise<void>
  stop(): Promise<void>
}

export function makeDevice(path: string, options: Record<string, string> = {}): { device: TaggingDevice; ear: Ear } {
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
  // On a busy machine this process may stand still for longer than a UART would wait.
  const line = await openPtyLine({ ...base, baudRate: BAUD_RATE, patienceMs: 5_000 })
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
      // First, so that nothing waits for a reader who is gone.
      await line.close()
      await unitRunning
    },
  }
}
