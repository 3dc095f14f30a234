import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import type { Collected } from './collect.js'
import { tagsOf } from './right-values.js'
import { openFormat } from '../../../src/device/event-formats/formats.js'
import { detectFormat } from '../../../src/device/event-formats/detect.js'

const FOLDER = join(import.meta.dirname, '../../fixtures/vectors/bbm92-pair')

const sides = <T extends z.ZodType>(each: T) => z.object({ alice: each, bob: each })
const window = z.object({
  coincidences: z.number(),
  withMultiClick: z.number(),
  sifted: z.number(),
  siftedRectilinear: z.number(),
  siftedDiagonal: z.number(),
  errors: z.number(),
  errorsRectilinear: z.number(),
  errorsDiagonal: z.number(),
  pairListSha256: z.string(),
})
const stream = z.object({
  files: sides(z.string()),
  records: sides(z.number()),
  dummies: sides(z.number()),
  events: sides(z.number()),
  eventsByInput: sides(z.array(z.number())),
  multiClickRecords: z.object({ alice: z.number(), bob: z.number() }),
  clock: z.object({
    a0: z.number(),
    b0: z.number(),
    offsetSeconds: z.number(),
    frequency: z.number(),
    driftPerSecond: z.number(),
    skewAliceSeconds: z.array(z.number()),
    skewBobSeconds: z.array(z.number()),
  }),
  withTrueClock: z.record(z.string(), window),
})
const truth = z
  .object({ streams: z.record(z.string(), stream) })
  .parse(JSON.parse(readFileSync(join(FOLDER, 'truth.json'), 'utf8')))

type Stream = z.output<typeof stream>

const TICK_S = 2e-9
const lowestInput = (pattern: number): number => 31 - Math.clz32(pattern & -pattern)
const isMulti = (pattern: number): boolean => (pattern & (pattern - 1)) !== 0

interface Click {
  index: number
  pattern: number
  /** Bob's ticks. */
  at: number
}

/** Alice's clicks where Bob's clock should have them, and Bob's without the delays of his inputs. */
function onBobsClock({ clock }: Stream, alice: Collected, bob: Collected): { expected: Click[]; seen: Click[] } {
  const { a0, b0, offsetSeconds, frequency, driftPerSecond, skewAliceSeconds, skewBobSeconds } = clock
  const made = (tags: Collected, at: (tick: number, input: number) => number): Click[] =>
    tags.times
      .map((time, index) => {
        const pattern = tags.patterns[index] ?? 0
        return { index, pattern, at: at(Number(time), lowestInput(pattern)) }
      })
      .sort((a, b) => a.at - b.at)
  const expected = made(alice, (tick, input) => {
    const x = (tick + 0.5 - a0) * TICK_S - (skewAliceSeconds[input] ?? 0)
    return b0 + (offsetSeconds + (1 + frequency) * x + (driftPerSecond * x * x) / 2) / TICK_S - 0.5
  })
  return { expected, seen: made(bob, (tick, input) => tick - (skewBobSeconds[input] ?? 0) / TICK_S) }
}

function pairsWithin(halfWindowTicks: number, expected: readonly Click[], seen: readonly Click[]): [Click, Click][] {
  const pairs: [Click, Click][] = []
  let next = 0
  for (const click of expected) {
    while ((seen[next]?.at ?? Infinity) < click.at - halfWindowTicks) next += 1
    const partner = seen[next]
    if (partner === undefined || partner.at > click.at + halfWindowTicks) continue
    pairs.push([click, partner])
    next += 1
  }
  return pairs
}

function countsOf(pairs: readonly [Click, Click][]): z.output<typeof window> {
  const single = pairs.filter(([a, b]) => !isMulti(a.pattern) && !isMulti(b.pattern))
  const basis = (pattern: number): number => lowestInput(pattern) & 1
  const sifted = single.filter(([a, b]) => basis(a.pattern) === basis(b.pattern))
  // The simulated state gives equal bits in equal bases.
  const errors = sifted.filter(([a, b]) => a.pattern !== b.pattern)
  const rectilinear = (list: readonly [Click, Click][]): number => list.filter(([a]) => basis(a.pattern) === 0).length
  const list = [...pairs].sort(([a, b], [c, d]) => a.index - c.index || b.index - d.index)
  const lines = list.map(([a, b]) => `${a.index},${b.index}\n`)
  return {
    coincidences: pairs.length,
    withMultiClick: pairs.length - single.length,
    sifted: sifted.length,
    siftedRectilinear: rectilinear(sifted),
    siftedDiagonal: sifted.length - rectilinear(sifted),
    errors: errors.length,
    errorsRectilinear: rectilinear(errors),
    errorsDiagonal: errors.length - rectilinear(errors),
    pairListSha256: createHash('sha256').update(lines.join('')).digest('hex'),
  }
}

describe.each(Object.entries(truth.streams))('the simulated TDC1 streams of an entangled pair: %s', (_name, right) => {
  it.each(['alice', 'bob'] as const)('decode to the true records of %s', (side) => {
    const bytes = readFileSync(join(FOLDER, right.files[side]))
    expect(detectFormat(bytes.subarray(0, 65_536), false, side).format).toBe('tdc1')
    const opened = openFormat('tdc1')
    if (opened.kind !== 'tags') throw new Error('no detections')
    opened.reader.push(bytes, { tags: () => {} })
    opened.reader.end({ tags: () => {} })
    const { tally } = opened.reader
    const perPattern = [...tally.patterns]
    const sum = (of: (pattern: number) => boolean): number =>
      perPattern.reduce((total, count, pattern) => total + (of(pattern) ? count : 0), 0)
    expect({
      records: tally.records,
      dummies: tally.dummies,
      events: tally.events,
      byInput: [0, 1, 2, 3].map((input) => sum((pattern) => ((pattern >> input) & 1) === 1)),
      multiClick: sum(isMulti),
      leftOut: tally.outOfOrder + tally.invalid + tally.doubtful + tally.slips,
    }).toEqual({
      records: right.records[side],
      dummies: right.dummies[side],
      events: right.events[side],
      byInput: right.eventsByInput[side],
      multiClick: right.multiClickRecords[side],
      leftOut: 0,
    })
  })

  it('hold the true coincidences and errors, pair by pair, once the true clock is applied', () => {
    const { expected, seen } = onBobsClock(
      right,
      tagsOf(FOLDER, right.files.alice, 'tdc1'),
      tagsOf(FOLDER, right.files.bob, 'tdc1'),
    )
    for (const [name, counts] of Object.entries(right.withTrueClock)) {
      const ns = Number(/\d+/.exec(name)?.[0])
      expect(countsOf(pairsWithin(ns / 2, expected, seen))).toEqual(counts)
    }
  })
})
