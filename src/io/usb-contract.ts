/** USB devices that are no serial port, as drivers see them. Implementations live beside this file; only they know `usb`. */
import type { Unsubscribe } from '../base/cell.js'
import type { CloseReason } from './contract.js'

/** Which device: the first that fits in bus order, or the one with that serial number. */
export interface UsbSelector {
  readonly vendorId: number
  readonly productId: number
  readonly serialNumber?: string
}

export interface UsbDeviceInfo {
  readonly vendorId: number
  readonly productId: number
  /** Undefined where the device has none or it cannot be read by this user. */
  readonly serialNumber: string | undefined
  /** Bus and address: "001/004". Changes when the device is put back. */
  readonly place: string
}

export interface UsbOpenOptions {
  /** Set this configuration first; without it the active one stays. */
  readonly configuration?: number
  /** Number of the interface to claim; default the first of the configuration. A kernel driver on it is detached. */
  readonly interfaceNumber?: number
}

/** A vendor or class request to the device. */
export interface UsbControl {
  /** bmRequestType: C1 is vendor, interface, towards the host. */
  readonly requestType: number
  readonly request: number
  readonly value: number
  readonly index: number
}

/**
 * An open device with one claimed interface: used once, made anew after it closed. Everything rejects with E_DEADLINE,
 * E_CANCELLED or E_DEVICE_IO.
 */
export interface UsbTransport {
  /** For people: "usb 221a:0100 (serial 7, bus 001/004)". */
  readonly name: string
  /** Called exactly once; at once where it is closed already. */
  onClose(listener: (reason: CloseReason) => void): Unsubscribe
  /** Bytes of one packet of that endpoint. Throws E_DEVICE_PROTOCOL where there is no such endpoint. */
  packetBytes(endpoint: number): number
  /** One bulk read of at most `length` bytes; what came, nothing where nothing came in time. */
  read(endpoint: number, length: number, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array>
  /**
   * Keeps `transfers` reads of `length` bytes in flight, so that the device never waits for us; chunks come in order and
   * belong to the listener. Ends with the returned function, or when the transport closes. One stream an endpoint.
   */
  stream(endpoint: number, length: number, transfers: number, onData: (chunk: Uint8Array) => void): () => Promise<void>
  write(endpoint: number, bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void>
  controlIn(control: UsbControl, length: number, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array>
  controlOut(control: UsbControl, bytes: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void>
  /** Idempotent; never hangs. */
  close(): Promise<void>
}

/** What a driver may do on USB. */
export interface UsbIo {
  /** What is attached, without opening more than reading serial numbers takes. Empty where there is no USB. */
  list(): Promise<UsbDeviceInfo[]>
  /** Rejects with E_DEVICE_ABSENT, E_DEVICE_BUSY, E_DEVICE_PERMISSION, E_DEVICE_IO or E_CANCELLED. */
  open(selector: UsbSelector, options: UsbOpenOptions, signal: AbortSignal): Promise<UsbTransport>
  /** Calls back when some device comes or goes. */
  watch(listener: () => void): Unsubscribe
}

/** "221a:0100" or "221a:0100, serial number 7". */
export function describeSelector({ vendorId, productId, serialNumber }: UsbSelector): string {
  const hex = (value: number): string => value.toString(16).padStart(4, '0')
  return `${hex(vendorId)}:${hex(productId)}${serialNumber === undefined ? '' : `, serial number ${serialNumber}`}`
}
