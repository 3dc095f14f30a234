import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'led-emitter',
  title: 'University of Bristol LED emitter (handheld Alice)',
  yields: 'auxiliary',
  kind: 'LEDAliceMk1',
  bytesPerKey: 0,
  exercisedOnHardware: false,
  usb: [
    {
      vendorId: '221a',
      productId: '0100',
      // The time tagger of the same makers has the same ids.
      score: 40,
      reason:
        "ids of Bristol's LED emitter, which its time tagger has as well: only the serial number tells them apart",
    },
  ],
}
