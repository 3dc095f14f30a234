/** Commands and answers of the CC1: text lines that end with LF. */
import { ascii } from '../../src/device/dialogue.js'

export const BAUD = 19_200

export type Counter = 'C1' | 'C2' | 'CO'

/** A command with its line end. */
export function line(text: string): Uint8Array {
  return ascii(`${text}\n`)
}

/** Takes the echo of each command away; firmware before 2.2 does not know it. */
export const NO_ACKNOWLEDGE = line(':ACKN OF')

export function countQuery(counter: Counter): string {
  return `COUN:${counter}?`
}

/** "Firmware v2.010" → 2.01. Undefined where it is none. */
export function parseFirmware(answer: string): number | undefined {
  const match = /^Firmware v(\d+\.\d+)$/i.exec(answer.trim())
  return match?.[1] === undefined ? undefined : Number(match[1])
}

/** From this version on gates are switched by word and the dwell time is told in seconds. */
export const NEW_FROM = 2.2

/** A number, with whatever unit behind it. Undefined where the answer does not begin with one. */
export function parseNumber(answer: string): number | undefined {
  const match = /^\s*([+-]?\d+(?:\.\d+)?)/.exec(answer)
  return match?.[1] === undefined ? undefined : Number(match[1])
}

/** Seconds that one count lasts. */
export function dwellSeconds(answer: string, firmware: number): number | undefined {
  const value = parseNumber(answer)
  if (value === undefined || value <= 0) return undefined
  return firmware < NEW_FROM ? value / 1_000 : value
}

export function gateCommand(on: boolean, firmware: number): Uint8Array {
  if (firmware < NEW_FROM) return line(`:GATE ${on ? 1 : 0}`)
  return line(on ? ':GATE:ON' : ':GATE:OFF')
}
