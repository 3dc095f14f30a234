import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BitsReader, encodeT3, encodeT4, encodeT7, T4Reader } from '../../../src/device/event-formats/epoch-lists.js'
import { encodeT1, encodeT2, T1Reader, T2Reader } from '../../../src/device/event-formats/epoch-tags.js'
import { eventValue } from '../../../src/device/event-formats/event-values.js'
import { collect, collectEntries } from './collect.js'

const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'))
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 })

// What the public programs make of four clicks in epoch 1f2: 330517 V, 330522 −, 400000 H, 400001 +.
const T1 =
  '01000000f20100000400000031000000040000000200f90001808a850200f90002008d850300f9000400400d0300f9000880400d0000000000000000'
const T2 = '02000000f2010000040000001100000001000000010000000200000000808a8500307bb880000007'
const T3 = '03000000f2010000040000000100000000000030'

describe('epoch files', () => {
  it('made by the public programs decode to their clicks', () => {
    const t1 = collect(new T1Reader(), bytesOf(T1))
    expect(t1.times.map((time) => time & 0xffff_ffffn)).toEqual([330_517n, 330_522n, 400_000n, 400_001n])
    expect(t1.times.map((time) => time >> 32n)).toEqual([0x1f2n, 0x1f2n, 0x1f2n, 0x1f2n])
    expect(t1.patterns).toEqual([1, 2, 4, 8])
    const t2 = collect(new T2Reader(), bytesOf(T2))
    // A difference of 1 is stored as 3.
    expect(t2.times).toEqual([330_517n, 330_522n, 400_000n, 400_003n])
    expect(t2.patterns).toEqual([0, 1, 0, 1])
    expect(collectEntries(new BitsReader(3), bytesOf(T3))).toEqual([0, 0, 1, 1])
  })

  it('of ours are byte for byte those of the public programs', () => {
    const epochStart = 0x1f2n << 32n
    const clicks = [330_517, 330_522, 400_000, 400_001]
    expect(
      hexOf(
        encodeT1(
          0x1f2,
          false,
          clicks.map((time, i) => eventValue((epochStart + BigInt(time)) << 5n, 1 << i)),
        ),
      ),
    ).toBe(T1)
    const options = { epoch: 0x1f2, extended: false, order: 17, baseBits: 1, protocol: 1 }
    expect(
      hexOf(
        encodeT2(
          options,
          clicks.map((time, i) => ({ time, base: i & 1 })),
        ),
      ),
    ).toBe(T2)
    expect(hexOf(encodeT3(0x1f2, false, 1, [0, 0, 1, 1]))).toBe(T3)
  })

  it('T2 goes round for differences of 2 and more, in any chunks', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ step: fc.integer({ min: 2, max: 2 ** 31 }), base: fc.integer({ min: 0, max: 15 }) }), {
          maxLength: 50,
        }),
        fc.integer({ min: 2, max: 32 }),
        sizes,
        (steps, order, chunks) => {
          let time = 0
          const entries = steps.map(({ step, base }) => ({ time: (time += step), base }))
          const bytes = encodeT2({ epoch: 7, extended: true, order, baseBits: 4, protocol: 0 }, entries)
          const reader = new T2Reader()
          const { times, patterns } = collect(reader, bytes, chunks)
          expect(times).toEqual(entries.map((entry) => BigInt(entry.time)))
          expect(patterns).toEqual(entries.map((entry) => entry.base))
          expect(reader.tally.notes).toEqual([])
          expect(reader.tally.strayBytes).toBe(0)
        },
      ),
    )
  })

  it('T1 goes round in any chunks', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 2 ** 30 }), { maxLength: 50 }), sizes, (steps, chunks) => {
        let time = 3n << 32n
        const times = steps.map((step) => (time += BigInt(step)))
        const bytes = encodeT1(
          3,
          false,
          times.map((t, i) => eventValue(t << 5n, 1 + (i % 15))),
        )
        const reader = new T1Reader()
        expect(collect(reader, bytes, chunks).times).toEqual(times)
        expect(reader.tally.notes).toEqual([])
      }),
    )
  })

  it('T3, T4 and T7 go round in any chunks', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 16 }),
        fc.array(fc.integer({ min: 0, max: 2 ** 16 - 1 }), { maxLength: 80 }),
        sizes,
        (width, numbers, chunks) => {
          const entries = numbers.map((number) => number % 2 ** width)
          expect(collectEntries(new BitsReader(3), encodeT3(1, true, width, entries), chunks)).toEqual(entries)
          const bits = numbers.map((number) => number & 1)
          expect(collectEntries(new BitsReader(7), encodeT7(1, false, 2, bits), chunks)).toEqual(bits)
          let index = 0
          const kept = numbers.map((number) => ({ index: (index += number), base: number & 15 }))
          const t4 = encodeT4({ epoch: 1, extended: true, order: 8, baseBits: 4 }, kept)
          expect(collectEntries(new T4Reader(), t4, chunks)).toEqual(kept.map((entry) => entry.index))
        },
      ),
    )
  })

  it('that are cut off say so', () => {
    const cut = (reader: T1Reader | T2Reader, hex: string, bytes: number): string[] => {
      collect(reader, bytesOf(hex).subarray(0, bytes))
      return reader.tally.notes
    }
    expect(cut(new T1Reader(), T1, 44).join()).toMatch(/end mark is missing.*announces 4 entries, the file holds 3/)
    expect(cut(new T2Reader(), T2, 32).join()).toMatch(/end mark is missing/)
    expect(cut(new T2Reader(), T2, 10).join()).toMatch(/inside its header, after 10 bytes/)
    const t3 = new BitsReader(3)
    collectEntries(t3, bytesOf(T3).subarray(0, 16))
    expect(t3.tally.notes.join()).toMatch(/announces 4 entries, the file holds 0/)
  })

  it('of another kind are refused by name', () => {
    expect(() => collect(new T1Reader(), bytesOf(T2))).toThrow(/no T1 epoch file: it is a T2 file/)
    expect(() => collect(new T2Reader(), bytesOf('09000000'.repeat(6)))).toThrow(/its first word is 9/)
  })
})
