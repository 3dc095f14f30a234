import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'ekpqc',
  title: 'S-Fifteen EKPQC teaching kit: BB84 with a laser pointer (demonstrator, not secure)',
  yields: 'pair',
  kind: 'ekpqc',
  bytesPerKey: 16,
  keyBytesOption: 'key-bytes',
  notSecretBecause:
    'the teaching kit sends bright light, of which anyone can take a part unnoticed: demonstrator, not secure',
  exercisedOnHardware: false,
  // An Arduino with the board maker's own USB strings: nothing tells it from any other Arduino without opening it.
  usb: [],
}
