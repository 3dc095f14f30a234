/** What a driver's emulator looks like to `qkd-gw emulate`, to the demonstration and to tests. */
import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'
import type { DeviceLine } from '../io/contract.js'
import type { MemoryUsb } from '../io/usb-memory.js'
import type { Logger } from '../observe/log.js'
import type { Side } from './contract.js'

/** A fault that can be commanded while the emulator runs. */
export interface FaultDescription {
  /** As it is typed: `corrupt`. */
  name: string
  /** Its arguments, e.g. `[frames=1]`. */
  usage: string
  meaning: string
}

export interface EmulatorContext {
  /** The device's end of the cable. */
  readonly line: DeviceLine
  /** Where a device with a USB cable of its own plugs it in. */
  readonly usb?: MemoryUsb
  /** `--pair`, `--rate` and so on, by name without dashes; the emulator checks them. */
  readonly options: Readonly<Record<string, string>>
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/** One emulated device. */
export interface DeviceEmulator {
  /** False where no driver is for it: a helper at the other end of a fibre. */
  readonly attachable?: boolean
  readonly faults: readonly FaultDescription[]
  /** Runs until `signal` aborts; resolves then. */
  run(signal: AbortSignal): Promise<void>
  /** Does what was commanded; resolves with a sentence that says what. Rejects with E_USAGE for what it does not know. */
  fault(name: string, args: readonly string[]): Promise<string>
  /** Counters: frames sent, lost, faults. Never key material. */
  facts(): Readonly<Record<string, string | number | boolean>>
}

/** What `drivers/<name>/emulator.ts` exports as `emulator`. */
export interface EmulatorFactory {
  /** Line rate at which the device itself works. */
  readonly baudRate: number
  /** Which cables the device has; a serial line only where nothing is said. */
  readonly cables?: 'usb' | 'serial and usb'
  /** The end of the fibre at which such a device stands; either where nothing is said. */
  readonly side?: Side
  /** The options it takes, for `--help`: name → meaning. */
  readonly options: Readonly<Record<string, string>>
  /** Throws E_USAGE for options that cannot work. */
  create(context: EmulatorContext): DeviceEmulator
}
