import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toPsTags } from '../../../src/device/event-formats/batch.js'
import { Tdc1Reader } from '../../../src/device/event-formats/tdc1-reader.js'
import { tdc1Bytes, tdc1Word, TDC1_WRAP_TICKS } from '../../../src/device/event-formats/tdc1-words.js'
import { UNIT_2_NS } from '../../../src/device/event-formats/units.js'
import { collect, collector } from './collect.js'
import { bytesOfClicks, randomClicks, seeded } from './tdc1-streams.js'

const RECORDED = Buffer.from('11ef018011ef0100a12bca2c11ef010011ef018011ef0100a1faa509', 'hex')

describe('the stream of a TDC1', () => {
  it('recorded from a real unit shows two events half a second apart, over three wraps', () => {
    const reader = new Tdc1Reader()
    const { times, patterns } = collect(reader, RECORDED)
    expect(times).toEqual([157_700_445n, 407_711_701n])
    expect(patterns).toEqual([1, 1])
    expect(reader.tally).toMatchObject({ records: 7, events: 2, dummies: 5, wraps: 3, outOfOrder: 0, invalid: 0 })
  })

  it('comes out the same whatever the chunks are, and in a unit that a device event carries', () => {
    const clicks = randomClicks(400, 20, seeded(1))
    const bytes = bytesOfClicks(clicks)
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 12 }), (sizes) => {
        const reader = new Tdc1Reader()
        const { times, patterns, gaps } = collect(reader, bytes, sizes)
        expect(times).toEqual(clicks.map(({ tick }) => BigInt(tick)))
        expect(patterns).toEqual(clicks.map(({ pattern }) => pattern))
        expect(gaps).toEqual([])
        expect(reader.tally.first?.time.lo).toBe(clicks[0]?.tick)
      }),
      { numRuns: 40 },
    )
    const ps: bigint[] = []
    const reader = new Tdc1Reader()
    reader.push(bytes, { tags: (batch) => ps.push(...toPsTags(batch, UNIT_2_NS).timesPs) })
    expect(ps).toEqual(clicks.map(({ tick }) => BigInt(tick) * 2000n))
  })

  it('keeps its time line at every rate from one click in ten seconds to ten million a second', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1, max: 7 }), fc.integer(), (exponent, seed) => {
        const clicks = randomClicks(300, 10 ** exponent, seeded(seed))
        const reader = new Tdc1Reader()
        const { times, gaps } = collect(reader, bytesOfClicks(clicks), [4 * 97])
        expect(times).toEqual(clicks.map(({ tick }) => BigInt(tick)))
        expect(gaps).toEqual([])
        expect(reader.tally).toMatchObject({ outOfOrder: 0, invalid: 0, doubtful: 0, slips: 0 })
      }),
      { numRuns: 200 },
    )
  })

  it('may carry a dummy in every half-wrap', () => {
    const words: number[] = []
    for (let half = 1; half < 9; half++) {
      words.push(tdc1Word(half * 2 ** 26 + 3960, 1, true))
      for (let k = 1; k < 6; k++) words.push(tdc1Word(half * 2 ** 26 + k * 9_000_000, 2))
    }
    const reader = new Tdc1Reader()
    expect(collect(reader, tdc1Bytes(words)).times).toHaveLength(40)
    expect(reader.tally).toMatchObject({ wraps: 4, dummies: 8, outOfOrder: 0 })
  })

  it('survives a rate that falls from a million a second to three and rises again', () => {
    const random = seeded(5)
    const fast = randomClicks(3000, 1e6, random)
    const after = (start: number, more: { tick: number; pattern: number }[]) =>
      more.map(({ tick, pattern }) => ({ tick: start + tick, pattern }))
    const slow = after(fast.at(-1)?.tick ?? 0, randomClicks(40, 3, random))
    const again = after(slow.at(-1)?.tick ?? 0, randomClicks(3000, 1e6, random))
    const clicks = [...fast, ...slow, ...again]
    const reader = new Tdc1Reader()
    const { times, gaps } = collect(reader, bytesOfClicks(clicks), [64])
    expect(times).toEqual(clicks.map(({ tick }) => BigInt(tick)))
    expect(gaps).toEqual([])
    expect(reader.tally).toMatchObject({ outOfOrder: 0, invalid: 0, doubtful: 0 })
  })

  it('hands on at once what needs no second look, and the rest when the stream pauses', () => {
    const reader = new Tdc1Reader()
    const sink = collector()
    reader.push(tdc1Bytes([tdc1Word(100, 1), tdc1Word(200, 2)]), sink)
    expect(sink.found.times).toEqual([100n, 200n])
    // No input: it is wrong, but what comes next decides how.
    reader.push(tdc1Bytes([tdc1Word(250, 0), tdc1Word(300, 4)]), sink)
    expect(sink.found.times).toHaveLength(2)
    reader.flush(sink)
    expect(sink.found.times).toEqual([100n, 200n, 300n])
    expect(reader.tally.invalid).toBe(1)
  })
})

describe('a record that is not where it belongs', () => {
  // 1,000 clicks at 100 kHz that cross a wrap in the middle.
  const start = TDC1_WRAP_TICKS - 2_500_000
  const clicks = randomClicks(1000, 1e5, seeded(7)).map(({ tick, pattern }) => ({ tick: tick + start, pattern }))
  const words = clicks.map(({ tick, pattern }) => tdc1Word(tick, pattern))
  const firstAfter = clicks.findIndex(({ tick }) => tick >= TDC1_WRAP_TICKS)
  const places = { 'away from the wrap': 200, 'just before the wrap': firstAfter - 1, 'across the wrap': firstAfter }
  const right = clicks.map(({ tick }) => BigInt(tick))
  const without = (...indices: number[]): bigint[] => right.filter((_, i) => !indices.includes(i))

  for (const [where, at] of Object.entries(places)) {
    it(`is put down as out of order where two records are swapped ${where}`, () => {
      const swapped = [...words]
      swapped[at - 1] = words[at] ?? 0
      swapped[at] = words[at - 1] ?? 0
      const reader = new Tdc1Reader()
      const { times } = collect(reader, tdc1Bytes(swapped), [400])
      expect(times).toEqual(without(at - 1))
      expect(reader.tally).toMatchObject({ wraps: 1, outOfOrder: 1, invalid: 0, records: 1000, events: 1000 })
    })

    it(`is put down as repeated ${where}`, () => {
      const reader = new Tdc1Reader()
      const { times } = collect(reader, tdc1Bytes(words.toSpliced(at, 0, words[at - 1] ?? 0)), [400])
      expect(times).toEqual(right)
      expect(reader.tally).toMatchObject({ wraps: 1, outOfOrder: 1, repeated: 1, invalid: 0, records: 1001 })
    })

    it(`is left out where it is all zero ${where}`, () => {
      const reader = new Tdc1Reader()
      const { times } = collect(reader, tdc1Bytes(words.with(at, 0)), [400])
      expect(times).toEqual(without(at))
      expect(reader.tally).toMatchObject({ wraps: 1, outOfOrder: 0, invalid: 1, records: 1000 })
    })

    it(`is left out where its time is zero ${where}`, () => {
      const reader = new Tdc1Reader()
      const { times } = collect(reader, tdc1Bytes(words.with(at, 1)), [400])
      // Right at the wrap a time of zero is as good as any other.
      const kept = without(at).filter((time) => times.includes(time))
      expect(kept).toEqual(without(at))
      expect(reader.tally).toMatchObject({ wraps: 1, records: 1000 })
    })

    it(`is left out where its time is far ahead ${where}`, () => {
      const reader = new Tdc1Reader()
      const { times } = collect(
        reader,
        tdc1Bytes(words.with(at, tdc1Word((clicks[at]?.tick ?? 0) + 40_000_000, 4))),
        [400],
      )
      expect(times).toEqual(without(at))
      expect(reader.tally).toMatchObject({ wraps: 1, outOfOrder: 0, invalid: 1 })
    })
  }

  it('does not cost a wrap where a dummy is missing and the clicks around show it', () => {
    const sent = [60_000_000, 134_217_728 + 20_000_000, 134_217_728 + 25_000_000].map((tick) => tdc1Word(tick, 1))
    const reader = new Tdc1Reader()
    expect(collect(reader, tdc1Bytes(sent)).times).toEqual([60_000_000n, 154_217_728n, 159_217_728n])
    expect(reader.tally).toMatchObject({ wraps: 1, outOfOrder: 0, invalid: 0 })
  })

  it('that is a dummy coming twice is reported as a place where time cannot be trusted', () => {
    const dummy = tdc1Word(3960, 1, true)
    const reader = new Tdc1Reader()
    const { gaps } = collect(reader, tdc1Bytes([tdc1Word(50, 1), dummy, dummy, tdc1Word(9000, 1)]))
    expect(gaps).toHaveLength(1)
    expect(reader.tally).toMatchObject({ repeated: 1, outOfOrder: 1, doubtful: 1, records: 4 })
  })

  it('is found where a dummy and the click behind it are swapped', () => {
    const half = 2 ** 26
    const sent = [tdc1Word(60_000_000, 1), tdc1Word(2 * half + 5000, 2), tdc1Word(2 * half + 3960, 1, true)]
    const more = Array.from({ length: 20 }, (_, i) => tdc1Word(2 * half + 1_000_000 * (i + 1), 4))
    const reader = new Tdc1Reader()
    const { times } = collect(reader, tdc1Bytes([...sent, ...more]))
    expect(times.slice(0, 3)).toEqual([60_000_000n, BigInt(2 * half + 5000), BigInt(2 * half + 1_000_000)])
    expect(reader.tally).toMatchObject({ wraps: 1, outOfOrder: 1, dummies: 1 })
  })
})

describe('a stream that loses bytes', () => {
  const clicks = randomClicks(5000, 2e6, seeded(3))
  const bytes = bytesOfClicks(clicks)

  for (const lost of [1, 2, 3, 6, 10]) {
    it(`is caught again after ${lost} lost bytes, with a gap at the place and the right times behind it`, () => {
      fc.assert(
        fc.property(fc.integer({ min: 400, max: 15_000 }), fc.integer({ min: 16, max: 5000 }), (at, size) => {
          const damaged = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + lost)])
          const reader = new Tdc1Reader()
          const { times, gaps } = collect(reader, damaged, [size])
          const right = new Set(clicks.map(({ tick }) => BigInt(tick)))
          // Some of the slip's own bytes may pass for records before it is noticed.
          expect(times.filter((time) => !right.has(time)).length).toBeLessThanOrEqual(3)
          expect(times.length).toBeGreaterThan(4980)
          expect(times.at(-1)).toBe(BigInt(clicks.at(-1)?.tick ?? 0))
          expect(reader.tally.slips).toBe(1)
          const slip = gaps.filter(({ reason }) => reason.startsWith('the stream slipped'))
          expect(slip).toHaveLength(1)
          // A record of the slip's own bytes may fit, end a chunk and so be handed on: its place is marked too.
          const others = gaps.filter((gap) => !slip.includes(gap))
          expect(others.length).toBeLessThanOrEqual(1)
          for (const { after, reason } of others) {
            expect(reason).toBe('a detection handed on before turned out to be out of place')
            expect(Math.abs(after - (slip[0]?.after ?? 0))).toBeLessThanOrEqual(1)
          }
        }),
        // Cuts whose first wrong record ends a chunk; whose wrong records look like those of a slow source.
        {
          numRuns: 30,
          examples: [
            [559, 57],
            [10_718, 1248],
          ],
        },
      )
    })
  }

  it('is caught twice where it slips twice', () => {
    const damaged = Buffer.concat([bytes.subarray(0, 4001), bytes.subarray(4003, 9000), bytes.subarray(9002)])
    const reader = new Tdc1Reader()
    const { times, gaps } = collect(reader, damaged, [512])
    expect(gaps).toHaveLength(2)
    expect(times.at(-1)).toBe(BigInt(clicks.at(-1)?.tick ?? 0))
  })

  it('begins anew on a record limit where the driver knows of the loss', () => {
    const reader = new Tdc1Reader()
    const sink = collector()
    reader.push(bytes.subarray(0, 4003), sink)
    reader.interrupt(sink, 'overflow')
    reader.push(bytes.subarray(8000), sink)
    reader.end(sink)
    expect(sink.found.gaps).toEqual([{ after: 1000, reason: 'overflow' }])
    expect(sink.found.times.at(-1)).toBe(BigInt(clicks.at(-1)?.tick ?? 0))
    expect(reader.tally).toMatchObject({ strayBytes: 3, invalid: 0, outOfOrder: 0 })
  })

  it('says that its last record is cut off', () => {
    const reader = new Tdc1Reader()
    expect(collect(reader, bytes.subarray(0, 4002)).times).toHaveLength(1000)
    expect(reader.tally.notes).toEqual(['the last record is cut off after 2 of 4 bytes'])
  })
})

it('random bytes never crash the reader, and every record is counted once', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4000 }), fc.integer({ min: 1, max: 300 }), (bytes, size) => {
      const reader = new Tdc1Reader()
      const { times } = collect(reader, bytes, [size])
      const { tally } = reader
      expect(tally.records).toBe(tally.events + tally.dummies)
      expect(4 * tally.records + tally.strayBytes).toBe(bytes.length)
      expect(times.length).toBeLessThanOrEqual(tally.events)
    }),
    { numRuns: 300 },
  )
})
