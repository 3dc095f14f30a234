/**
 * The contract that every driver implements, and all that the rest of the gateway knows of a device.
 * A driver is a folder under drivers/; `catalogue.ts` lists them and loads each only when it is asked for.
 */
import type { ReadonlyCell, Unsubscribe } from '../base/cell.js'
import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import type { DeviceIo } from '../io/contract.js'

/** End of the fibre. */
export type Side = 'alice' | 'bob'

/** Where a device stands. "Open" is not "identified", "identified" is not "producing". */
export type DeviceState =
  | { state: 'absent'; reason: string }
  /** Another program holds the port; `reason` names it where it can be seen. */
  | { state: 'busy'; reason: string }
  /** It is there but cannot be opened for another reason (rights, a driver that does not answer). */
  | { state: 'refused'; reason: string }
  | { state: 'opening' }
  | { state: 'open'; path: string }
  | { state: 'identified'; path: string; identity: string }
  | { state: 'producing'; path: string; identity: string }
  /** Open, but nothing came for longer than the device should need; `reason` says what was tried. */
  | { state: 'silent'; path: string; reason: string }
  | { state: 'stopped' }

/** Why a driver withheld key or detections. Counted by reason; never silently. */
export type DiscardReason = 'corrupt' | 'compromised' | 'repeated' | 'outOfOrder' | 'overflow' | 'dummy' | 'invalid'

export type DeviceEvent =
  /** A finished key. `id` is the device's own number. The listener owns `key` and wipes it after use. */
  | { type: 'key'; id: bigint; key: Uint8Array }
  | { type: 'discarded'; reason: DiscardReason; count: number; id?: bigint }
  /** The device began to number anew: ids seen before mean nothing any more. */
  | { type: 'renumbered'; reason: string }
  /** Detections, ascending: times in ps since the stream's start, patterns with input 1 as bit 0; both of equal length. */
  | { type: 'tags'; timesPs: BigUint64Array; patterns: Uint8Array }
  /** Something is missing from the stream (overflow, slip, reopened port): do not join what is before and after it. */
  | { type: 'gap'; reason: string }
  /**
   * A measured figure for statistics, path root first, e.g. ['ErrorCorrection', 'QBER'] with unit 'percent'. `whole`
   * ones go out as unsigned integers, as upstream sends its counts; one path is one or the other for good.
   */
  | {
      type: 'figure'
      path: readonly string[]
      value: number
      unit: 'count' | 'percent' | 'ms' | 'hz' | 'dB'
      whole?: true
    }

/** One attached device, whatever its transport. It outlives unplugging; only `run`'s signal ends it. */
export interface Device {
  readonly state: ReadonlyCell<DeviceState>
  /** Facts for status and logs (round trip, identity, counters); never key material. */
  facts(): Readonly<Record<string, string | number | boolean>>
  subscribe(listener: (event: DeviceEvent) => void): Unsubscribe
  /**
   * Opens the device, reads it, and after each loss opens it again, for ever, with growing pauses. Resolves when
   * `signal` aborts and everything is closed. Rejects only with what time or a cable cannot mend (E_DEVICE_NOT_A_DEVICE,
   * E_CONFIG …).
   */
  run(signal: AbortSignal): Promise<void>
}

/** A detector that can be told to begin and to stop; others tag as long as they are open. */
export interface TaggingDevice extends Device {
  setTagging(on: boolean): void
}

export function isTaggingDevice(device: Device): device is TaggingDevice {
  return 'setTagging' in device
}

/** What the device yields, and so what the gateway does with it. */
export type DeviceYield =
  /** Finished keys with the device's own numbers, equal at both sites (QIX). */
  | 'keys'
  /** Detections; key only after distillation. */
  | 'tags'
  /** A pair that makes its keys by calls between the two devices (dummyqkd, Clavis2). */
  | 'pair'
  /** Counts, random bits: never key. */
  | 'auxiliary'

/** How a device on this machine is recognised without opening it. Every given field must match; text by regular expression. */
export interface UsbMatch {
  vendorId?: string
  productId?: string
  manufacturer?: RegExp
  product?: RegExp
  serialNumber?: RegExp
  /** 0 to 100. Generic converters (bare FTDI, CP210x) stay below 30 and never win alone. */
  score: number
  reason: string
}

/** What is known of a driver before it is loaded. */
export interface DriverDescriptor {
  /** Name on the command line: `--driver qix`. */
  readonly name: string
  readonly title: string
  readonly yields: DeviceYield
  /** The `kind` registered with a SiteAgent; both ends of a link must have the same. */
  readonly kind: string
  /** Bytes of one delivered key; 0 where the driver yields none. */
  readonly bytesPerKey: number
  /** The driver's own option for the key length, where it has one; whichever is given, the other one follows. */
  readonly keyBytesOption?: string
  /** Undefined where keys are secret; otherwise why they are not (emulator, demonstrator), shown in every status. */
  readonly notSecretBecause?: string
  /** False until the driver has run on the real device. */
  readonly exercisedOnHardware: boolean | 'no hardware of its kind'
  readonly usb: readonly UsbMatch[]
  /** Schemes such as `dummy:` or `replay:` that name this driver in the device argument. */
  readonly schemes?: readonly string[]
}

/** What a driver is given; it reaches for nothing else. */
export interface DriverContext {
  /** The device argument: a path, or what follows the scheme. */
  readonly device: string
  readonly side: Side
  /** The driver's own options, as given by `--driver-option name=value` or the configuration; the driver checks them. */
  readonly options: Readonly<Record<string, string>>
  readonly io: DeviceIo
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

/** What `drivers/<name>/driver.ts` exports as `driver`. */
export interface Driver {
  readonly descriptor: DriverDescriptor
  /** Throws E_CONFIG for options that cannot work; touches no hardware before `run`. */
  create(context: DriverContext): Device
}
