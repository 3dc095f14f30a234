import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ByteOrder,
  crc32,
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  RESPONSE_ERRORS,
} from '../../../drivers/clavis2/protocol.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const order = fc.constantFrom<ByteOrder>('little', 'big')
const request = fc.record({
  keyId: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  keyLength: fc.integer({ min: 0, max: 32 }),
  requestId: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  deviceId: fc.integer({ min: 0, max: 255 }),
})
const response = fc
  .tuple(request, fc.constantFrom(...RESPONSE_ERRORS), fc.uint8Array({ minLength: 32, maxLength: 32 }))
  .map(([head, error, key]) => ({ ...head, error, key: key.subarray(0, head.keyLength) }))

describe('the Clavis2 key datagrams', () => {
  it('match the published request', () => {
    const bytes = encodeRequest({ keyId: 0n, keyLength: 32, requestId: 1, deviceId: 1 }, 'little')
    expect(hex(bytes)).toBe('0000000000000000002001000000010000000000000000000034e11920')
  })

  it('match the published checksum of a response', () => {
    const bytes = encodeResponse(
      { keyId: 0n, keyLength: 32, requestId: 2, deviceId: 1, error: 'invalidKeyRequest', key: new Uint8Array(32) },
      'little',
    )
    expect(bytes).toHaveLength(62)
    expect(hex(bytes.subarray(58))).toBe('0f29d223')
  })

  it('use CRC-32/BZIP2', () => {
    expect(crc32(new TextEncoder().encode('123456789')).toString(16)).toBe('fc891918')
  })

  it('put the high half of a key id first, each half in the chosen order', () => {
    const message = { keyId: 0x0102030405060708n, keyLength: 1, requestId: 0x0a0b0c0d, deviceId: 3 }
    expect(hex(encodeRequest(message, 'little')).slice(0, 30)).toBe('000403020108070605010d0c0b0a03')
    expect(hex(encodeRequest(message, 'big')).slice(0, 30)).toBe('000102030405060708010a0b0c0d03')
  })

  it('come back as they were sent', () => {
    fc.assert(
      fc.property(request, response, order, (asked, answered, byteOrder) => {
        expect(decodeRequest(encodeRequest(asked, byteOrder), byteOrder)).toEqual({ ok: true, value: asked })
        const back = decodeResponse(encodeResponse(answered, byteOrder), byteOrder)
        expect(back.ok && { ...back.value, key: hex(back.value.key) }).toEqual({ ...answered, key: hex(answered.key) })
      }),
    )
  })

  it('are refused whichever bit was changed', () => {
    fc.assert(
      fc.property(response, order, fc.nat(62 * 8 - 1), (message, byteOrder, bit) => {
        const bytes = encodeResponse(message, byteOrder)
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        expect(decodeResponse(bytes, byteOrder)).toEqual({ ok: false, fault: 'crc' })
      }),
    )
  })

  it('give the key as a copy: wiping the datagram leaves it whole', () => {
    const key = new Uint8Array(32).fill(7)
    const message = { keyId: 1n, keyLength: 32, requestId: 1, deviceId: 1, error: 'success', key } as const
    const datagram = Buffer.from(encodeResponse(message, 'little'))
    const decoded = decodeResponse(datagram, 'little')
    datagram.fill(0)
    expect(decoded.ok && hex(decoded.value.key)).toBe(hex(key))
  })

  it('say what is wrong with a whole datagram of another kind', () => {
    const asked = encodeRequest({ keyId: 1n, keyLength: 32, requestId: 1, deviceId: 1 }, 'little')
    expect(decodeResponse(asked, 'little')).toEqual({ ok: false, fault: 'length' })
    const answered = encodeResponse(
      { keyId: 1n, keyLength: 33, requestId: 1, deviceId: 1, error: 'success', key: new Uint8Array(32) },
      'little',
    )
    expect(decodeResponse(answered, 'little')).toEqual({ ok: false, fault: 'keyLength' })
  })

  it('never throw, whatever arrives', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), order, (bytes, byteOrder) => {
        expect(decodeRequest(bytes, byteOrder).ok).toBe(false)
        expect(decodeResponse(bytes, byteOrder).ok).toBe(false)
      }),
      { numRuns: 2_000 },
    )
  })
})
