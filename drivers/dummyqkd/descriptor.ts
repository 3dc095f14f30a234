import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'dummyqkd',
  title: 'Dummy pair: simulated photons, sifting and key cutting',
  yields: 'pair',
  kind: 'dummyqkd',
  bytesPerKey: 16,
  keyBytesOption: 'key-bytes',
  notSecretBecause: 'the photons of a dummy pair are ordinary messages that anyone on the way can read',
  exercisedOnHardware: 'no hardware of its kind',
  usb: [],
  schemes: ['dummy'],
}
