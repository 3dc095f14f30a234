import { createReadStream, existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { decodeStream } from '../../../src/device/event-formats/open-stream.js'
import { pairUp } from './pairing.js'
import {
  clicksOf,
  entriesOf,
  EPOCHS,
  RIGHT_DRIFT_PAIRS,
  RIGHT_MATRIX,
  RIGHT_PAIRS,
  RIGHT_SERVICE_MATRIX,
  RIGHT_SUMMARIES,
  tagsOf,
} from './right-values.js'

const FOLDER = join(import.meta.dirname, '../../fixtures/recordings-devices')
const pairFolder = join(FOLDER, 'simulated-pair')

describe('the recordings decode to their known values', () => {
  for (const { file, expected } of RIGHT_SUMMARIES.filter(({ copied }) => copied)) {
    it(`${file}, its format told by content`, async () => {
      const { summary } = await decodeStream(createReadStream(join(FOLDER, file)), { name: file })
      expect(summary).toMatchObject(expected)
    })
  }

  it('the LabVIEW text holds two snapshots of a 2 MHz signal', () => {
    const { times, gaps } = tagsOf(FOLDER, 's15-tdc1/labview-2mhz.txt', 'labview')
    expect(gaps).toHaveLength(1)
    const boundary = gaps[0]?.after
    expect([times[0], times[(boundary ?? 0) - 1], times[boundary ?? 0], times.at(-1)]).toEqual([
      371_546n,
      1_121_578n,
      4_857_690n,
      5_607_222n,
    ])
    const steps = new Map<bigint, number>()
    for (let i = 1; i < times.length; i++) {
      if (i === boundary) continue
      const step = (times[i] ?? 0n) - (times[i - 1] ?? 0n)
      steps.set(step, (steps.get(step) ?? 0) + 1)
    }
    // One step of the 3,000 between lines is the one from snapshot to snapshot.
    expect(Object.fromEntries(steps)).toEqual({ 500: 2929, 502: 51, 498: 19 })
  })
})

describe('the simulated pair', () => {
  const OFFSET = 9_876_543

  it('shows the known coincidences, sifted bits and errors in each window', () => {
    const alice = tagsOf(pairFolder, 'alice.Aa1X.ts', 'a1X')
    const bob = tagsOf(pairFolder, 'bob.Aa1X.ts', 'a1X')
    const a = clicksOf(alice, 32n)
    const b = clicksOf(bob, 32n)
    for (const { halfWindow, ...counts } of RIGHT_PAIRS) expect(pairUp(a, b, OFFSET, halfWindow)).toMatchObject(counts)
    expect(pairUp(a, b, OFFSET, 8).matrix).toEqual(RIGHT_MATRIX)
    expect(pairUp(a, b, OFFSET + 1000, 8).coincidences).toBe(2)
  })

  it('shows them in the TDC1 streams too', () => {
    const a = clicksOf(tagsOf(pairFolder, 'alice.tdc1.raw', 'tdc1'))
    const b = clicksOf(tagsOf(pairFolder, 'bob.tdc1.raw', 'tdc1'))
    expect(pairUp(a, b, 617_284, 1)).toMatchObject({ coincidences: 10_669, sifted: 5340, errors: 163 })
  })

  it('shows them once a known drift is undone', () => {
    const alice = tagsOf(pairFolder, 'drift-alice.Aa1.ts', 'a1')
    const bob = clicksOf(tagsOf(pairFolder, 'drift-bob.Aa1.ts', 'a1'))
    const times = alice.times.map((time) => Number(time) * (1 + 7.5e-6) - 321_464 * 256)
    for (const { halfWindow, ...counts } of RIGHT_DRIFT_PAIRS)
      expect(pairUp({ times, patterns: alice.patterns }, bob, 0, halfWindow)).toMatchObject(counts)
  })

  it('has in T1 files the events of bob, bit for bit', () => {
    const bob = tagsOf(pairFolder, 'bob.Aa1X.ts', 'a1X')
    const epochs = EPOCHS.map((epoch) => tagsOf(pairFolder, `epochs-key/t1/${epoch}`, 't1'))
    const times = epochs.flatMap((epoch) => epoch.times)
    const patterns = epochs.flatMap((epoch) => epoch.patterns)
    const until = times.length
    expect(times).toEqual(bob.times.map((time) => time / 32n).slice(0, until))
    expect(patterns).toEqual(bob.patterns.slice(0, until))
  })

  it('has in T2 files the times of alice, bit for bit', () => {
    const alice = tagsOf(pairFolder, 'alice.Aa1X.ts', 'a1X')
    const all = alice.times.map((time) => time / 32n)
    const read = (folder: string, epochs: readonly string[]): bigint[] =>
      epochs.flatMap((epoch) => {
        const start = (BigInt(`0x${epoch}`) & 0x1ffffn) << 32n
        return tagsOf(pairFolder, `${folder}/${epoch}`, 't2').times.map((time) => start + time)
      })
    const key = read('epochs-key/t2', EPOCHS)
    expect(key).toEqual(all.slice(0, key.length))
    const service = read('epochs-service/t2', EPOCHS.slice(0, 2))
    expect(service).toEqual(all.slice(0, service.length))
  })

  it('has 4,164 key bits a side that differ in 134, picked by the T4 indices', () => {
    let bits = 0
    let different = 0
    for (const epoch of EPOCHS) {
      const key = entriesOf(pairFolder, `epochs-key/key/${epoch}`, 't3')
      const bob = entriesOf(pairFolder, `epochs-key/t3b/${epoch}`, 't3')
      const raw = entriesOf(pairFolder, `epochs-key/t3a/${epoch}`, 't3')
      const kept = entriesOf(pairFolder, `epochs-key/t4/${epoch}`, 't4')
      expect(key).toEqual(kept.map((index) => raw[index]))
      bits += key.length
      different += key.filter((bit, i) => bit !== bob[i]).length
    }
    expect([bits, different]).toEqual([4164, 134])
  })

  it('has in service epochs the patterns of both sides', () => {
    const matrix = [0, 1, 2, 3].map(() => [0, 0, 0, 0])
    let coincidences = 0
    for (const epoch of EPOCHS) {
      for (const entry of entriesOf(pairFolder, `epochs-service/t3b/${epoch}`, 't3')) {
        coincidences += 1
        const row = matrix[[1, 2, 4, 8].indexOf(entry >> 4)]
        const column = [1, 2, 4, 8].indexOf(entry & 15)
        if (row !== undefined && column >= 0) row[column] = (row[column] ?? 0) + 1
      }
    }
    expect(coincidences).toBe(8348)
    expect(matrix).toEqual(RIGHT_SERVICE_MATRIX)
  })
})

it('keeps recordings under the GPL out of the project', () => {
  for (const { file, copied } of RIGHT_SUMMARIES) expect(existsSync(join(FOLDER, file))).toBe(copied)
})
