/** What is said to a TDC1 and what it answers. Records of its time-tag stream: `src/device/event-formats/tdc1-words.ts`. */
import { GatewayError } from '../../src/base/errors.js'

/** The rate is of no account on its USB port, but one has to be set. */
export const BAUD_RATE = 115_200
/** The unit takes no more in one write. */
export const MOST_BYTES_A_WRITE = 255
/** What an answer to `*IDN?` contains; the rest of it is not public. */
export const IDENTITY = 'TDC1'
/** Four hexadecimal digits, a space, CR LF. */
export const STATUS_BYTES = 7
const OVERFLOW_FLAG = 0x10

export const MODES = { singles: 0, pairs: 1, timestamp: 3 } as const
export type Mode = keyof typeof MODES

/** Which counts `COUNTS?` answers, in this order. */
export const COUNT_NAMES: Readonly<Record<'singles' | 'pairs', readonly string[]>> = {
  singles: ['1', '2', '3', '4'],
  pairs: ['1', '2', '3', '4', '1-3', '1-4', '2-3', '2-4'],
}

/** The threshold of the inputs: a standard, or volts (below zero for negative pulses). */
export type Threshold = 'nim' | 'ttl' | number
/** Where the clock comes from. */
export type ReferenceClock = 'auto' | 'external' | 'internal'
const CLOCK_NUMBERS: Readonly<Record<ReferenceClock, number>> = { auto: 0, external: 1, internal: 2 }

const encoder = new TextEncoder()

/** One line of commands. Throws RangeError beyond 255 bytes. */
export function commandLine(...commands: readonly string[]): Uint8Array {
  const bytes = encoder.encode(`${commands.join(';')}\r\n`)
  if (bytes.length > MOST_BYTES_A_WRITE) throw new RangeError(`${bytes.length} bytes in one line of commands`)
  return bytes
}

/** NIM, TTL, NEG or POS. */
export function thresholdCommand(threshold: Threshold): string {
  if (typeof threshold === 'string') return threshold.toUpperCase()
  return threshold < 0 ? `NEG ${threshold}` : `POS ${threshold}`
}

export interface Settings {
  threshold: Threshold
  clock: ReferenceClock
  /** Gate in ms, 1 to 65535; 0 without end. */
  gateMs: number
}

/** Begins to send time tags: reset, settings, mode, go. There is no answer but the records. */
export function startTagging({ threshold, clock, gateMs }: Settings): Uint8Array {
  return commandLine(
    '*RST',
    thresholdCommand(threshold),
    `REFCLK ${CLOCK_NUMBERS[clock]}`,
    `TIME ${gateMs}`,
    'TIMESTAMP',
    'COUNTS?',
  )
}

/** The settings of a counting mode, one line each: the unit wants a pause behind each. */
export function countingSettings(mode: 'singles' | 'pairs', { threshold, clock, gateMs }: Settings): Uint8Array[] {
  return [
    commandLine('*RST'),
    commandLine(thresholdCommand(threshold)),
    commandLine(`REFCLK ${CLOCK_NUMBERS[clock]}`),
    commandLine(`TIME ${gateMs}`),
    commandLine(mode.toUpperCase()),
  ]
}

/** Ends the stream; the answer is a status, behind what records were still on their way. */
export const STOP_TAGGING = commandLine('ABORT', 'STATUS?')
export const RESET = commandLine('*RST')
/** Sends on the records that wait for a USB packet to fill. */
export const FLUSH = commandLine('INPKT')
export const ABORT = commandLine('ABORT')
export const NOTHING = encoder.encode('\r\n')
export const ASK_IDENTITY = commandLine('*IDN?')
export const ASK_COUNTS = commandLine('COUNTS?')
export const ASK_STATUS = commandLine('STATUS?')

export interface Status {
  flags: number
  /** The FIFO ran over: records are missing. */
  overflow: boolean
}

const STATUS = /^([0-9a-fA-F]{4}) \r\n$/

/** The status in the last bytes of what came, or undefined while it is not there. */
export function statusAtEnd(bytes: Uint8Array): Status | undefined {
  if (bytes.length < STATUS_BYTES) return undefined
  const match = STATUS.exec(new TextDecoder('latin1').decode(bytes.subarray(bytes.length - STATUS_BYTES)))
  if (match === null) return undefined
  const flags = Number.parseInt(match[1] ?? '', 16)
  return { flags, overflow: (flags & OVERFLOW_FLAG) !== 0 }
}

/** Counts of one gate. Throws E_DEVICE_PROTOCOL where there are not 4 (singles) or 8 (pairs) of them. */
export function parseCounts(line: string, mode: 'singles' | 'pairs'): number[] {
  const words = line.trim().split(/\s+/)
  const expected = COUNT_NAMES[mode].length
  if (words.length !== expected || !words.every((word) => /^\d{1,10}$/.test(word)))
    throw new GatewayError(
      'E_DEVICE_PROTOCOL',
      `COUNTS? was answered by "${line.slice(0, 60)}", not by ${expected} counts`,
    )
  return words.map(Number)
}

/** The gate that `TIME?` answers: it is printed as a signed 16-bit number. */
export function parseGateMs(line: string): number {
  const number = /^\s*(-?\d{1,5})/.exec(line)?.[1]
  if (number === undefined)
    throw new GatewayError('E_DEVICE_PROTOCOL', `TIME? was answered by "${line.slice(0, 60)}", not by a number`)
  return Number(number) < 0 ? Number(number) + 65_536 : Number(number)
}

/** The threshold in volts that `LEVEL?` answers: its first word. */
export function parseLevel(line: string): number {
  const volts = Number(line.trim().split(/\s+/)[0])
  if (line.trim() === '' || !Number.isFinite(volts))
    throw new GatewayError('E_DEVICE_PROTOCOL', `LEVEL? was answered by "${line.slice(0, 60)}", not by volts`)
  return volts
}
