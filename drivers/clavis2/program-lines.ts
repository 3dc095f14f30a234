/** What the host program prints, and how it is called. */
import type { DeviceEvent } from '../../src/device/contract.js'

export const PROGRAM_NAME = 'QKDSequence'
/** What the program is given where a session asks for 0 dB. */
const DEFAULT_ATTENUATION_DB = 3

type Figure = Extract<DeviceEvent, { type: 'figure' }>

export interface ProgramLine {
  level: 'info' | 'warn' | 'error' | 'unknown'
  text: string
  figure?: Figure
  /** The line that says a round is finished, after which keys can be fetched. */
  keysReady: boolean
}

interface Rule {
  pattern: RegExp
  path: readonly string[]
  unit: Figure['unit']
  keysReady?: true
}

const NUMBER = '(\\d+(?:\\.\\d+)?)'
/** Paths and units as upstream reports them, the two wrong units (% for bit/s, Hz for m) included. */
const RULES: readonly Rule[] = [
  {
    pattern: new RegExp(`VisibilityMeasurement: Visibility of the system: ${NUMBER}%`),
    path: ['Alignment', 'Visibility'],
    unit: 'percent',
  },
  {
    pattern: new RegExp(`ErrorCorrectionCascade: QBER: ${NUMBER}`),
    path: ['ErrorCorrection', 'QBER'],
    unit: 'percent',
  },
  { pattern: new RegExp(`PrivacyAmplification: Final key size: ${NUMBER}`), path: ['Key', 'Key size'], unit: 'count' },
  { pattern: new RegExp(`LineMeasurement: Line length:\\s+${NUMBER}`), path: ['Key', 'Line length'], unit: 'hz' },
  {
    pattern: new RegExp(`PrivacyAmplification: Secret Key Rate = ${NUMBER}`),
    path: ['Key', 'Key Rate'],
    unit: 'percent',
    keysReady: true,
  },
]

/** Reads one line. Figures are taken from INFO lines only. */
export function parseProgramLine(text: string): ProgramLine {
  if (text.startsWith('WARN')) return { level: 'warn', text, keysReady: false }
  if (text.startsWith('ERROR')) return { level: 'error', text, keysReady: false }
  if (!text.startsWith('INFO')) return { level: 'unknown', text, keysReady: false }
  for (const { pattern, path, unit, keysReady } of RULES) {
    const value = pattern.exec(text)?.[1]
    if (value === undefined) continue
    return {
      level: 'info',
      text,
      figure: { type: 'figure', path, value: Number(value), unit },
      keysReady: keysReady === true,
    }
  }
  return { level: 'info', text, keysReady: false }
}

/** Arguments of Bob's program; upstream gives six decimals. */
export function bobArguments(lineAttenuationDb: number): string[] {
  const attenuationDb = lineAttenuationDb > 0 ? lineAttenuationDb : DEFAULT_ATTENUATION_DB
  return ['--bob', '--line_attenuation', attenuationDb.toFixed(6)]
}

/** Arguments of Alice's program. `bobAddress` is the address of the machine that runs Bob's. */
export function aliceArguments(bobAddress: string): string[] {
  return ['--alice', '--ip_bob', bobAddress]
}
