/** Speed of the drivers' codecs against what their lines can carry. */
import { performance } from 'node:perf_hooks'
import { answerFrame, answerReader, BAUD as ABACUS_BAUD } from '../drivers/counter-abacus/protocol.js'
import { BAUD as CC1_BAUD, parseNumber } from '../drivers/counter-cc1/protocol.js'
import { decodeResponse, encodeResponse, RESPONSE_BYTES } from '../drivers/clavis2/protocol.js'
import { basesOf, compareBases, createKeyCutter, packSifted, qubitsFromRandom } from '../drivers/dummyqkd/protocol.js'
import { BAUD as EKPQC_BAUD, readingsReader } from '../drivers/ekpqc/protocol.js'
import { qubitsOf } from '../drivers/led-emitter/protocol.js'
import { BAUD as QCICADA_BAUD, oneShotReader } from '../drivers/random/qcicada-protocol.js'
import { systemRandom } from '../src/base/random.js'
import { lineReader } from '../src/device/dialogue.js'
import { toPsTags } from '../src/device/event-formats/batch.js'
import { noxDetection, NoxReader } from '../src/device/event-formats/nox.js'
import { HealthTests } from '../src/device/random-health.js'

interface Figure {
  name: string
  value: number
  unit: string
}

const ROUND_MS = 60
const ROUNDS = 5

/** Times `work` runs a second, the median of some rounds. */
function rateOf(work: () => void): number {
  const rates: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const startMs = performance.now()
    let runs = 0
    let elapsedMs = 0
    do {
      work()
      runs += 1
      elapsedMs = performance.now() - startMs
    } while (elapsedMs < ROUND_MS)
    rates.push((runs * 1_000) / elapsedMs)
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
  return [
    { name: 'NOX records parsed and unwrapped', value: (rateOf(decode(false)) * records) / 1e6, unit: 'M records/s' },
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
    ...emitterFigures(),
    ...textFigures(),
  ]
}
