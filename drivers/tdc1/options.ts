import { z } from 'zod'
import { decimalNumber, onOff, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { GatewayError } from '../../src/base/errors.js'
import type { SerialSettings } from '../../src/io/contract.js'
import { BAUD_RATE, type Mode, type ReferenceClock, type Threshold } from './protocol.js'

const VOLTS = decimalNumber(-4.2, 4.2)

const schema = z.strictObject({
  mode: z.enum(['timestamp', 'singles', 'pairs']).prefault('timestamp'),
  threshold: z.string().prefault('nim'),
  clock: z.enum(['auto', 'external', 'internal']).prefault('auto'),
  'gate-ms': wholeNumber(1, 65_535).prefault('1000'),
  'flush-ms': wholeNumber(5, 10_000).prefault('200'),
  'check-seconds': wholeNumber(0, 86_400).prefault('0'),
  'silent-after-ms': wholeNumber(100, 86_400_000).prefault('3000'),
  remedies: onOff.prefault('on'),
  'stable-folder': z.string().min(1).optional(),
})

/**
 * `mode`: time tags, or counts of single inputs or of pairs. `threshold`: nim, ttl or volts. `gate-ms`: gate of the
 * counting modes. `flush-ms`: pause after which the unit is asked for records that wait in it. `check-seconds`: how often
 * tagging is interrupted to ask for overflow (0: only where something speaks for one). `silent-after-ms`, `remedies`,
 * `stable-folder`: as for every serial device.
 */
export interface Tdc1Options {
  mode: Mode
  threshold: Threshold
  clock: ReferenceClock
  gateMs: number
  flushMs: number
  checkMs: number
  silentAfterMs: number
  remedies: boolean
  stableFolder: string | undefined
}

/** Throws E_CONFIG. */
export function parseTdc1Options(options: Readonly<Record<string, string>>): Tdc1Options {
  const found = parseOptions('driver tdc1', schema, options)
  return {
    mode: found.mode,
    threshold: parseThreshold(found.threshold),
    clock: found.clock,
    gateMs: found['gate-ms'],
    flushMs: found['flush-ms'],
    checkMs: found['check-seconds'] * 1_000,
    silentAfterMs: found['silent-after-ms'],
    remedies: found.remedies,
    stableFolder: found['stable-folder'],
  }
}

function parseThreshold(text: string): Threshold {
  const name = text.toLowerCase()
  if (name === 'nim' || name === 'ttl') return name
  const volts = VOLTS.safeParse(text)
  if (volts.success) return volts.data
  throw new GatewayError(
    'E_CONFIG',
    `driver tdc1: threshold: "${text}" is neither nim nor ttl nor volts from -4.2 to 4.2`,
    {
      remedy: 'options are written as name=value; the README of the driver lists them',
    },
  )
}

/** Raw, no flow control: with RTS/CTS the unit holds data back. */
export const serialSettings = (): SerialSettings => ({ baudRate: BAUD_RATE })
