import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'counter-cc1',
  title: 'Qubitekk CC1 coincidence counter (visibility and alignment, never key)',
  yields: 'auxiliary',
  kind: 'counter',
  bytesPerKey: 0,
  exercisedOnHardware: false,
  // A bare FTDI converter: nothing tells it from any other without asking it.
  usb: [],
}
