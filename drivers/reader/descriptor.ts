import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'reader',
  title: "Time tagger read by the user's own reader program (readevents7 and the like)",
  yields: 'tags',
  kind: 'reader',
  bytesPerKey: 32,
  exercisedOnHardware: false,
  usb: [],
  schemes: ['reader'],
}
