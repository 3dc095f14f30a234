import type { DriverDescriptor } from '../../src/device/contract.js'

const auxiliary = { yields: 'auxiliary', bytesPerKey: 0, exercisedOnHardware: false } as const

export const qcicada: DriverDescriptor = {
  ...auxiliary,
  name: 'qcicada',
  title: 'Crypta Labs QCicada random source',
  kind: 'random',
  // A bare FTDI converter: nothing tells it from any other without asking it.
  usb: [],
}

export const quantis: DriverDescriptor = {
  ...auxiliary,
  name: 'quantis',
  title: 'ID Quantique Quantis USB random source',
  kind: 'random',
  usb: [{ vendorId: '0aba', productId: '0102', score: 95, reason: "ids of ID Quantique's Quantis USB" }],
}

export const swiftrng: DriverDescriptor = {
  ...auxiliary,
  name: 'swiftrng',
  title: 'TectroLabs SwiftRNG random source',
  kind: 'random',
  usb: [
    { vendorId: '1fc9', productId: '8111', score: 90, reason: "ids of TectroLabs' SwiftRNG (serial)" },
    {
      vendorId: '1fc9',
      productId: '8110',
      score: 20,
      reason: 'an older SwiftRNG without a serial port: not supported',
    },
  ],
}

export const truerng: DriverDescriptor = {
  ...auxiliary,
  name: 'truerng',
  title: 'TrueRNG random source',
  kind: 'random',
  usb: [
    { vendorId: '04d8', productId: 'f5fe', product: /^TrueRNG/, score: 95, reason: 'ids and name of a TrueRNG' },
    { vendorId: '16d0', productId: '0aa0', product: /^TrueRNG/, score: 95, reason: 'ids and name of a TrueRNGpro' },
    { vendorId: '04d8', productId: 'ebb5', product: /^TrueRNG/, score: 95, reason: 'ids and name of a TrueRNGpro V2' },
  ],
}

export const osRandom: DriverDescriptor = {
  ...auxiliary,
  name: 'os-random',
  title: "The operating system's random source",
  kind: 'random',
  exercisedOnHardware: 'no hardware of its kind',
  usb: [],
  schemes: ['os-random'],
}
