import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodeCqpList, encodeQutag } from '../../../src/device/event-formats/channel-lists.js'
import { detectFormat } from '../../../src/device/event-formats/detect.js'
import { encodeT3, encodeT4, encodeT7 } from '../../../src/device/event-formats/epoch-lists.js'
import { concat, encodeT1, encodeT2 } from '../../../src/device/event-formats/epoch-tags.js'
import { eventValue, valueBytes, valueOfTdc1Word, valueText } from '../../../src/device/event-formats/event-values.js'
import { labviewLine } from '../../../src/device/event-formats/labview-text.js'
import { noxDetection } from '../../../src/device/event-formats/nox.js'
import { GatewayError } from '../../../src/base/errors.js'
import { bytesOfClicks, randomClicks, seeded, wordsOfClicks } from './tdc1-streams.js'

const text = (content: string): Uint8Array => new TextEncoder().encode(content)

/** Values of random clicks that begin at an absolute time, in 1/256 ns, with the card's low bits. */
function values(count: number, perSecond: number, seed: number): bigint[] {
  const start = BigInt(Math.floor(seeded(seed ^ 99)() * 2 ** 45)) * 256n
  return randomClicks(count, perSecond, seeded(seed)).map(
    ({ tick, pattern }) => eventValue(start + BigInt(tick) * 512n + BigInt(tick % 509), pattern) | 0x300n,
  )
}

describe('a format is told by content', () => {
  it('for 64-bit values in both word orders and as text, at rates from 10 to 10 million a second', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 20, max: 300 }),
        (seed, exponent, count) => {
          const made = values(count, 10 ** exponent, seed)
          expect(detectFormat(valueBytes(made, 'lowFirst'), true, 'x').format).toBe('a1')
          expect(detectFormat(valueBytes(made, 'highFirst'), true, 'x').format).toBe('a1X')
          expect(detectFormat(text(valueText(made, 'a2')), true, 'x').format).toBe('a2')
          expect(detectFormat(text(valueText(made, 'a0')), true, 'x')).toMatchObject({
            format: 'a0',
            settings: { source: 'card' },
          })
        },
      ),
      { numRuns: 150 },
    )
  })

  it('for raw TDC1 words, binary and as text', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.integer({ min: 0, max: 7 }),
        fc.integer({ min: 40, max: 300 }),
        (seed, exponent, count) => {
          const clicks = randomClicks(count, 10 ** exponent, seeded(seed))
          expect(detectFormat(bytesOfClicks(clicks), true, 'x').format).toBe('tdc1')
          const lines = wordsOfClicks(clicks).map((word) => `${word.toString(16).padStart(8, '0')}\n`)
          expect(detectFormat(text(lines.join('')), true, 'x')).toMatchObject({
            format: 'a0',
            settings: { source: 'tdc1' },
          })
        },
      ),
      { numRuns: 150 },
    )
  })

  it("for files of the TDC1's own reader, which lost wraps of a slow source, in both word orders", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 40 }), (seed, perSecond) => {
        // That reader counts a wrap only where the top bit falls from one record to the next.
        let noticed = 0
        let topBit = 0
        const made = wordsOfClicks(randomClicks(300, perSecond, seeded(seed))).map((word) => {
          if (word >>> 31 < topBit) noticed += 1
          topBit = word >>> 31
          return valueOfTdc1Word(word, noticed)
        })
        expect(detectFormat(valueBytes(made, 'lowFirst'), true, 'x').format).toBe('a1')
        expect(detectFormat(valueBytes(made, 'highFirst'), true, 'x').format).toBe('a1X')
      }),
      { numRuns: 100 },
    )
  })

  it('for every format with marks of its own', () => {
    const detections = Array.from({ length: 30 }, (_, i) => ({
      timePs: 10n ** 12n + 12_345n * BigInt(i),
      channel: i % 4,
    }))
    const options = { epoch: 5, extended: true, order: 17, baseBits: 1 }
    const found = {
      nox: detectFormat(concat(detections.map((_, i) => noxDetection(1_000_000 + 777 * i, i % 4))), true, 'x').format,
      qutag: detectFormat(encodeQutag(detections), true, 'x').format,
      cqp: detectFormat(encodeCqpList(detections.map(({ timePs, channel }) => ({ timePs, qubit: channel }))), true, 'x')
        .format,
      labview: detectFormat(text(labviewLine(500, 1) + labviewLine(400, 1)), true, 'x').format,
      t1: detectFormat(encodeT1(5, false, [eventValue(77n, 1)]), true, 'x').format,
      t2: detectFormat(encodeT2({ ...options, protocol: 1 }, [{ time: 77, base: 1 }]), true, 'x').format,
      t3: detectFormat(encodeT3(5, true, 1, [1, 0, 1]), true, 'x').format,
      t4: detectFormat(encodeT4(options, [{ index: 3, base: 0 }]), true, 'x').format,
      t7: detectFormat(encodeT7(5, false, 1, [1, 0, 1]), true, 'x').format,
    }
    for (const [expected, format] of Object.entries(found)) expect(format).toBe(expected)
  })
})

describe('what cannot be told is refused with a reason and the option that settles it', () => {
  const refusal = (bytes: Uint8Array): GatewayError => {
    try {
      detectFormat(bytes, true, 'file.ts')
    } catch (error) {
      if (error instanceof GatewayError) return error
    }
    throw new Error('not refused')
  }

  it('but not where only its last line is cut off', () => {
    const lines = valueText(values(30, 1000, 3), 'a2')
    expect(detectFormat(text(lines.slice(0, -9)), true, 'x').format).toBe('a2')
  })

  it('where one record could be anything', () => {
    const error = refusal(valueBytes([0x1234_5678_9abc_0301n], 'lowFirst'))
    expect(error.code).toBe('E_FORMAT')
    expect(error.message).toMatch(/^file.ts: its format cannot be told/)
    expect(error.remedy).toMatch(/--format/)
  })

  it('where an a0 file reads as either unit’s', () => {
    const error = refusal(text('00000102\n00000204\n00000308\n00000401\n'))
    expect(error.message).toMatch(/pairs of the 4 ps card and as raw words of a TDC1/)
    expect(error.remedy).toMatch(/--source card.*--source tdc1/)
  })

  it('where an a0 file is too short to hold two pairs', () => {
    for (const lines of ['00000102\n', '00085201\n00299082\n', '00085201\n00299082\n004d8a44\n']) {
      const error = refusal(text(lines))
      expect(error.message).toMatch(/too few 8-digit lines/)
      expect(error.remedy).toMatch(/--source card.*--source tdc1/)
    }
  })

  it('where the content is nothing that we know, or nothing at all', () => {
    expect(refusal(text('hello world\n')).message).toMatch(/"hello world"/)
    expect(refusal(Uint8Array.from({ length: 4000 }, (_, i) => (i * i * 7919 + (i >> 3) * 31) & 255)).remedy).toMatch(
      /--format/,
    )
    expect(refusal(new Uint8Array()).message).toMatch(/file.ts is empty/)
  })

  it('where another program has packed or spoilt the file', () => {
    const packed = Buffer.from('1f8b0800000000000003', 'hex')
    const zipped = refusal(Buffer.concat([packed, Buffer.from('qkd-gw '.repeat(40)), packed]))
    expect(zipped.message).toMatch(/looks like a file compressed by gzip/)
    expect(zipped.remedy).toMatch(/gunzip -c/)
    expect(refusal(new Uint8Array(4096)).message).toMatch(/all its bytes are 00/)
    const lines = valueText(values(30, 1000, 3), 'a2')
    expect(refusal(text(`${lines}overrun\n${lines}`)).message).toMatch(/begins as a2.*line 31 is "overrun"/)
  })

  it('where an epoch file has a header that does not hold', () => {
    const t1 = encodeT1(5, false, [eventValue(77n, 1)])
    t1[16] = 1
    expect(refusal(t1).message).toMatch(/begins like an epoch file, but: .*1 detector bits/)
    expect(refusal(t1.subarray(0, 12)).message).toMatch(/a T1 header has 20 bytes/)
  })

  it('where a list of bits is cut off, which only its name settles', () => {
    const t3 = encodeT3(5, false, 1, new Array<number>(1000).fill(1))
    const t7 = Uint8Array.from(Buffer.from('07000000f201000003000000ffffffffefbeadde', 'hex'))
    for (const [bytes, format] of [
      [t3.subarray(0, 100), 't3'],
      [t7, 't7'],
    ] as const) {
      const error = refusal(bytes)
      expect(error.message).toMatch(/begins like an epoch file.* header announces/)
      expect(error.remedy).toMatch(new RegExp(`${format} if it is cut off`))
    }
  })

  it('but not where 64-bit values from time zero begin like one', () => {
    const made = randomClicks(200, 1e5, seeded(4)).map(({ tick, pattern }) => {
      return eventValue(2n ** 22n + BigInt(tick) * 512n, pattern)
    })
    expect(detectFormat(valueBytes(made, 'highFirst'), true, 'x').format).toBe('a1X')
  })

  it('for any bytes at all, without another kind of failure', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        try {
          expect(detectFormat(bytes, true, 'x').because).not.toBe('')
        } catch (error) {
          expect(error).toBeInstanceOf(GatewayError)
          expect(error).toMatchObject({ code: 'E_FORMAT' })
        }
      }),
      { numRuns: 500 },
    )
  })
})
