import type { Device, Interface } from 'usb'
import type { Unsubscribe } from '../base/cell.js'
import { type Clock, withDeadline } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import { ERROR_ACCESS, ERROR_BUSY, ERROR_NO_DEVICE, errnoOf, loadUsbBinding, type UsbBinding } from './usb-binding.js'
import {
  describeSelector,
  type UsbDeviceInfo,
  type UsbIo,
  type UsbOpenOptions,
  type UsbSelector,
} from './usb-contract.js'
import { NodeUsbTransport } from './usb-transport.js'

const STRING_MS = 1_000

function placeOf(device: Device): string {
  const three = (value: number): string => String(value).padStart(3, '0')
  return `${three(device.busNumber)}/${three(device.deviceAddress)}`
}

function hasIds(device: Device, { vendorId, productId }: UsbSelector): boolean {
  return device.deviceDescriptor.idVendor === vendorId && device.deviceDescriptor.idProduct === productId
}

/** The serial number of an open device; undefined where it has none or does not tell. */
function serialNumberOf(device: Device, clock: Clock): Promise<string | undefined> {
  const index = device.deviceDescriptor.iSerialNumber
  if (index === 0) return Promise.resolve(undefined)
  return withDeadline(
    clock,
    STRING_MS,
    'the serial number',
    () =>
      new Promise<string | undefined>((resolve) => device.getStringDescriptor(index, (_error, text) => resolve(text))),
  ).catch(() => undefined)
}

function openFailure(error: unknown, what: string): GatewayError {
  const options = { cause: error }
  switch (errnoOf(error)) {
    case ERROR_ACCESS:
      return new GatewayError('E_DEVICE_PERMISSION', `USB ${what} may not be opened by this user`, {
        ...options,
        remedy: 'install the udev rules of this package, or run as a user who may',
      })
    case ERROR_BUSY:
      return new GatewayError('E_DEVICE_BUSY', `USB ${what} is held by another program or driver`, {
        ...options,
        remedy: "end the other program; the maker's own tools count too",
      })
    case ERROR_NO_DEVICE:
      return new GatewayError('E_DEVICE_ABSENT', `USB ${what} went away while it was opened`, options)
    default:
      return new GatewayError('E_DEVICE_IO', `USB ${what}: ${messageOf(error)}`, options)
  }
}

/** USB through libusb. Where this system has no USB there are simply no devices. */
export function createUsbIo(clock: Clock, load: () => Promise<UsbBinding> = loadUsbBinding): UsbIo {
  let loading: Promise<UsbBinding> | undefined
  const binding = (): Promise<UsbBinding> => {
    loading ??= load().catch((error: unknown) => {
      throw new GatewayError('E_DEVICE_IO', `USB cannot be used here: ${messageOf(error)}`, { cause: error })
    })
    return loading
  }

  async function describe(device: Device): Promise<UsbDeviceInfo> {
    const { idVendor, idProduct } = device.deviceDescriptor
    let serialNumber: string | undefined
    try {
      device.open()
      serialNumber = await serialNumberOf(device, clock)
      device.close()
    } catch {
      // Not for this user, or in use by others.
    }
    return { vendorId: idVendor, productId: idProduct, serialNumber, place: placeOf(device) }
  }

  /** Opens the first device that fits; the ones that do not are closed again. */
  async function find(list: Device[], selector: UsbSelector): Promise<Device> {
    const what = describeSelector(selector)
    const candidates = list.filter((device) => hasIds(device, selector))
    let refused: GatewayError | undefined
    for (const device of candidates) {
      try {
        device.open()
      } catch (error) {
        refused = openFailure(error, what)
        continue
      }
      if (selector.serialNumber === undefined) return device
      if ((await serialNumberOf(device, clock)) === selector.serialNumber) return device
      device.close()
    }
    throw refused ?? new GatewayError('E_DEVICE_ABSENT', `USB ${what} is not there`, { remedy: 'plug it in' })
  }

  async function claim(device: Device, options: UsbOpenOptions): Promise<Interface> {
    const { configuration, interfaceNumber } = options
    if (configuration !== undefined && device.configDescriptor?.bConfigurationValue !== configuration) {
      await new Promise<void>((resolve, reject) =>
        device.setConfiguration(configuration, (error) => (error === undefined ? resolve() : reject(error))),
      )
    }
    const first = device.interfaces?.[0]
    const claimed = interfaceNumber === undefined ? first : device.interface(interfaceNumber)
    if (claimed === undefined) throw new Error('the device has no interface')
    // Not on every system is there a kernel driver to detach.
    const detach = ((): boolean => {
      try {
        return claimed.isKernelDriverActive()
      } catch {
        return false
      }
    })()
    if (detach) claimed.detachKernelDriver()
    claimed.claim()
    return claimed
  }

  return {
    async list() {
      const all = (await binding().catch(() => undefined))?.getDeviceList() ?? []
      return Promise.all(all.map(describe))
    },
    async open(selector, options, signal) {
      const usb = await binding()
      const device = await find(usb.getDeviceList(), selector)
      try {
        const claimed = await claim(device, options)
        if (signal.aborted) throw new GatewayError('E_CANCELLED', 'opening a USB device: stopped')
        const name = `usb ${describeSelector(selector)} (bus ${placeOf(device)})`
        return new NodeUsbTransport(name, device, claimed, clock, usb)
      } catch (error) {
        device.close()
        throw error instanceof GatewayError ? error : openFailure(error, describeSelector(selector))
      }
    },
    watch(listener) {
      let stopped = false
      let unsubscribe: Unsubscribe = () => {}
      binding().then(
        (usb) => {
          if (!stopped) unsubscribe = usb.onChange(listener)
        },
        () => {},
      )
      return () => {
        stopped = true
        unsubscribe()
      }
    },
  }
}
