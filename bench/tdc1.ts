/** Speed of the event-file codecs. */
import { toPsTags, type TagReader } from '../src/device/event-formats/batch.js'
import { EventValueReader } from '../src/device/event-formats/event-value-reader.js'
import { noxDetection, NoxReader } from '../src/device/event-formats/nox.js'
import { Tdc1Reader } from '../src/device/event-formats/tdc1-reader.js'
import { tdc1Word } from '../src/device/event-formats/tdc1-words.js'
import { UNIT_2_NS } from '../src/device/event-formats/units.js'

export interface Figure {
  name: string
  value: number
  unit: string
}

const RECORDS = 4_000_000
const CHUNK_BYTES = 65_536
const ROUNDS = 7

/** Small steps, as of 2.5 million events a second, over several wraps. */
function tdc1Stream(): Uint8Array {
  const words = new Uint32Array(RECORDS)
  let tick = 0
  let state = 1
  for (let i = 0; i < RECORDS; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    tick += 1 + ((state >>> 8) % 400)
    words[i] = tdc1Word(tick, 1 << (state >>> 30))
  }
  return new Uint8Array(words.buffer)
}

function valueStream(): Uint8Array {
  const words = new Uint32Array(2 * RECORDS)
  let time = 0
  let state = 1
  for (let i = 0; i < RECORDS; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    time += 64 * (1 + ((state >>> 8) % 800))
    words[2 * i] = (((time % 0x40_0000) << 10) | 0x300 | (1 << (state >>> 30))) >>> 0
    words[2 * i + 1] = Math.floor(time / 0x40_0000)
  }
  return new Uint8Array(words.buffer)
}

function noxStream(): Uint8Array {
  const bytes = new Uint8Array(8 * RECORDS)
  for (let i = 0; i < RECORDS; i++) bytes.set(noxDetection(i * 5_003, i & 3), 8 * i)
  return bytes
}

/** CPU time of this process in ms: on a busy machine the wall clock measures the others. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

/** Million records a second of one core, the median of some rounds, and what a record allocates. */
function speedOf(bytes: Uint8Array, open: () => TagReader): { perSecond: number; bytesPerRecord: number } {
  const rates: number[] = []
  let allocated = 0
  for (let round = 0; round < ROUNDS; round++) {
    const reader = open()
    let events = 0
    const sink = { tags: ({ count }: { count: number }): void => void (events += count) }
    const heapBefore = process.memoryUsage().heapUsed
    const startMs = cpuMs()
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) reader.push(bytes.subarray(at, at + CHUNK_BYTES), sink)
    reader.end(sink)
    rates.push(events / (cpuMs() - startMs) / 1_000)
    allocated = Math.max(0, process.memoryUsage().heapUsed - heapBefore) / RECORDS
  }
  rates.sort((a, b) => a - b)
  return { perSecond: rates[ROUNDS >> 1] ?? 0, bytesPerRecord: allocated }
}

/** As a device event carries them: times in ps, fresh arrays. The median of some rounds. */
function speedInPs(bytes: Uint8Array): number {
  const rates: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const reader = new Tdc1Reader()
    let events = 0
    const sink = {
      tags: (batch: Parameters<typeof toPsTags>[0]): void =>
        void (events += toPsTags(batch, UNIT_2_NS).patterns.length),
    }
    const startMs = cpuMs()
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) reader.push(bytes.subarray(at, at + CHUNK_BYTES), sink)
    rates.push(events / (cpuMs() - startMs) / 1_000)
  }
  rates.sort((a, b) => a - b)
  return rates[ROUNDS >> 1] ?? 0
}

export async function run(): Promise<Figure[]> {
  const tdc1 = tdc1Stream()
  const raw = speedOf(tdc1, () => new Tdc1Reader())
  const values = speedOf(valueStream(), () => new EventValueReader({ order: 'lowFirst' }))
  const nox = speedOf(noxStream(), () => new NoxReader())
  return [
    { name: 'TDC1 records parsed and unwrapped', value: raw.perSecond, unit: 'M records/s' },
    { name: 'TDC1 heap a record', value: raw.bytesPerRecord, unit: 'bytes' },
    { name: 'TDC1 records to device events in ps', value: speedInPs(tdc1), unit: 'M records/s' },
    { name: '64-bit event values parsed and repaired', value: values.perSecond, unit: 'M records/s' },
    { name: 'NOX records parsed and unwrapped', value: nox.perSecond, unit: 'M records/s' },
  ]
}
