import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'counter-abacus',
  title: 'Tausand Abacus coincidence counter (visibility and alignment, never key)',
  yields: 'auxiliary',
  kind: 'counter',
  bytesPerKey: 0,
  exercisedOnHardware: false,
  usb: [
    { manufacturer: /Tausand/, score: 80, reason: 'the maker is Tausand' },
    { product: /Tausand|Abacus/, score: 60, reason: 'the name is that of a Tausand Abacus' },
  ],
}
