/** One fuzzing step for the codecs of the drivers that are spoken to: any bytes, often the beginning of something right. */
import {
  answerFrame,
  answerReader,
  identityReader,
  parseFrame,
  parseIdentity,
  readFrame,
} from '../../../drivers/counter-abacus/protocol.js'
import { dwellSeconds, parseFirmware, parseNumber } from '../../../drivers/counter-cc1/protocol.js'
import { missingDigits, renderInstallationFile, spellingIn } from '../../../drivers/clavis2/installation-file.js'
import { parseProgramLine } from '../../../drivers/clavis2/program-lines.js'
import { decodeRequest, decodeResponse, encodeRequest, encodeResponse } from '../../../drivers/clavis2/protocol.js'
import { compareBases, packSifted } from '../../../drivers/dummyqkd/protocol.js'
import { flagsOfMask, infraredBytes, readingsReader } from '../../../drivers/ekpqc/protocol.js'
import { parseChannelMap } from '../../../drivers/nox/protocol.js'
import { encodeFrame, FRAME_BYTES, QixDecoder } from '../../../drivers/qix/protocol.js'
import { parseCounts, parseGateMs, parseLevel, statusAtEnd } from '../../../drivers/tdc1/protocol.js'
import { bytesOfQubits, qubitsOf } from '../../../drivers/led-emitter/protocol.js'
import {
  configurationReader,
  infoReader,
  oneShotReader,
  statusReader,
} from '../../../drivers/random/qcicada-protocol.js'
import { parseVersion, replyReader } from '../../../drivers/random/swiftrng-protocol.js'
import { GatewayError } from '../../../src/base/errors.js'
import type { Random } from '../../../src/base/random.js'
import { lineReader, type Reader } from '../../../src/device/dialogue.js'

const READERS: readonly Reader<unknown>[] = [
  answerReader,
  identityReader,
  readingsReader,
  statusReader,
  infoReader,
  configurationReader,
  oneShotReader(32),
  replyReader(8),
  lineReader(),
]

const key = new Uint8Array(32).fill(0x0a)
const message = { keyId: 1n, keyLength: 32, requestId: 1, deviceId: 1 }
/** Right inputs, of which a fuzzed one is often a damaged copy. */
const SEEDS: readonly Uint8Array[] = [
  encodeRequest(message, 'little'),
  encodeResponse({ ...message, error: 'success', key }, 'big'),
  renderInstallationFile(key, 'upstream'),
  answerFrame([{ address: 1, value: 77 }]),
  readFrame(3),
  Buffer.from('INFO PrivacyAmplification: Secret Key Rate = 12.5 bits/s'),
  Buffer.from(`${'700 '.repeat(16)}\n`),
  Buffer.from('Tausand Abacus AB1004'),
  Buffer.from('Firmware v2.010\n'),
  Buffer.from('110100000000', 'hex'),
  encodeFrame({ id: 1n, key, status: 1 }),
  Buffer.from('12 4 0 77\r\n'),
  Buffer.from('-31000\r\n'),
  Buffer.from('0010 \r\n'),
]

/** Bytes as a device might send them: something right, damaged, or noise. */
export function driverInput(random: Random): Uint8Array {
  const pick = (below: number): number => Math.floor(random.fraction() * below)
  const seed = SEEDS[pick(SEEDS.length * 2)]
  if (seed === undefined) return Uint8Array.from(random.bytes(pick(120)))
  const bytes = Uint8Array.from(seed)
  for (let i = pick(4); i > 0; i -= 1) bytes[pick(bytes.length)] = pick(256)
  return bytes.subarray(0, bytes.length - pick(3))
}

const qix = new QixDecoder()

/** Texts that a codec may refuse with a stable code. */
const PARSERS: readonly ((text: string) => unknown)[] = [
  (text) => parseCounts(text, 'singles'),
  (text) => parseCounts(text, 'pairs'),
  parseGateMs,
  parseLevel,
]

function mayRefuse(decode: () => void): void {
  try {
    decode()
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'E_DEVICE_PROTOCOL') throw error
  }
}

/** Throws where a codec does anything but decode, wait for more or refuse with a stable code. */
export function fuzzDriverCodecs(random: Random): void {
  const bytes = driverInput(random)
  for (const read of READERS) {
    mayRefuse(() => {
      const used = read(bytes)?.used ?? 0
      if (used < 0 || used > bytes.length) throw new Error(`a reader used ${used} of ${bytes.length} bytes`)
    })
  }
  for (const order of ['little', 'big'] as const) {
    decodeRequest(bytes, order)
    const response = decodeResponse(bytes, order)
    if (response.ok && response.value.key.length !== response.value.keyLength)
      throw new Error('a key of a wrong length')
  }
  const text = Buffer.from(bytes).toString('latin1')
  for (const parse of PARSERS) mayRefuse(() => void parse(text))
  qix.push(bytes)
  if (qix.pendingBytes >= FRAME_BYTES) throw new Error('the QIX decoder holds a whole frame')
  statusAtEnd(bytes)
  parseChannelMap(text)
  parseProgramLine(text)
  parseFirmware(text)
  parseNumber(text)
  dwellSeconds(text, 2)
  parseIdentity(text)
  parseVersion(bytes)
  parseFrame(bytes)
  infraredBytes(text)
  flagsOfMask(text)
  missingDigits(bytes)
  spellingIn(bytes, key)
  if (!Buffer.from(bytesOfQubits(qubitsOf(bytes, 'low'), 'low')).equals(bytes)) throw new Error('states were changed')
  packSifted([{ qubits: bytes, answers: compareBases(bytes, bytes) }])
}
