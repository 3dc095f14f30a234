/** Speed of the drivers' codecs against what their lines can carry. */
import { performance } from 'node:perf_hooks'
import { answerFrame, answerReader, BAUD as ABACUS_BAUD } from '../drivers/counter-abacus/protocol.js'
import { BAUD as CC1_BAUD, parseNumber } from '../drivers/counter-cc1/protocol.js'
import { decodeResponse, encodeResponse, RESPONSE_BYTES } from '../drivers/clavis2/protocol.js'
import { basesOf, compareBases, createKeyCutter, packSifted, qubitsFromRandom } from '../drivers/dummyqkd/protocol.js'
import { BAUD as EKPQC_BAUD, readingsReader } from '../drivers/ekpqc/protocol.js'
import { qubitsOf } from '../drivers/led-emitter/protocol.js'
import {
  DEFAULT_BAUD as QIX_BAUD,
  encodeFrame,
  FRAME_BYTES,
  KEY_BYTES,
  QixDecoder,
  STATUS_OK,
} from '../drivers/qix/protocol.js'
import { BAUD as QCICADA_BAUD, oneShotReader } from '../drivers/random/qcicada-protocol.js'
import { RANDOM, replyReader } from '../drivers/random/swiftrng-protocol.js'
import { systemClock } from '../src/base/clock.js'
import { systemRandom } from '../src/base/random.js'
import { lineReader } from '../src/device/dialogue.js'
import { toPsTags } from '../src/device/event-formats/batch.js'
import { EventQueue } from '../src/device/event-formats/device-tags.js'
import { openFormat } from '../src/device/event-formats/formats.js'
import { noxDetection, NoxReader } from '../src/device/event-formats/nox.js'
import { HealthTests } from '../src/device/random-health.js'
import { TestedPool } from '../src/device/random-source.js'
import { eventStreams } from './support/event-streams.js'

interface Figure {
  name: string
  value: number
  unit: string
}

/** The highest rate at which a TrueRNG is opened. */
const TRUERNG_BAUD = 3_000_000
const ROUND_MS = 60
const ROUNDS = 5

/** Times `work` runs a second of this process's CPU time: by the wall clock a busy machine would measure the others. */
function rateOf(work: () => void): number {
  const rates: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const startMs = performance.now()
    const before = process.cpuUsage()
    let runs = 0
    let elapsedMs = 0
    do {
      work()
      runs += 1
      elapsedMs = performance.now() - startMs
    } while (elapsedMs < ROUND_MS)
    const { user, system } = process.cpuUsage(before)
    rates.push((runs * 1_000_000) / (user + system))
  }
  rates.sort((a, b) => a - b)
  return rates[Math.floor(ROUNDS / 2)] ?? 0
}

/** Bytes a second, and how many times the serial line's limit (8N1) that is. */
function serialFigures(name: string, bytes: number, baud: number, work: () => void): Figure[] {
  const perSecond = rateOf(work) * bytes
  return [
    { name: `${name} codec`, value: perSecond / 1e6, unit: 'MB/s' },
    { name: `${name} codec against its line at ${baud} baud`, value: perSecond / (baud / 10), unit: 'times' },
  ]
}

function noxFigures(): Figure[] {
  const records = 1_000_000
  const bytes = new Uint8Array(8 * records)
  for (let i = 0; i < records; i += 1) bytes.set(noxDetection(i * 5_003, i & 3), 8 * i)
  const decode = (convert: boolean) => (): void => {
    const reader = new NoxReader()
    const tags = (batch: Parameters<typeof toPsTags>[0]): void => {
      if (convert) toPsTags(batch, reader.unit, { patternOf: (channel) => 1 << channel })
    }
    // Transfers of the size in which the tagger is read.
    for (let at = 0; at < bytes.length; at += 8_192) reader.push(bytes.subarray(at, at + 8_192), { tags })
  }
  const heapBefore = process.memoryUsage().heapUsed
  decode(false)()
  const heapBytes = Math.max(0, process.memoryUsage().heapUsed - heapBefore)
  return [
    { name: 'NOX heap a record', value: heapBytes / records, unit: 'bytes' },
    {
      name: 'NOX records of 8 KiB transfers parsed',
      value: (rateOf(decode(false)) * records) / 1e6,
      unit: 'M records/s',
    },
    { name: 'NOX records to tags in ps', value: (rateOf(decode(true)) * records) / 1e6, unit: 'M records/s' },
  ]
}

function dummyFigures(): Figure[] {
  const qubits = qubitsFromRandom(systemRandom.bytes(25_000), 100_000)
  const bases = basesOf(qubits)
  const cutter = createKeyCutter(16)
  const frames = rateOf(() => {
    const answers = compareBases(qubits, bases)
    cutter.cut(packSifted([{ qubits, answers }]))
  })
  return [{ name: 'Dummy frame of 100,000 qubits sifted, packed and cut', value: frames, unit: 'frames/s' }]
}

function clavis2Figures(): Figure[] {
  const key = systemRandom.bytes(32)
  const message = { keyId: 7n, keyLength: 32, requestId: 3, deviceId: 1, error: 'success', key } as const
  const datagram = encodeResponse(message, 'little')
  const responses = rateOf(() => {
    for (let i = 0; i < 1_000; i += 1) decodeResponse(datagram, 'little')
  })
  return [
    { name: `Clavis2 responses of ${RESPONSE_BYTES} bytes checked and decoded`, value: responses, unit: 'thousand/s' },
  ]
}

function randomFigures(): Figure[] {
  const bytes = systemRandom.bytes(65_536)
  const tests = new HealthTests({ entropyBits: 4 })
  const reply = new Uint8Array(6 + 8_192)
  reply[0] = 0x11
  const read = oneShotReader(8_192)
  return [
    {
      name: 'health tests of random bytes',
      value: (rateOf(() => void tests.push(bytes)) * bytes.length) / 1e6,
      unit: 'MB/s',
    },
    ...serialFigures('QCicada', reply.length, QCICADA_BAUD, () => void read(reply)),
  ]
}

/** What a source without framing of its own needs (TrueRNG, Quantis): tests, pool, and giving out. */
function pooledFigures(): Figure[] {
  const pool = new TestedPool({
    name: 'bench',
    claimsQuantum: false,
    health: { entropyBits: 4 },
    clock: systemClock,
    onFailure: () => {},
  })
  const raw = systemRandom.bytes(8_192)
  const never = new AbortController().signal
  pool.push(systemRandom.bytes(8_192))
  const give = (): void => {
    // It wipes what it took.
    pool.push(Uint8Array.from(raw))
    void pool.read(raw.length, 1_000, never)
  }
  const reply = new Uint8Array(RANDOM.bytes + 1)
  const read = replyReader(RANDOM.bytes)
  const swift = rateOf(() => void read(reply)) * reply.length
  const line = serialFigures('TrueRNG bytes tested and pooled: its', raw.length, TRUERNG_BAUD, give)
  const quantis = rateOf(give) * raw.length
  if (pool.failure !== undefined) throw new Error(pool.failure)
  return [
    ...line,
    { name: 'Quantis bytes tested and pooled', value: quantis / 1e6, unit: 'MB/s' },
    { name: 'SwiftRNG codec', value: swift / 1e6, unit: 'MB/s' },
  ]
}

function qixFigures(): Figure[] {
  const frames = Array.from({ length: 1_000 }, (_, i) =>
    encodeFrame({ id: BigInt(i), key: systemRandom.bytes(KEY_BYTES), status: STATUS_OK }),
  )
  const bytes = Buffer.concat(frames)
  const decoder = new QixDecoder()
  return serialFigures('QIX', frames.length * FRAME_BYTES, QIX_BAUD, () => {
    // In pieces as a serial port hands them over.
    for (let at = 0; at < bytes.length; at += 64) decoder.push(bytes.subarray(at, at + 64))
  })
}

const EVENTS = 200_000
/** A pipe's and a file's pieces. */
const PIECE_BYTES = 65_536

/** Files as they are replayed; a reader program's output takes the same way. */
function replayFigures(): Figure[] {
  return eventStreams(EVENTS).map(({ format, bytes }) => {
    const decode = (): void => {
      const opened = openFormat(format, { source: 'card' })
      if (opened.kind !== 'tags') throw new Error(`${format} holds no detections`)
      const queue = new EventQueue(opened)
      let events = 0
      const take = (): void => {
        for (const event of queue.events.splice(0)) if (event.type === 'tags') events += event.patterns.length
      }
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
        opened.reader.push(bytes.subarray(at, at + PIECE_BYTES), queue)
        take()
      }
      opened.reader.end(queue)
      take()
      if (events < 0.99 * EVENTS) throw new Error(`${format}: only ${events} of ${EVENTS} detections came`)
    }
    const name = `${format} file or reader's output to device events in ps`
    return { name, value: (rateOf(decode) * EVENTS) / 1e6, unit: 'M records/s' }
  })
}

function emitterFigures(): Figure[] {
  const burst = systemRandom.bytes(256)
  const bursts = rateOf(() => void qubitsOf(burst, 'high'))
  return [{ name: 'LED emitter states unpacked', value: (bursts * 1_024) / 1e6, unit: 'M qubits/s' }]
}

function textFigures(): Figure[] {
  const abacus = answerFrame([{ address: 1, value: 20_000 }])
  const cc1 = Buffer.from('20000\n')
  const readLine = lineReader()
  const readings = Buffer.from(`${Array.from({ length: 16 }, (_, i) => 40 * i).join(' ')} \n`)
  return [
    ...serialFigures('Abacus', abacus.length, ABACUS_BAUD, () => void answerReader(abacus)),
    ...serialFigures('CC1', cc1.length, CC1_BAUD, () => void parseNumber(readLine(cc1)?.value ?? '')),
    ...serialFigures('EKPQC', readings.length, EKPQC_BAUD, () => void readingsReader(readings)),
  ]
}

export async function run(): Promise<Figure[]> {
  return [
    ...noxFigures(),
    ...dummyFigures(),
    ...clavis2Figures(),
    ...randomFigures(),
    ...pooledFigures(),
    ...qixFigures(),
    ...replayFigures(),
    ...emitterFigures(),
    ...textFigures(),
  ]
}
