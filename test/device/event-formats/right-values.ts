/** What is known to be in the recordings, found by a decoder written independently of ours. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FormatName } from '../../../src/device/event-formats/format-names.js'
import { openFormat, type FormatSettings } from '../../../src/device/event-formats/formats.js'
import type { DecodeSummary } from '../../../src/device/event-formats/summary.js'
import { collect, collectEntries, type Collected } from './collect.js'
import type { Clicks } from './pairing.js'

export interface RightSummary {
  file: string
  /** Recordings under the GPL are read where they are and never copied here. */
  copied: boolean
  expected: Partial<DecodeSummary>
}

const rollover = {
  records: 1000,
  events: 862,
  dummies: 138,
  wraps: 8,
  outOfOrder: 0,
  patterns: { '1': 431, '8': 431 },
  firstValue: 'edae1bd74ce88f21',
  lastValue: 'edae23dfee090b28',
  spanPs: 35_792_968_121,
  spanAsWrittenPs: 33_695_816_121,
} satisfies Partial<DecodeSummary>

const plain = { dummies: 0, wraps: 0, outOfOrder: 0 } satisfies Partial<DecodeSummary>

export const RIGHT_SUMMARIES: readonly RightSummary[] = [
  {
    file: 's15-timestamp7/timestamp7_c1234.Aa1.ts',
    copied: false,
    expected: {
      ...plain,
      format: 'a1',
      records: 2000,
      events: 2000,
      patterns: { '1': 614, '2': 481, '3': 2, '4': 476, '5': 2, '6': 3, '8': 417, '9': 3, '10': 2 },
      first: '17821472680578496',
      firstValue: 'fd4223d200370328',
      lastValue: 'fd42240b11c94721',
      spanPs: 935_012_566,
      spanAsWrittenPs: 935_012_566,
    },
  },
  { file: 's15-timestamp7/timestamp7_c14_rollover.Aa1fX.ts', copied: false, expected: { ...rollover, format: 'a1X' } },
  { file: 's15-timestamp7/timestamp7_c14_rollover.Aa0f.ts', copied: false, expected: { ...rollover, format: 'a0' } },
  { file: 's15-timestamp7/timestamp7_c14_rollover.Aa2f.ts', copied: false, expected: { ...rollover, format: 'a2' } },
  {
    file: 'qutools-qutag/hbt-80mhz-first-20000.qutag',
    copied: false,
    expected: {
      format: 'qutag',
      records: 20_000,
      events: 20_000,
      dummies: 0,
      patterns: { '1': 5874, '2': 7068, '5': 7058 },
      first: '260182250071800102',
      firstPattern: 5,
      last: '260182621049155619',
      lastPattern: 5,
    },
  },
  {
    file: 's15-tdc1/tdc1-2hz.raw',
    copied: true,
    expected: {
      format: 'tdc1',
      records: 7,
      events: 2,
      dummies: 5,
      wraps: 3,
      outOfOrder: 0,
      patterns: { '1': 2 },
      firstPs: 315_400_890_000,
      lastPs: 815_423_402_000,
      spanPs: 500_022_512_000,
    },
  },
  {
    file: 's15-tdc1/labview-2mhz.txt',
    copied: true,
    expected: { ...plain, format: 'labview', records: 3001, events: 3001, first: 1_121_578, last: 4_857_690 },
  },
  {
    file: 'simulated-pair/alice.Aa1X.ts',
    copied: true,
    expected: {
      ...plain,
      format: 'a1X',
      events: 51_532,
      firstValue: '7d2428b71aad0008',
      lastValue: '7d2829e12e090008',
    },
  },
  {
    file: 'simulated-pair/bob.Aa1X.ts',
    copied: true,
    expected: {
      ...plain,
      format: 'a1X',
      events: 68_574,
      firstValue: '7d24290132dc0001',
      lastValue: '7d282a2cb3ad0001',
    },
  },
  {
    file: 'simulated-pair/alice.tdc1.raw',
    copied: true,
    expected: {
      format: 'tdc1',
      records: 51_530,
      dummies: 0,
      wraps: 16,
      outOfOrder: 0,
      first: 560_213,
      firstPattern: 8,
    },
  },
  {
    file: 'simulated-pair/bob.tdc1.raw',
    copied: true,
    expected: {
      format: 'tdc1',
      records: 68_571,
      dummies: 0,
      wraps: 16,
      outOfOrder: 0,
      first: 1_167_195,
      firstPattern: 1,
    },
  },
  { file: 'simulated-pair/drift-alice.Aa1.ts', copied: true, expected: { ...plain, format: 'a1', events: 24_086 } },
  { file: 'simulated-pair/drift-bob.Aa1.ts', copied: true, expected: { ...plain, format: 'a1', events: 29_819 } },
  {
    file: 'simulated-pair/lowrate.tdc1.raw',
    copied: true,
    expected: {
      format: 'tdc1',
      records: 157,
      events: 60,
      dummies: 97,
      wraps: 74,
      outOfOrder: 0,
      first: 37_342_420,
      firstPattern: 2,
      last: 9_955_002_834,
      lastPattern: 1,
    },
  },
]

/** Coincidences of the simulated pair: half window in 1/8 ns → counts. */
export const RIGHT_PAIRS = [
  { halfWindow: 4, coincidences: 7979, single: 7954, sifted: 4025, errors: 114 },
  { halfWindow: 8, coincidences: 10_296, single: 10_263, sifted: 5154, errors: 157 },
  { halfWindow: 16, coincidences: 10_668, single: 10_635, sifted: 5341, errors: 164 },
] as const
export const RIGHT_MATRIX = [
  [34, 608, 1223, 648],
  [645, 43, 637, 1272],
  [1244, 654, 31, 620],
  [639, 1258, 658, 49],
]
export const RIGHT_SERVICE_MATRIX = [
  [30, 497, 991, 531],
  [529, 32, 514, 1005],
  [996, 520, 23, 514],
  [532, 1032, 535, 45],
]
/** Of the drifting pair, half window in 1/256 ns. */
export const RIGHT_DRIFT_PAIRS = [
  { halfWindow: 256, coincidences: 5657, sifted: 2825, errors: 150 },
  { halfWindow: 512, coincidences: 5965, sifted: 2994, errors: 157 },
] as const

/** The epochs of the simulated pair. */
export const EPOCHS = [0, 1, 2, 3, 4, 5, 6].map((i) => (0xc758fa48 + i).toString(16))

/** Detections of a file of a known format. */
export function tagsOf(folder: string, file: string, format: FormatName, settings: FormatSettings = {}): Collected {
  const opened = openFormat(format, settings)
  if (opened.kind !== 'tags') throw new Error(`${format} holds no detections`)
  return collect(opened.reader, readFileSync(join(folder, file)))
}

/** Entries of a T3 or T4 file. */
export function entriesOf(folder: string, file: string, format: 't3' | 't4'): number[] {
  const opened = openFormat(format)
  if (opened.kind !== 'list') throw new Error(`${format} holds detections`)
  return collectEntries(opened.reader, readFileSync(join(folder, file)))
}

/** Times as plain numbers, `divisor` units each, counted from `zero`. */
export function clicksOf(tags: Collected, divisor = 1n, zero = 0n): Clicks {
  return { times: tags.times.map((time) => Number((time - zero) / divisor)), patterns: tags.patterns }
}
