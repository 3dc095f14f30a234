import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { timeBasedSource } from '../../../drivers/qix/frame-source.js'
import { crc32Qix, encodeFrame, FRAME_BYTES, QixDecoder, type QixItem } from '../../../drivers/qix/protocol.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'))
const ascending = Uint8Array.from({ length: 32 }, (_, index) => index)
const vector = '5aa50000000000000001000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f010fae445e'

const anyFrame = fc
  .record({
    id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    key: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    status: fc.integer({ min: 0, max: 255 }),
  })
  .map(({ id, key, status }) => ({ id, key: Uint8Array.from(key), status }))

/** Pieces of a stream cut at any places. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return at.slice(1).map((end, index) => bytes.slice(at[index], end))
}

function decode(pieces: readonly Uint8Array[]): QixItem[] {
  const decoder = new QixDecoder()
  return pieces.flatMap((piece) => decoder.push(piece))
}

const framesOf = (items: readonly QixItem[]) => items.flatMap((item) => (item.type === 'frame' ? [item.frame] : []))

describe('QIX vectors', () => {
  it('has the published CRC, which is not CRC-32C', () => {
    expect(crc32Qix(new TextEncoder().encode('abcdefghijklmnopqrstuvwxyz012345'))).toBe(0x242d5ebd)
  })

  it('encodes and decodes the known frames', () => {
    expect(hex(encodeFrame({ id: 1n, key: ascending, status: 1 }))).toBe(vector)
    expect(decode([bytesOf(vector)])).toEqual([{ type: 'frame', frame: { id: 1n, key: ascending, status: 1 } }])
    expect(hex(encodeFrame({ id: 2n, key: ascending, status: 0xff })).slice(-8)).toBe('977d327f')
  })

  it('makes the known time-based frame', () => {
    const { id, key } = timeBasedSource(100).at(17_000_000_000)
    expect(id).toBe(1_700_000_000_000n)
    expect(hex(encodeFrame({ id, key, status: 1 }))).toBe(
      '5aa50000018bcfe56800121bd109d766c8df8316f3924cbb3023e02ae3d4e0fdd3174dd7736eba53ac0f01308792d6',
    )
  })
})

describe('the QIX decoder', () => {
  it('gives back every frame, whatever its contents', () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 5 }), (frames) => {
        expect(framesOf(decode(frames.map(encodeFrame)))).toEqual(frames)
      }),
    )
  })

  it('gives the same items however the bytes are cut', () => {
    const piece = fc.oneof(anyFrame.map(encodeFrame), fc.uint8Array({ maxLength: 60 }), fc.constant(bytesOf('5aa55a')))
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 6 }), fc.array(fc.nat(), { maxLength: 20 }), (pieces, places) => {
        const stream = Uint8Array.from(pieces.flatMap((bytes) => [...bytes]))
        const whole = decode([stream])
        expect(decode(cut(stream, places))).toEqual(whole)
        expect(decode([...stream].map((byte) => Uint8Array.of(byte)))).toEqual(whole)
      }),
    )
  })

  it('finds every frame again after any garbage', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.uint8Array({ maxLength: 100 }), anyFrame), { maxLength: 4 }), (parts) => {
        const stream = parts.flatMap(([garbage, frame]) => [...garbage, ...encodeFrame(frame)])
        const found = framesOf(decode([Uint8Array.from(stream)]))
        expect(found).toEqual(parts.map(([, frame]) => frame))
      }),
    )
  })

  it('searches again from the third byte after a bad CRC, so that a frame inside the false one is not lost', () => {
    const good = { id: 7n, key: ascending, status: 1 }
    const stream = Uint8Array.of(0x5a, 0xa5, 1, 2, 3, ...encodeFrame(good), 0)
    expect(decode([stream])).toEqual([
      { type: 'badCrc' },
      { type: 'skipped', bytes: 5 },
      { type: 'frame', frame: good },
    ])
  })

  it('takes no damaged frame for a good one', () => {
    fc.assert(
      fc.property(anyFrame, fc.nat(FRAME_BYTES - 1), fc.integer({ min: 1, max: 255 }), (frame, place, change) => {
        const bytes = encodeFrame(frame)
        bytes[place] = (bytes[place] ?? 0) ^ change
        expect(framesOf(decode([bytes]))).toEqual([])
      }),
    )
  })

  it('holds less than a frame between chunks, and forgets it when told to', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 })), (pieces) => {
        const decoder = new QixDecoder()
        for (const piece of pieces) {
          decoder.push(piece)
          expect(decoder.pendingBytes).toBeLessThan(FRAME_BYTES)
        }
      }),
    )
    const decoder = new QixDecoder()
    decoder.push(bytesOf(vector).subarray(0, 30))
    decoder.reset()
    expect(decoder.push(bytesOf(vector).subarray(30))).toEqual([])
    expect(framesOf(decoder.push(bytesOf(vector)))).toHaveLength(1)
  })
})
