/**
 * Frames of the four- and eight-channel units (AB1004, AB1502, AB2004 …), whose registers hold four bytes.
 *
 *   question: 02 | 0E read or 0F write | address | data, 4 bytes, most significant first | 04
 *   answer:   7E | n | n bytes of (address, data) | checksum: the bytes after n add up to FF
 *
 * In a read the data are the number of registers, where 0 stands for one.
 */
import { GatewayError } from '../../src/base/errors.js'
import { ascii, type Reader } from '../../src/device/dialogue.js'

export const BAUD = 115_200
/** Sent without a line end. */
export const IDENTIFY = ascii('*IDN?')
/** Characters of the identification that every unit sends. */
const NAME_CHARACTERS = 21
/** Pause after it, ms. */
export const AFTER_IDENTIFY_MS = 500

export const REGISTERS = { A: 0, AB: 1, B: 9, C: 18, D: 27, sampling: 80, window: 81, dataId: 83 } as const

const START = 0x02
const READ = 0x0e
const WRITE = 0x0f
const END = 0x04
const ANSWER = 0x7e
const REGISTER_BYTES = 5

function frame(kind: number, address: number, data: number): Uint8Array {
  const bytes = Uint8Array.of(START, kind, address, 0, 0, 0, 0, END)
  new DataView(bytes.buffer).setUint32(3, data)
  return bytes
}

export function readFrame(address: number, registers = 0): Uint8Array {
  return frame(READ, address, registers)
}

export function writeFrame(address: number, data: number): Uint8Array {
  return frame(WRITE, address, data)
}

/** A question as a unit reads it; undefined where it is none. */
export function parseFrame(bytes: Uint8Array): { kind: 'read' | 'write'; address: number; data: number } | undefined {
  const [start, kind, address = 0] = bytes
  if (bytes.length !== 8 || start !== START || bytes[7] !== END || (kind !== READ && kind !== WRITE)) return undefined
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(3)
  return { kind: kind === READ ? 'read' : 'write', address, data }
}

/** So that all bytes after the length add up to FF. */
function checksum(bytes: Uint8Array): number {
  return (0xff - bytes.reduce((sum, byte) => (sum + byte) & 255, 0)) & 255
}

/** An answer with these registers. */
export function answerFrame(registers: readonly { address: number; value: number }[]): Uint8Array {
  const length = registers.length * REGISTER_BYTES
  const bytes = new Uint8Array(length + 3)
  const view = new DataView(bytes.buffer)
  bytes[0] = ANSWER
  bytes[1] = length
  registers.forEach(({ address, value }, i) => {
    bytes[2 + i * REGISTER_BYTES] = address
    view.setUint32(3 + i * REGISTER_BYTES, value)
  })
  bytes[length + 2] = checksum(bytes.subarray(2, length + 2))
  return bytes
}

/** Registers by address. A wrong length or checksum is E_DEVICE_PROTOCOL. */
export const answerReader: Reader<Map<number, number>> = (buffer) => {
  const [first, length] = buffer
  if (first !== undefined && first !== ANSWER) {
    throw new GatewayError('E_DEVICE_PROTOCOL', `byte ${first.toString(16)} came for an answer, not 7e`)
  }
  if (length === undefined) return undefined
  if (length === 0 || length % REGISTER_BYTES !== 0) {
    throw new GatewayError('E_DEVICE_PROTOCOL', `an answer of ${length} bytes: registers of four bytes were expected`)
  }
  const used = length + 3
  if (buffer.length < used) return undefined
  const body = buffer.subarray(2, length + 2)
  if (buffer[length + 2] !== checksum(body))
    throw new GatewayError('E_DEVICE_PROTOCOL', 'an answer with a wrong checksum')
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const registers = new Map<number, number>()
  for (let at = 0; at < length; at += REGISTER_BYTES) registers.set(view.getUint8(at), view.getUint32(at + 1))
  return { value: registers, used }
}

/** "Tausand Abacus AB1004" and more; there is no end mark, so the 21 characters that every unit sends are taken. */
export const identityReader: Reader<string> = (buffer) => {
  if (buffer.length < NAME_CHARACTERS) return undefined
  return { value: Buffer.from(buffer.subarray(0, NAME_CHARACTERS)).toString('latin1'), used: NAME_CHARACTERS }
}

/** Model and channels of a unit. Undefined where it is none. */
export function parseIdentity(identity: string): { model: string; channels: number } | undefined {
  const model = /Tausand Abacus (AB\d{4})/.exec(identity)?.[1]
  return model === undefined ? undefined : { model, channels: Number(model.at(-1)) }
}
