import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  basesOf,
  compareBases,
  createKeyCutter,
  measureInRandomBases,
  packSifted,
  qubitsFromRandom,
} from '../../../drivers/dummyqkd/protocol.js'

describe('the Dummy codec', () => {
  it('makes four qubits of each random byte, from the low bits on', () => {
    expect([...qubitsFromRandom(Uint8Array.of(0b11_10_01_00, 0b00_00_00_11), 5)]).toEqual([0, 1, 2, 3, 3])
  })

  it('takes a value AND 6 as its basis', () => {
    expect([...basesOf(Uint8Array.of(0, 1, 2, 3, 4, 5, 6))]).toEqual([0, 0, 2, 2, 4, 4, 6])
  })

  it('answers 1 where the bases are equal, and nothing beyond what was asked', () => {
    expect([...compareBases(Uint8Array.of(0, 1, 2, 3), Uint8Array.of(0, 2, 2))]).toEqual([1, 0, 1])
  })

  it('packs kept bits from the least significant on and lets a begun byte count', () => {
    const qubits = Uint8Array.of(1, 0, 3, 2, 1, 1, 0, 0, 3)
    expect([...packSifted([{ qubits, answers: new Uint8Array(9).fill(1) }])]).toEqual([0b00110101, 1])
    expect([...packSifted([{ qubits, answers: Uint8Array.of(0, 1, 1) }])]).toEqual([0b10])
    expect(packSifted([])).toHaveLength(0)
  })

  it('packs all frames of one question as one bit string', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.array(fc.record({ qubit: fc.integer({ min: 0, max: 3 }), kept: fc.boolean() }), { maxLength: 40 }),
          { maxLength: 5 },
        ),
        (frames) => {
          const packed = packSifted(
            frames.map((entries) => ({
              qubits: Uint8Array.from(entries, ({ qubit }) => qubit),
              answers: Uint8Array.from(entries, ({ kept }) => (kept ? 1 : 0)),
            })),
          )
          const bits = frames.flat().flatMap(({ qubit, kept }) => (kept ? [qubit & 1] : []))
          expect(packed).toHaveLength(Math.ceil(bits.length / 8))
          bits.forEach((bit, i) => expect(((packed[i >> 3] ?? 0) >> (i & 7)) & 1).toBe(bit))
        },
      ),
    )
  })

  it('cuts the same keys however the bytes come, at 16 and at 32 bytes', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(16, 32),
        fc.array(fc.uint8Array({ maxLength: 70 }), { maxLength: 12 }),
        (keyBytes, blocks) => {
          const cutter = createKeyCutter(keyBytes)
          const cut = blocks.flatMap((block) => cutter.cut(Uint8Array.from(block)))
          const whole = Buffer.concat(blocks)
          expect(cut).toHaveLength(Math.floor(whole.length / keyBytes))
          expect(Buffer.concat(cut).equals(whole.subarray(0, cut.length * keyBytes))).toBe(true)
          expect(cutter.remainder).toBe(whole.length % keyBytes)
        },
      ),
    )
  })

  it('cuts frames of 100,000 kept qubits into 781, 781, 781 and 782 keys, as upstream was seen to', () => {
    const cutter = createKeyCutter(16)
    const counts = Array.from({ length: 5 }, () => cutter.cut(new Uint8Array(12_500)).length)
    expect(counts).toEqual([781, 781, 781, 782, 781])
  })

  it('measures the value itself in the right basis and keeps to its own basis otherwise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.uint8Array({ minLength: 16, maxLength: 16 }), (raw, random) => {
        const qubits = raw.map((value) => value % 7)
        const measured = measureInRandomBases(qubits, random)
        const own = qubitsFromRandom(random, qubits.length)
        qubits.forEach((qubit, i) => {
          const seen = measured[i] ?? 0
          if (qubit === 6) expect(seen).toBe(6)
          else if ((qubit & 6) === ((own[i] ?? 0) & 6)) expect(seen).toBe(qubit)
          else expect(seen).toBe(own[i])
        })
      }),
    )
  })
})
