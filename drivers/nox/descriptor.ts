import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'nox',
  title: 'University of Bristol NOX time tagger (RWN 11)',
  yields: 'tags',
  kind: 'Mk1Tagger',
  bytesPerKey: 32,
  exercisedOnHardware: false,
  usb: [
    {
      vendorId: '221a',
      productId: '0100',
      // The LED emitter of the same makers has the same ids.
      score: 50,
      reason:
        "ids of Bristol's time tagger, which its LED emitter has as well: only the serial number tells them apart",
    },
  ],
}
