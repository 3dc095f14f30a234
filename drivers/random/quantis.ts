import { z } from 'zod'
import { GatewayError } from '../../src/base/errors.js'
import type { Driver, DriverContext } from '../../src/device/contract.js'
import { parseOptions } from '../../src/device/driver-options.js'
import type { TestedPool } from '../../src/device/random-source.js'
import { USB_SOCKET_OPTION, usbOf } from '../../src/device/usb-choice.js'
import { UsbSession, type UsbSessionHandle } from '../../src/device/usb-session.js'
import type { UsbIo, UsbTransport } from '../../src/io/usb-contract.js'
import { quantis } from './descriptors.js'
import { createPool, createSourceDevice, failed, SIGN_OF_LIFE_MS, untilWanted } from './source-device.js'

export const VENDOR_ID = 0x0aba
export const PRODUCT_ID = 0x0102
export const DATA_ENDPOINT = 0x86
/** bmRequestType: vendor, interface, towards the host. */
export const REQUEST_TYPE = 0xc1
export const REQUESTS = { version: 10, disable: 11, enable: 12, status: 13, power: 14, mask: 15, rate: 16 } as const

const CONFIGURATION = 1
const INTERFACE = 0
const READ_MS = 1_000
const EMPTY_READS = 5

const optionsSchema = z.strictObject({
  'usb-serial': z.string().min(1).optional(),
  [USB_SOCKET_OPTION]: z.string().min(1).optional(),
})

/** A vendor request that answers with a whole number of 1 to 4 bytes, least significant first. */
async function ask(usb: UsbTransport, request: number, bytes: number, signal: AbortSignal): Promise<number> {
  const control = { requestType: REQUEST_TYPE, request, value: 0, index: INTERFACE }
  const answer = await usb.controlIn(control, bytes, READ_MS, signal)
  if (answer.length < bytes) {
    throw new GatewayError(
      'E_DEVICE_PROTOCOL',
      `${usb.name}: request ${request} gave ${answer.length} of ${bytes} bytes`,
    )
  }
  return answer.reduce((sum, byte, i) => sum + byte * 256 ** i, 0)
}

async function converse(
  handle: UsbSessionHandle,
  pool: TestedPool,
  context: DriverContext,
  signal: AbortSignal,
): Promise<void> {
  const { transport: usb } = handle
  const { clock } = context
  pool.restart()
  const version = await ask(usb, REQUESTS.version, 4, signal)
  const status = await ask(usb, REQUESTS.status, 1, signal)
  if (status === 0 || status > 127) throw new GatewayError('E_DEVICE_IO', `${usb.name} says that no module works`)
  const rate = await ask(usb, REQUESTS.rate, 4, signal)
  handle.identified(`Quantis USB, version ${version}, ${rate} kbit/s a module`)
  const packet = usb.packetBytes(DATA_ENDPOINT)
  let empty = 0
  while (!signal.aborted) {
    const wanted = await untilWanted(pool, packet, clock, SIGN_OF_LIFE_MS, signal)
    if (signal.aborted) return
    if (!wanted) continue
    // Exactly one packet at a time: that is what the unit's own library does.
    const bytes = await usb.read(DATA_ENDPOINT, packet, READ_MS, signal)
    empty = bytes.length === 0 ? empty + 1 : 0
    if (empty >= EMPTY_READS) throw new GatewayError('E_DEVICE_IO', `${usb.name} gives no bytes`)
    pool.push(bytes)
    if (pool.failure !== undefined) return failed(handle, pool.failure, clock, signal)
    if (bytes.length > 0) handle.alive()
  }
}

/** The driver on another USB than this machine's. */
export function createQuantisDriver(usbIoFor: (context: DriverContext) => UsbIo): Driver {
  return {
    descriptor: quantis,
    create(context) {
      const { clock, random, log } = context
      const options = parseOptions('driver quantis', optionsSchema, context.options)
      const serialNumber = options['usb-serial']
      const pool = createPool({ name: quantis.name, claimsQuantum: true, clock, log })
      const session = new UsbSession({
        usb: usbIoFor(context),
        selector: {
          vendorId: VENDOR_ID,
          productId: PRODUCT_ID,
          ...(serialNumber === undefined ? {} : { serialNumber }),
        },
        open: { configuration: CONFIGURATION, interfaceNumber: INTERFACE },
        clock,
        random,
        log,
        converse: (handle, signal) => converse(handle, pool, context, signal),
      })
      return createSourceDevice(pool, session, log)
    },
  }
}

export const driver: Driver = createQuantisDriver(usbOf)
