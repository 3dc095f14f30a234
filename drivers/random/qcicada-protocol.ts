/** QCicada's commands and replies: one byte of kind, then a payload of known length. Numbers are little-endian. */
import { GatewayError } from '../../src/base/errors.js'
import type { Reader } from '../../src/device/dialogue.js'

export const BAUD = 1_000_000
export const MOST_BYTES_A_READ = 8_192

const STATUS_REPLY = 0x11
const INFO_REPLY = 0x1b
const CONFIGURATION_REPLY = 0x17
const REFUSED = 0x12

const STATUS_PAYLOAD = 5
const INFO_PAYLOAD = 56
const CONFIGURATION_PAYLOAD = 12

export const GET_STATUS = Uint8Array.of(0x01)
export const STOP = Uint8Array.of(0x05)
export const GET_INFO = Uint8Array.of(0x0b)
export const GET_CONFIGURATION = Uint8Array.of(0x07)

/** Asks for `length` bytes once; they follow the answer at once. */
export function startOneShot(length: number): Uint8Array {
  return Uint8Array.of(0x04, 1, length & 255, length >> 8)
}

/** What may be wrong, from bit 0 of the flags on. */
const FLAGS = [
  'initialised',
  'startUpTest',
  'voltageLow',
  'voltageHigh',
  'voltageUndefined',
  'bitCount',
  'repetition',
  'adaptiveProportion',
] as const
export type QcicadaFlag = (typeof FLAGS)[number]
const FAILURES: ReadonlySet<QcicadaFlag> = new Set([
  'voltageLow',
  'voltageHigh',
  'voltageUndefined',
  'bitCount',
  'repetition',
  'adaptiveProportion',
])

export interface QcicadaStatus {
  flags: ReadonlySet<QcicadaFlag>
  readyBytes: number
}

/** The flags that mean that its bytes are not to be used. */
export function failuresIn(status: QcicadaStatus): QcicadaFlag[] {
  return [...status.flags].filter((flag) => FAILURES.has(flag))
}

function payload(buffer: Uint8Array, kind: number, length: number, what: string): Uint8Array | undefined {
  const first = buffer[0]
  if (first === undefined) return undefined
  if (first === REFUSED) throw new GatewayError('E_DEVICE_PROTOCOL', `the QCicada refused ${what}`)
  if (first !== kind) {
    throw new GatewayError(
      'E_DEVICE_PROTOCOL',
      `byte ${first.toString(16)} came for an answer to ${what}, not ${kind.toString(16)}`,
    )
  }
  return buffer.length < 1 + length ? undefined : buffer.subarray(1, 1 + length)
}

function statusOf(bytes: Uint8Array): QcicadaStatus {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const bits = view.getUint8(0)
  return { flags: new Set(FLAGS.filter((_, i) => (bits >> i) & 1)), readyBytes: view.getUint32(1, true) }
}

/** 11, flags, bytes ready. */
export const statusReader: Reader<QcicadaStatus> = (buffer) => {
  const bytes = payload(buffer, STATUS_REPLY, STATUS_PAYLOAD, 'status')
  return bytes === undefined ? undefined : { value: statusOf(bytes), used: 1 + STATUS_PAYLOAD }
}

/** That answer and the bytes behind it. */
export function oneShotReader(length: number): Reader<{ status: QcicadaStatus; bytes: Uint8Array }> {
  return (buffer) => {
    const head = payload(buffer, STATUS_REPLY, STATUS_PAYLOAD, 'start')
    const from = 1 + STATUS_PAYLOAD
    if (head === undefined || buffer.length < from + length) return undefined
    return {
      value: { status: statusOf(head), bytes: Uint8Array.from(buffer.subarray(from, from + length)) },
      used: from + length,
    }
  }
}

export interface QcicadaInfo {
  coreVersion: number
  firmwareVersion: number
  serialNumber: string
  hardware: string
}

export const infoReader: Reader<QcicadaInfo> = (buffer) => {
  const bytes = payload(buffer, INFO_REPLY, INFO_PAYLOAD, 'information')
  if (bytes === undefined) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const text = (from: number): string =>
    Buffer.from(bytes.subarray(from, from + 24))
      .toString('latin1')
      .replace(/\0.*$/s, '')
      .replace(/[^\x20-\x7e]/g, '?')
  return {
    value: {
      coreVersion: view.getUint32(0, true),
      firmwareVersion: view.getUint32(4, true),
      serialNumber: text(8),
      hardware: text(32),
    },
    used: 1 + INFO_PAYLOAD,
  }
}

export interface QcicadaConfiguration {
  postProcessing: 'sha256' | 'rawNoise' | 'rawSamples' | 'unknown'
  initialLevel: number
}

export const configurationReader: Reader<QcicadaConfiguration> = (buffer) => {
  const bytes = payload(buffer, CONFIGURATION_REPLY, CONFIGURATION_PAYLOAD, 'configuration')
  if (bytes === undefined) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const kinds = ['sha256', 'rawNoise', 'rawSamples'] as const
  return {
    value: { postProcessing: kinds[view.getUint8(0)] ?? 'unknown', initialLevel: view.getFloat32(1, true) },
    used: 1 + CONFIGURATION_PAYLOAD,
  }
}
