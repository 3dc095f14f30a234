import { createUsbIo } from '../io/usb.js'
import type { UsbIo } from '../io/usb-contract.js'
import { createSocketUsb } from '../io/usb-socket.js'
import type { DriverContext } from './contract.js'

/** Driver option: the local socket of an emulated device, instead of this machine's USB. */
export const USB_SOCKET_OPTION = 'usb-socket'

/** The USB that a driver is to use. */
export function usbOf({ clock, options }: DriverContext): UsbIo {
  const socket = options[USB_SOCKET_OPTION]
  return socket === undefined ? createUsbIo(clock) : createSocketUsb(socket, clock)
}
