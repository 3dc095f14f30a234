import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'replay',
  title: 'Recording of detections, played back',
  yields: 'tags',
  kind: 'replay',
  bytesPerKey: 32,
  notSecretBecause: 'the detections come from a file',
  exercisedOnHardware: 'no hardware of its kind',
  usb: [],
  schemes: ['replay'],
}
