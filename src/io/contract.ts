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
 * An open byte transport: used once, made anew after it closed. Chunks belong to the listener. A write has a deadline of
 * its own and rejects with E_DEADLINE or E_DEVICE_IO.
 */
export interface ByteTransport {
  /** The path actually opened. */
  readonly path: string
  onData(listener: (chunk: Uint8Array) => void): Unsubscribe
  /** Called exactly once. */
  onClose(listener: (reason: CloseReason) => void): Unsubscribe
  write(bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void>
  /** Changes the line rate in place. */
  setBaudRate?(baudRate: number): Promise<void>
  /** Idempotent; never hangs. */
  close(): Promise<void>
}

/**
 * Opens a serial port exclusively. Rejects with E_DEVICE_ABSENT, E_DEVICE_BUSY (naming the holder where it can be seen),
 * E_DEVICE_PERMISSION (owner, group, mode, our uid and groups, the command that helps), E_DEVICE_NOT_A_DEVICE or
 * E_DEADLINE.
 */
export type OpenSerial = (path: string, settings: SerialSettings, signal: AbortSignal) => Promise<ByteTransport>

/** What a driver may open. The composition root fills it; tests give their own. */
export interface DeviceIo {
  readonly openSerial: OpenSerial
  /** Watches a path (a /dev node or a by-id link): calls back when it appears, vanishes or points elsewhere. */
  watchPath(path: string, listener: (present: boolean) => void): Unsubscribe
  /** The node that a stable name stands for now, or undefined while there is none. */
  resolvePath(path: string): string | undefined
}
