import type { DriverDescriptor } from '../../src/device/contract.js'
import { KEY_BYTES } from './protocol.js'

export const descriptor: DriverDescriptor = {
  name: 'qix',
  title: 'QIX serial key stream (Qubitekk)',
  yields: 'keys',
  kind: 'qix',
  bytesPerKey: KEY_BYTES,
  exercisedOnHardware: false,
  // Its USB ids are not public, and it never answers: it has to be named.
  usb: [],
}
