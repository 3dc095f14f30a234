/** Commands and answers of the kit's quantum board, and the arithmetic of one run of 16 qubits. Pure. */
import { ascii, type Reader } from '../../src/device/dialogue.js'
import { GatewayError } from '../../src/base/errors.js'

export const BAUD = 38_400
/** Qubits of one run. */
export const RUN_QUBITS = 16
/** Opening the port resets the board; it answers nothing before, ms. */
export const BOOT_MS = 2_000
/** TXSEQ and, from the first light on, RXSEQ take so long, ms. */
export const RUN_MS = 16_200

/** A command of at most 15 characters. The board takes it as whole at the blank; a line end would become part of it. */
export function command(text: string): Uint8Array {
  if (!/^[\x21-\x7e]{1,15}$/.test(text)) throw new GatewayError('E_INTERNAL', `"${text}" is no command of the board`)
  return ascii(`${text} `)
}

/**
 * `POLSEQ` with its 16 digits. The board counts the digits and answers after the last: a blank after them would count as
 * a second, empty command.
 */
export function polarisationSequence(digits: Uint8Array): Uint8Array {
  if (digits.length !== RUN_QUBITS || digits.some((digit) => digit > 3)) {
    throw new GatewayError('E_INTERNAL', 'a sequence is 16 digits from 0 to 3')
  }
  return ascii(`POLSEQ ${digits.join('')}`)
}

/** 16 whole numbers, each followed by a blank, then LF. Anything else in that line is E_DEVICE_PROTOCOL. */
export const readingsReader: Reader<number[]> = (buffer) => {
  const at = buffer.indexOf(0x0a)
  if (at === -1) {
    if (buffer.length > RUN_QUBITS * 8) throw new GatewayError('E_DEVICE_PROTOCOL', 'readings without an end')
    return undefined
  }
  const text = Buffer.from(buffer.subarray(0, at)).toString('latin1').trim()
  const readings = text.split(/\s+/)
  if (readings.length !== RUN_QUBITS || !readings.every((reading) => /^\d{1,4}$/.test(reading))) {
    throw new GatewayError('E_DEVICE_PROTOCOL', `not 16 readings but "${text.slice(0, 60)}"`)
  }
  return { value: readings.map(Number), used: at + 1 }
}

/** Bit of a digit: 0 for H and D, 1 for V and A. */
export function bitOf(digit: number): number {
  return digit >> 1
}

/** Basis of a digit: 0 for H and V, 1 for D and A. */
export function basisOf(digit: number): number {
  return digit & 1
}

export const POLARISATIONS = ['H', 'D', 'V', 'A'] as const

/** Bob's bits: light above the threshold is 0. */
export function bitsOfReadings(readings: readonly number[], threshold: number): Uint8Array {
  return Uint8Array.from(readings, (reading) => (reading > threshold ? 0 : 1))
}

/** Basis as the sifting messages have it: 0 rectilinear, 2 diagonal. */
export function basisOnWire(digit: number): number {
  return basisOf(digit) * 2
}

/** The bits with equal basis that were not compared in public, in order. */
export function keep(bits: Uint8Array, answers: Uint8Array, compared: Uint8Array): Uint8Array {
  return bits.filter((_, i) => answers[i] === 1 && compared[i] !== 1)
}

/**
 * After the bases some of the kept bits are compared in public, by the same call: its frame is the run's number with this
 * bit set, its bases are the bits (0, or 2 for 1) or "invalid" where a bit is not compared; the answer says which agree.
 */
export const COMPARISON_FRAME = 1n << 63n
const NOT_COMPARED = 6

/** 16 entries of a comparison, `compared` 1 where the bit is told. */
export function comparisonOnWire(bits: Uint8Array, compared: Uint8Array): Uint8Array {
  return bits.map((bit, i) => (compared[i] === 1 ? 2 * bit : NOT_COMPARED))
}

/** The inverse; undefined where it is no comparison of a run. */
export function comparisonOf(bases: Uint8Array): { bits: Uint8Array; compared: Uint8Array } | undefined {
  if (bases.length !== RUN_QUBITS || bases.some((value) => value !== 0 && value !== 2 && value !== NOT_COMPARED))
    return undefined
  return {
    bits: bases.map((value) => (value === 2 ? 1 : 0)),
    compared: bases.map((value) => (value === NOT_COMPARED ? 0 : 1)),
  }
}

// The classical (infrared) board.

/** What `SEND` takes and `RECV` prints at a time. */
export const INFRARED_BYTES = 4
const HEADER = [7, 7, 7]

/** What `SEND` is given for a message: the header that names the sender, and later the four bytes of text. */
export function infraredHeader(sender: 'A' | 'B'): Uint8Array {
  return Uint8Array.from([...ascii('SEND '), ...HEADER, sender.charCodeAt(0)])
}

export function infraredText(text: string): Uint8Array {
  if (!/^[\x20-\x7e]{4}$/.test(text)) throw new GatewayError('E_INTERNAL', 'an infrared message is 4 characters')
  return ascii(`SEND ${text}`)
}

/** What `RECV` prints for four bytes: hex, upper case, without leading zero and without line end. */
export function infraredPrint(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('hex')
    .toUpperCase()
    .replace(/^0+(?=.)/, '')
}

/** The four bytes of such a print; undefined where it is none. */
export function infraredBytes(print: string): Uint8Array | undefined {
  if (!/^[0-9A-F]{1,8}$/.test(print)) return undefined
  return Uint8Array.from(Buffer.from(print.padStart(8, '0'), 'hex'))
}

/** 16 bases (0 or 1 each) or answers as four hex digits, the first as the highest bit. */
export function hexMask(flags: Uint8Array): string {
  return flags
    .reduce((mask, flag) => (mask << 1) | flag, 0)
    .toString(16)
    .toUpperCase()
    .padStart(4, '0')
}

/** The inverse; undefined where it is no mask. */
export function flagsOfMask(text: string): Uint8Array | undefined {
  if (!/^[0-9A-Fa-f]{4}$/.test(text)) return undefined
  const mask = Number.parseInt(text, 16)
  return Uint8Array.from({ length: RUN_QUBITS }, (_, i) => (mask >> (RUN_QUBITS - 1 - i)) & 1)
}
