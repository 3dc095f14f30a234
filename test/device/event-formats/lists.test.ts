import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  CqpListReader,
  encodeCqpList,
  encodeQutag,
  QutagReader,
} from '../../../src/device/event-formats/channel-lists.js'
import { labviewLine, LabviewReader } from '../../../src/device/event-formats/labview-text.js'
import { noxConfiguration, noxDetection, NoxReader } from '../../../src/device/event-formats/nox.js'
import { concat } from '../../../src/device/event-formats/epoch-tags.js'
import { toPsTags } from '../../../src/device/event-formats/batch.js'
import { UNIT_NOX } from '../../../src/device/event-formats/units.js'
import { collect } from './collect.js'

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 })

describe('NOX records', () => {
  it('decode to channel and ps', () => {
    for (const [hex, channel, ps] of [
      ['2400000000001000', 0, 0n],
      ['2400000000101000', 0, 7692n],
      ['24007bfa48002000', 1, 10n ** 12n],
      ['24fffffffff04fff', 3, 528_611_359_507_690n],
      ['2412345678903abc', 2, 37_590_141_120_545n],
    ] as const) {
      const seen: unknown[] = []
      const reader = new NoxReader()
      reader.push(Buffer.from(hex, 'hex'), {
        tags: (batch) => seen.push(batch.patterns[0], toPsTags(batch, UNIT_NOX).timesPs[0]),
      })
      expect(seen).toEqual([channel, ps])
    }
  })

  it('go round in any chunks, with configuration records and garbage between', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ step: fc.integer({ min: 0, max: 2 ** 40 }), channel: fc.integer({ min: 0, max: 3 }) }), {
          minLength: 3,
          maxLength: 40,
        }),
        fc.uint8Array({ maxLength: 30 }),
        sizes,
        (steps, garbage, chunks) => {
          let time = 0
          const events = steps.map(({ step, channel }) => ({ time: (time += step), channel }))
          const records = events.map((event) => noxDetection(event.time, event.channel))
          // Nothing in it may pass for the beginning of a record.
          const noise = garbage.map((byte) => (byte === 0x24 || byte === 0x25 ? 0 : byte))
          const bytes = concat([noxConfiguration(), ...records, noise, noxConfiguration(), noxDetection(time, 3)])
          const reader = new NoxReader()
          const { times, patterns } = collect(reader, bytes, chunks)
          expect(times).toEqual([...events.map((event) => BigInt(event.time)), BigInt(time)])
          expect(patterns).toEqual([...events.map((event) => event.channel), 3])
          expect(reader.tally).toMatchObject({ dummies: 2, strayBytes: noise.length, outOfOrder: 0 })
        },
      ),
    )
  })

  it('wrap after 528.6 s, may stand out of order, and may name a channel that is none', () => {
    const reader = new NoxReader()
    const bytes = concat([
      noxDetection(2 ** 48 - 5, 0),
      noxDetection(2 ** 48 + 10, 1),
      noxDetection(2 ** 48 + 5, 2),
      noxDetection(2 ** 48 + 20, 9),
      noxDetection(2 ** 48 + 30, 3),
    ])
    expect(collect(reader, bytes).times).toEqual([2n ** 48n - 5n, 2n ** 48n + 10n, 2n ** 48n + 30n])
    expect(reader.tally).toMatchObject({ wraps: 1, outOfOrder: 1, invalid: 1, events: 5 })
    expect(reader.eventsBeforeConfiguration).toBe(0)
  })
})

describe('lists of times and channels', () => {
  const detections = fc.array(
    fc.record({ timePs: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), channel: fc.integer({ min: 0, max: 255 }) }),
    { maxLength: 40 },
  )

  it('go round in any chunks, in the order of the file', () => {
    fc.assert(
      fc.property(detections, sizes, (list, chunks) => {
        const times = list.map(({ timePs }) => timePs)
        const channels = list.map(({ channel }) => channel)
        const cqp = collect(
          new CqpListReader(),
          encodeCqpList(list.map(({ timePs, channel }) => ({ timePs, qubit: channel }))),
          chunks,
        )
        expect([cqp.times, cqp.patterns]).toEqual([times, channels])
        const reader = new QutagReader()
        const qutag = collect(reader, encodeQutag(list), chunks)
        expect([qutag.times, qutag.patterns]).toEqual([times, channels])
        const back = times.filter((time, i) => i > 0 && time < (times[i - 1] ?? 0n)).length
        expect(reader.tally.outOfOrder - reader.tally.repeated).toBe(back)
        if (times.length > 0) expect(reader.earliest).toBe(times.reduce((least, time) => (time < least ? time : least)))
      }),
    )
  })
})

describe('LabVIEW text', () => {
  it('is turned round snapshot by snapshot, in any chunks', () => {
    const text = [300, 200, 100, 950, 800].map((ns, i) => labviewLine(ns, 1 + i)).join('') + labviewLine(700, 1, true)
    fc.assert(
      fc.property(sizes, (chunks) => {
        const reader = new LabviewReader()
        const { times, patterns, gaps } = collect(reader, new TextEncoder().encode(text), chunks)
        expect(times).toEqual([100n, 200n, 300n, 800n, 950n])
        expect(patterns).toEqual([3, 2, 1, 5, 4])
        expect(gaps.map(({ after }) => after)).toEqual([3])
        expect(reader.tally).toMatchObject({ records: 6, events: 5, dummies: 1, outOfOrder: 0 })
      }),
    )
  })

  it('that is something else is refused with the line', () => {
    const read = (text: string) => () => collect(new LabviewReader(), new TextEncoder().encode(text))
    expect(read(`${labviewLine(5, 1)}hello\r\n`)).toThrow(/line 2: expected five digits/)
    expect(read('x'.repeat(1000))).toThrow(/line 0|line 1/)
  })
})
