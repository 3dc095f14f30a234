import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toBigInt, toPsTags } from '../../../src/device/event-formats/batch.js'
import { EventValueReader } from '../../../src/device/event-formats/event-value-reader.js'
import {
  eventValue,
  FAST_WRAP_UNITS,
  hexOf,
  valueBytes,
  valueOfFastWord,
  valueOfTdc1Word,
  valueText,
} from '../../../src/device/event-formats/event-values.js'
import { openFormat } from '../../../src/device/event-formats/formats.js'
import { HexTextDecoder } from '../../../src/device/event-formats/hex-text.js'
import { spanToPs, UNIT_256TH_NS, unitsToPs } from '../../../src/device/event-formats/units.js'
import { collect } from './collect.js'
import { seeded } from './tdc1-streams.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Ascending times in 1/256 ns with patterns. */
const ascending = fc
  .array(fc.record({ step: fc.bigInt({ min: 1n, max: 2n ** 33n }), pattern: fc.integer({ min: 1, max: 15 }) }), {
    minLength: 1,
    maxLength: 60,
  })
  .chain((steps) =>
    fc.bigInt({ min: 0n, max: 2n ** 53n }).map((start) => {
      let time = start
      return steps.map(({ step, pattern }) => ({ time: (time += step), pattern }))
    }),
  )
const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 8 })

describe('64-bit event values', () => {
  it("are written as the TDC1's and the card's readers write them", () => {
    const value = valueOfTdc1Word(0x2cca2ba1, 1)
    expect(value).toBe(0x00004b328ae80001n)
    expect(hex(valueBytes([value], 'lowFirst'))).toBe('0100e88a324b0000')
    expect(hex(valueBytes([value], 'highFirst'))).toBe('324b00000100e88a')
    expect(valueOfFastWord(0x0000_00ff, 1)).toBe(0x10_0000_0f3fn)
    expect(valueOfFastWord(0xffff_ffc1, 0)).toBe(0xf_ffff_ff01n)
  })

  for (const form of ['a0', 'a1', 'a1X', 'a2'] as const) {
    it(`go round as ${form}, in any chunks`, () => {
      fc.assert(
        fc.property(ascending, sizes, (events, chunks) => {
          const values = events.map(({ time, pattern }) => eventValue(time, pattern))
          const bytes =
            form === 'a0' || form === 'a2'
              ? new TextEncoder().encode(valueText(values, form))
              : valueBytes(values, form === 'a1' ? 'lowFirst' : 'highFirst')
          const opened = openFormat(form)
          if (opened.kind !== 'tags') throw new Error('no detections')
          const { times, patterns } = collect(opened.reader, bytes, chunks)
          // The 54 bits may come round inside the list.
          expect(times.map((time) => time % 2n ** 54n)).toEqual(events.map(({ time }) => time % 2n ** 54n))
          expect(patterns).toEqual(events.map(({ pattern }) => pattern))
          const { tally } = opened.reader
          expect(hexOf(tally.last?.value ?? { hi: 0, lo: 0 })).toBe(values.at(-1)?.toString(16).padStart(16, '0'))
        }),
        { numRuns: 60 },
      )
    })
  }

  it('show the same times in ps as exact arithmetic', () => {
    fc.assert(
      fc.property(ascending, (events) => {
        const ps: bigint[] = []
        const reader = new EventValueReader({ order: 'lowFirst', lostWraps: 'none' })
        const bytes = valueBytes(
          events.map(({ time, pattern }) => eventValue(time, pattern)),
          'lowFirst',
        )
        reader.push(bytes, { tags: (batch) => ps.push(...toPsTags(batch, reader.unit).timesPs) })
        const first = events[0]?.time ?? 0n
        const wrapped = first >= 2n ** 54n ? 2n ** 54n : 0n
        expect(ps).toEqual(events.map(({ time }) => unitsToPs(time - wrapped, UNIT_256TH_NS)))
      }),
    )
    expect(spanToPs(1n, UNIT_256TH_NS)).toBe(4n)
    expect(spanToPs(-1n, UNIT_256TH_NS)).toBe(-4n)
  })

  it('that come round after 19.5 hours go on', () => {
    const values = [eventValue(2n ** 54n - 10n, 1), eventValue(2n ** 54n + 5n, 2)]
    const reader = new EventValueReader({ order: 'lowFirst' })
    expect(collect(reader, valueBytes(values, 'lowFirst')).times).toEqual([2n ** 54n - 10n, 2n ** 54n + 5n])
    expect(reader.tally.wraps).toBe(1)
  })

  it('that are all zero are void', () => {
    const reader = new EventValueReader({ order: 'lowFirst' })
    const { times } = collect(reader, valueBytes([0n, eventValue(500n, 1), 0n, eventValue(600n, 1)], 'lowFirst'))
    expect(times).toEqual([500n, 600n])
    expect(reader.tally).toMatchObject({ records: 4, events: 4, invalid: 2, outOfOrder: 0 })
  })

  it('out of order, repeated or far ahead are left out and counted', () => {
    const times = Array.from({ length: 40 }, (_, i) => 10_000n * BigInt(i + 1) + 3n)
    const at = (i: number): bigint => eventValue(times[i] ?? 0n, 1)
    const values = times.map((_, i) => at(i))
    const read = (given: readonly bigint[]) => {
      const reader = new EventValueReader({ order: 'highFirst' })
      return { times: collect(reader, valueBytes(given, 'highFirst'), [24]).times, tally: reader.tally }
    }
    const swapped = read(values.with(10, at(11)).with(11, at(10)))
    expect(swapped.times).toEqual(times.toSpliced(10, 1))
    expect(swapped.tally).toMatchObject({ outOfOrder: 1, wraps: 0 })
    const repeated = read(values.toSpliced(10, 0, at(9)))
    expect(repeated.times).toEqual(times)
    expect(repeated.tally).toMatchObject({ outOfOrder: 1, repeated: 1 })
    const ahead = read(values.with(10, eventValue(2n ** 50n, 1)))
    expect(ahead.tally).toMatchObject({ outOfOrder: 0, invalid: 1, restarts: 0 })
  })

  it('whose first record is wrong or swapped leave the sum-up its true first event', () => {
    const times = Array.from({ length: 40 }, (_, i) => 10_000n * BigInt(i + 1) + 3n)
    const values = times.map((time) => eventValue(time, 1))
    const tallyOf = (given: readonly bigint[]) => {
      const reader = new EventValueReader({ order: 'highFirst' })
      collect(reader, valueBytes(given, 'highFirst'))
      return reader.tally
    }
    const stale = tallyOf(values.with(0, eventValue(2n ** 50n, 1)))
    expect(stale).toMatchObject({ invalid: 1, outOfOrder: 0, restarts: 0 })
    expect(toBigInt(stale.first?.time ?? { hi: 0, lo: 0 })).toBe(times[1])
    const swapped = tallyOf([values[1] ?? 0n, values[0] ?? 0n, ...values.slice(2)])
    expect(swapped).toMatchObject({ invalid: 0, outOfOrder: 1 })
    expect(toBigInt(swapped.first?.time ?? { hi: 0, lo: 0 })).toBe(times[1])
    const far = tallyOf([...values, eventValue(2n ** 50n, 1), eventValue(10_000n * 41n, 0, true)])
    expect(far.invalid).toBe(1)
    expect(toBigInt(far.last?.time ?? { hi: 0, lo: 0 })).toBe(times.at(-1))
  })

  it('that begin with dummies have a first event all the same', () => {
    const reader = new EventValueReader({ order: 'lowFirst' })
    const values = [eventValue(500n, 1, true), eventValue(700n, 1, true), eventValue(900n, 4), eventValue(950n, 8)]
    expect(collect(reader, valueBytes(values, 'lowFirst')).times).toEqual([900n, 950n])
    expect(toBigInt(reader.tally.first?.time ?? { hi: 0, lo: 0 })).toBe(900n)
    expect(reader.tally.first?.pattern).toBe(4)
  })

  it('of two recordings in one file begin anew at the second, with a gap between', () => {
    const one = Array.from({ length: 50 }, (_, i) => eventValue(2n ** 40n + 1001n * BigInt(i), 1))
    const two = Array.from({ length: 50 }, (_, i) => eventValue(2n ** 30n + 1001n * BigInt(i), 2))
    const reader = new EventValueReader({ order: 'lowFirst' })
    const { gaps, times } = collect(reader, valueBytes([...one, ...two], 'lowFirst'))
    expect(gaps).toHaveLength(1)
    expect(times.at(-1)).toBe(2n ** 30n + 1001n * 49n)
    expect(reader.tally.restarts).toBe(1)
  })
})

describe('the card in fast mode', () => {
  /** Words of a source of `perWrap` events per wrap, dummies as the card sends them, and the true times of its events. */
  function fastStream(events: number, perWrap: number, seed: number) {
    const random = seeded(seed)
    const half = FAST_WRAP_UNITS / 2
    const place = 500
    const records: { time: number; low: number }[] = []
    let time = place + 50
    let next = place + half
    let clicked = true
    for (let i = 0; i < events; i++) {
      time += 1 + Math.floor((-Math.log(1 - random()) * FAST_WRAP_UNITS) / perWrap)
      for (; next <= time; next += half) {
        if (!clicked) records.push({ time: next, low: 0x18 })
        clicked = false
      }
      records.push({ time, low: 1 << Math.floor(random() * 4) })
      clicked = true
    }
    return records
  }

  it('gets its lost wraps back, and its dummies are no clicks', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 40 }), (seed, tenths) => {
        const records = fastStream(400, tenths / 10, seed)
        // The reader counts a wrap only where the top bit falls from one record to the next.
        let noticed = 0
        let topBit = 0
        const values = records.map(({ time, low }) => {
          const place = time % FAST_WRAP_UNITS
          const bit = place >= FAST_WRAP_UNITS / 2 ? 1 : 0
          if (bit < topBit) noticed += 1
          topBit = bit
          return valueOfFastWord((place * 64 + low) >>> 0, noticed)
        })
        const reader = new EventValueReader({ order: 'highFirst' })
        const { times } = collect(reader, valueBytes(values, 'highFirst'), [8 * 37])
        const right = records.filter(({ low }) => low < 16).map(({ time }) => BigInt(time))
        const lostAtStart = (times[0] ?? 0n) - (right[0] ?? 0n)
        expect(times).toEqual(right.map((time) => time + lostAtStart))
        expect(reader.tally.outOfOrder).toBe(0)
        expect(reader.tally.dummies).toBe(records.length - right.length)
      }),
      { numRuns: 100 },
    )
  })
})

describe('hexadecimal text', () => {
  it('is refused with the line where a line is too short, too long or no number', () => {
    for (const text of ['0123456\n', '012345678\n', '0123456g\n', '0123 4567\n']) {
      const decoder = new HexTextDecoder(8)
      expect(() => decoder.decode(new TextEncoder().encode(`89abcdef\r\n\n${text}`))).toThrow(/line 3: expected 8/)
    }
  })

  it('needs no line end at the end of the file', () => {
    const opened = openFormat('a2')
    if (opened.kind !== 'tags') throw new Error('no detections')
    const { times } = collect(opened.reader, new TextEncoder().encode('0000000000100401\n0000000000200401'), [5])
    expect(times).toEqual([0x401n, 0x801n])
  })

  it('may have blanks around its numbers, and a last line that is cut off is left out and said', () => {
    const opened = openFormat('a2')
    if (opened.kind !== 'tags') throw new Error('no detections')
    const text = '  0000000000100401 \r\n\t0000000000200401\t\n00000000'
    expect(collect(opened.reader, new TextEncoder().encode(text), [7]).times).toEqual([0x401n, 0x801n])
    expect(opened.reader.tally).toMatchObject({
      strayBytes: 8,
      notes: ['the last line is cut off after 8 of 16 digits'],
    })
  })

  it('reads raw TDC1 words too, where the TDC1 wrote it', () => {
    const opened = openFormat('a0', { source: 'tdc1' })
    if (opened.kind !== 'tags') throw new Error('no detections')
    const text = '8001ef11\n0001ef11\n2cca2ba1\n0001ef11\n8001ef11\n0001ef11\n09a5faa1\n'
    expect(collect(opened.reader, new TextEncoder().encode(text), [3]).times).toEqual([157_700_445n, 407_711_701n])
  })
})

it('random bytes never crash the reader of values, and every record is counted once', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.integer({ min: 1, max: 200 }), (bytes, size) => {
      const reader = new EventValueReader({ order: 'lowFirst' })
      const { times } = collect(reader, bytes, [size])
      const { tally } = reader
      expect(tally.records).toBe(tally.events + tally.dummies)
      expect(8 * tally.records + tally.strayBytes).toBe(bytes.length)
      expect(times.length).toBeLessThanOrEqual(tally.events)
      if (tally.last !== undefined) expect(toBigInt(tally.last.time)).toBe(times.at(-1))
    }),
    { numRuns: 200 },
  )
})
