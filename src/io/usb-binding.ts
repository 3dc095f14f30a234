import type { Device } from 'usb'
import type { Unsubscribe } from '../base/cell.js'

/** libusb's numbers, which its package gives only where its native part loads. */
export const ERROR_ACCESS = -3
export const ERROR_NO_DEVICE = -4
export const ERROR_BUSY = -6
export const TRANSFER_TIMED_OUT = 2
export const TRANSFER_CANCELLED = 3
export const TRANSFER_NO_DEVICE = 5

/** What of the `usb` package is used; tests give their own. */
export interface UsbBinding {
  getDeviceList(): Device[]
  onChange(listener: () => void): Unsubscribe
}

/** Loads the native part. Rejects where this system has none. */
export async function loadUsbBinding(): Promise<UsbBinding> {
  const { usb } = await import('usb')
  return {
    getDeviceList: () => usb.getDeviceList(),
    onChange(listener) {
      usb.on('attach', listener)
      usb.on('detach', listener)
      // Waiting for devices is no reason for a process to live on.
      usb.unrefHotplugEvents()
      return () => {
        usb.off('attach', listener)
        usb.off('detach', listener)
      }
    },
  }
}

export function errnoOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('errno' in error)) return undefined
  return typeof error.errno === 'number' ? error.errno : undefined
}
