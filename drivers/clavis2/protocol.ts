/**
 * The key datagrams of Clavis2's host program, UDP port 5323 on the host where it runs. Packed; 32-bit numbers in the
 * byte order of the program's machine (little-endian as far as is known); the CRC always most significant byte first.
 *
 *   request, 29 bytes:  type 0 | id high u32 | id low u32 | length u8 | request u32 | device u8 | 10 reserved | crc u32
 *   response, 62 bytes: type 1 | id high u32 | id low u32 | length u8 | request u32 | error u8 | key 32 | device u8 |
 *                       10 reserved | crc u32
 */

export const KEY_PORT = 5323
export const REQUEST_BYTES = 29
export const RESPONSE_BYTES = 62
/** Room for a key in a response; only `keyLength` bytes of it count. */
export const LONGEST_KEY_BYTES = 32
/** Key id that asks for a new key. */
export const NEW_KEY = 0n

const HEADER = { type: 0, idHigh: 1, idLow: 5, keyLength: 9, requestId: 10 } as const
const REQUEST = { deviceId: 14, crc: 25 } as const
const RESPONSE = { error: 14, key: 15, deviceId: 47, crc: 58 } as const

export type ByteOrder = 'little' | 'big'

export const RESPONSE_ERRORS = [
  'success',
  'noMoreKeys',
  'keyIdDoesntExist',
  'wrongKeyLength',
  'invalidKeyRequest',
] as const
export type ResponseError = (typeof RESPONSE_ERRORS)[number]

export interface KeyRequest {
  /** 0n asks for a new key. */
  keyId: bigint
  /** Bytes, 1 to 32. */
  keyLength: number
  /** Any 32-bit number; the response carries the same. */
  requestId: number
  /** 1 to 12. */
  deviceId: number
}

export interface KeyResponse extends KeyRequest {
  error: ResponseError
  /** `keyLength` bytes, a copy. */
  key: Uint8Array
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24
  for (let bit = 0; bit < 8; bit += 1) crc = (crc << 1) ^ (crc < 0 ? 0x04c11db7 : 0)
  return crc >>> 0
})

/** CRC-32/BZIP2: polynomial 04C11DB7, not reflected, initial value and final xor FFFFFFFF. */
export function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) crc = ((crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ byte] ?? 0)) >>> 0
  return (crc ^ 0xffffffff) >>> 0
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function writeHeader(view: DataView, type: 0 | 1, message: KeyRequest, littleEndian: boolean): void {
  view.setUint8(HEADER.type, type)
  view.setUint32(HEADER.idHigh, Number(message.keyId >> 32n), littleEndian)
  view.setUint32(HEADER.idLow, Number(message.keyId & 0xffffffffn), littleEndian)
  view.setUint8(HEADER.keyLength, message.keyLength)
  view.setUint32(HEADER.requestId, message.requestId, littleEndian)
}

function readHeader(view: DataView, littleEndian: boolean): Omit<KeyRequest, 'deviceId'> {
  return {
    keyId:
      (BigInt(view.getUint32(HEADER.idHigh, littleEndian)) << 32n) | BigInt(view.getUint32(HEADER.idLow, littleEndian)),
    keyLength: view.getUint8(HEADER.keyLength),
    requestId: view.getUint32(HEADER.requestId, littleEndian),
  }
}

export function encodeRequest(request: KeyRequest, order: ByteOrder): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES)
  const view = viewOf(bytes)
  writeHeader(view, 0, request, order === 'little')
  view.setUint8(REQUEST.deviceId, request.deviceId)
  view.setUint32(REQUEST.crc, crc32(bytes.subarray(0, REQUEST.crc)))
  return bytes
}

/** `key` may be shorter than its room, which is filled with zeros. */
export function encodeResponse(response: KeyResponse, order: ByteOrder): Uint8Array {
  const bytes = new Uint8Array(RESPONSE_BYTES)
  const view = viewOf(bytes)
  writeHeader(view, 1, response, order === 'little')
  view.setUint8(RESPONSE.error, RESPONSE_ERRORS.indexOf(response.error))
  bytes.set(response.key.subarray(0, LONGEST_KEY_BYTES), RESPONSE.key)
  view.setUint8(RESPONSE.deviceId, response.deviceId)
  view.setUint32(RESPONSE.crc, crc32(bytes.subarray(0, RESPONSE.crc)))
  return bytes
}

/** What is wrong with a datagram. */
export type DatagramFault = 'length' | 'crc' | 'type' | 'error' | 'keyLength' | 'deviceId'

export type Decoded<T> = { ok: true; value: T } | { ok: false; fault: DatagramFault }

const wrong = (fault: DatagramFault): { ok: false; fault: DatagramFault } => ({ ok: false, fault })

export function decodeRequest(bytes: Uint8Array, order: ByteOrder): Decoded<KeyRequest> {
  if (bytes.length !== REQUEST_BYTES) return wrong('length')
  const view = viewOf(bytes)
  if (view.getUint32(REQUEST.crc) !== crc32(bytes.subarray(0, REQUEST.crc))) return wrong('crc')
  if (view.getUint8(HEADER.type) !== 0) return wrong('type')
  return { ok: true, value: { ...readHeader(view, order === 'little'), deviceId: view.getUint8(REQUEST.deviceId) } }
}

export function decodeResponse(bytes: Uint8Array, order: ByteOrder): Decoded<KeyResponse> {
  if (bytes.length !== RESPONSE_BYTES) return wrong('length')
  const view = viewOf(bytes)
  if (view.getUint32(RESPONSE.crc) !== crc32(bytes.subarray(0, RESPONSE.crc))) return wrong('crc')
  if (view.getUint8(HEADER.type) !== 1) return wrong('type')
  const error = RESPONSE_ERRORS[view.getUint8(RESPONSE.error)]
  if (error === undefined) return wrong('error')
  const header = readHeader(view, order === 'little')
  if (header.keyLength > LONGEST_KEY_BYTES) return wrong('keyLength')
  return {
    ok: true,
    value: {
      ...header,
      deviceId: view.getUint8(RESPONSE.deviceId),
      error,
      // Not `slice`: a Buffer's slice is a view.
      key: Uint8Array.from(bytes.subarray(RESPONSE.key, RESPONSE.key + header.keyLength)),
    },
  }
}
