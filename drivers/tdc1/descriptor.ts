import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'tdc1',
  title: 'S-Fifteen TDC1 time tagger',
  yields: 'tags',
  kind: 'tdc1',
  bytesPerKey: 32,
  exercisedOnHardware: false,
  usb: [
    {
      manufacturer: /^S-Fifteen[ _]Instruments$/,
      product: /^USB[ _]Counter$/,
      serialNumber: /^TDC1-\d+$/,
      score: 95,
      reason: 'USB strings of a TDC1: S-Fifteen Instruments, USB Counter, TDC1-…',
    },
    {
      manufacturer: /^S-Fifteen[ _]Instruments$/,
      product: /^USB[ _]Counter$/,
      score: 70,
      reason: 'USB strings of an S-Fifteen counter, without a TDC1 serial number',
    },
  ],
}
