/** Bytes in and out, as drivers see them. Implementations live beside this file; only they know serialport and usb. */
import type { Unsubscribe } from '../base/cell.js'

export interface SerialSettings {
  baudRate: number
  dataBits?: 5 | 6 | 7 | 8
  parity?: 'none' | 'even' | 'odd'
  stopBits?: 1 | 2
  /** RTS/CTS. */
  hardwareFlowControl?: boolean
  /** XON/XOFF: eats 0x11 and 0x13. */
  softwareFlowControl?: boolean
  /** Set DTR after opening where the driver needs it; lines that cannot be set (a PTY) are not an error. */
  dtr?: boolean
}

/** Why an open transport ended. */
export type CloseReason =
  | { cause: 'closed' } // by us
  | { cause: 'unplugged'; message: string }
  | { cause: 'error'; message: string }

/**
 * An open byte transport: used once, made anew after it closed. Chunks belong to the listener; nothing is read before
 * the first listener. A write has a deadline of its own and rejects with E_DEADLINE or E_DEVICE_IO.
 */
export interface ByteTransport {
  /** The path actually opened. */
  readonly path: string
  onData(listener: (chunk: Uint8Array) => void): Unsubscribe
  /** Called exactly once; at once where it is closed already. */
  onClose(listener: (reason: CloseReason) => void): Unsubscribe
  write(bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void>
  /** Changes the line rate in place. */
  setBaudRate?(baudRate: number): Promise<void>
  /** Idempotent; never hangs. */
  close(): Promise<void>
}

/**
 * Opens a serial port exclusively. Rejects with E_DEVICE_ABSENT, E_DEVICE_BUSY (naming the holder where it can be seen),
 * E_DEVICE_PERMISSION (owner, group, mode, our uid and groups, the command that helps), E_DEVICE_NOT_A_DEVICE,
 * E_DEVICE_IO, E_DEADLINE or E_CANCELLED.
 */
export type OpenSerial = (path: string, settings: SerialSettings, signal: AbortSignal) => Promise<ByteTransport>

/** What a driver may open. The composition root fills it; tests give their own. */
export interface DeviceIo {
  readonly openSerial: OpenSerial
  /** Watches a path (a /dev node or a by-id link): calls back when it appears, vanishes or points elsewhere. */
  watchPath(path: string, listener: (present: boolean) => void): Unsubscribe
  /** The node that a stable name stands for now, or undefined while there is none. */
  resolvePath(path: string): string | undefined
  /** The stable name in `folder` (such as /dev/serial/by-id) that stands for the same node as `path`, if there is one. */
  stableNameOf(path: string, folder: string): string | undefined
  /** How long the converter behind a node (FTDI) holds short packets back, ms; undefined where it cannot be told. */
  latencyTimerMs?(node: string): number | undefined
}

/**
 * The device's end of a serial cable, for emulators: what is sent here is read by whoever opened `path`. The path stays
 * the same when the cable is pulled and put back.
 */
export interface DeviceLine {
  /** A PTY is a real tty; memory serves inside one process where there are no PTYs. */
  readonly transport: 'pty' | 'memory'
  readonly path: string
  readonly plugged: boolean
  /**
   * Sends towards the host. Like a UART without flow control it never waits for long: resolves with the number of bytes
   * that found room; the rest is lost. 0 while unplugged.
   */
  send(bytes: Uint8Array): Promise<number>
  /** What the host writes. */
  onData(listener: (chunk: Uint8Array) => void): Unsubscribe
  /** Pulls the cable: the node vanishes at once. */
  unplug(): Promise<void>
  /** Puts it back under the same name. */
  plug(): Promise<void>
  /** Line rate that the host set, in baud; undefined where it cannot be told. */
  lineRate(): Promise<number | undefined>
  close(): Promise<void>
}
