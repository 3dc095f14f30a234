import type { DriverDescriptor } from '../../src/device/contract.js'

export const descriptor: DriverDescriptor = {
  name: 'clavis2',
  title: "ID Quantique Clavis2 (id3100), through the maker's own host program",
  yields: 'pair',
  kind: 'clavis',
  bytesPerKey: 32,
  keyBytesOption: 'key-bytes',
  exercisedOnHardware: false,
  usb: [
    {
      vendorId: '1ddc',
      productId: '0203',
      score: 95,
      reason: "ID Quantique's vendor id with the product id of Clavis2 Alice",
    },
    {
      vendorId: '1ddc',
      productId: '0204',
      score: 95,
      reason: "ID Quantique's vendor id with the product id of Clavis2 Bob",
    },
  ],
  schemes: ['clavis2'],
}
