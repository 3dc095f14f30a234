import { wipe } from '../base/wipe.js'
import { GatewayError, messageOf } from '../base/errors.js'
import { createMemoryLines, MEMORY_PREFIX } from '../io/memory-line.js'
import type { Device, DriverContext } from './contract.js'
import type { EmulatorFactory } from './emulator-contract.js'

/** Device arguments that begin so stand for an emulator inside this very process: `emulator:pair=7,rate=20`. */
export const EMULATOR_PREFIX = 'emulator:'

/** The emulator's options in a device argument, or undefined where it names a real device. Throws E_USAGE. */
export function emulatorOptions(device: string): Record<string, string> | undefined {
  if (!device.startsWith(EMULATOR_PREFIX)) return undefined
  const options: Record<string, string> = {}
  for (const part of device.slice(EMULATOR_PREFIX.length).split(',')) {
    if (part === '') continue
    const at = part.indexOf('=')
    if (at < 1) throw new GatewayError('E_USAGE', `${device}: "${part}" is not name=value`)
    options[part.slice(0, at)] = part.slice(at + 1)
  }
  return options
}

/**
 * Driver and emulator in one process, joined by an in-memory line: for systems without PTYs. The driver is made by
 * `createDevice` with a context whose device is that line.
 */
export function createEmulatedDevice(
  context: DriverContext,
  options: Readonly<Record<string, string>>,
  emulatorFactory: () => Promise<EmulatorFactory>,
  createDevice: (context: DriverContext) => Device,
): Device {
  const { clock, random, log } = context
  const lines = createMemoryLines()
  const name = 'emulator'
  const device = createDevice({
    ...context,
    device: `${MEMORY_PREFIX}${name}`,
    io: {
      openSerial: lines.openSerial,
      watchPath: (path, listener) => lines.watch(path, listener),
      resolvePath: (path) => (lines.isPresent(path) ? path : undefined),
      stableNameOf: (path) => path,
    },
  })
  return {
    state: device.state,
    facts: () => ({ ...device.facts(), emulated: true }),
    subscribe: (listener) => device.subscribe(listener),
    async run(signal) {
      const line = lines.create(name)
      const emulator = (await emulatorFactory()).create({ line, options, clock, random, log })
      const unhear = line.onData((chunk) => wipe(chunk))
      const running = emulator.run(signal).catch((error: unknown) => {
        log.error({ reason: messageOf(error) }, 'the emulator inside this process ended')
      })
      try {
        await device.run(signal)
        await running
      } finally {
        unhear()
        await line.close()
      }
    },
  }
}
