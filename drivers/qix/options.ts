import { z } from 'zod'
import { onOff, parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import type { SerialSettings } from '../../src/io/contract.js'
import { DEFAULT_BAUD } from './protocol.js'

/** A unit that makes one key a second must not count as silent. */
const DEFAULT_SILENT_AFTER_MS = 5_000

/**
 * `baud`, `stop-bits` and `flow-control` are the line's settings. `silent-after-ms`: how long a unit may say nothing
 * before it counts as silent. `remedies`: whether the port is opened anew after long silence. `stable-folder`: where
 * stable device names live.
 */
const optionsSchema = z.strictObject({
  baud: wholeNumber(50, 4_000_000).prefault(String(DEFAULT_BAUD)),
  'stop-bits': wholeNumber(1, 2).prefault('1'),
  'flow-control': z.enum(['none', 'rtscts', 'xonxoff']).prefault('none'),
  'silent-after-ms': wholeNumber(100, 86_400_000).prefault(String(DEFAULT_SILENT_AFTER_MS)),
  remedies: onOff.prefault('on'),
  'stable-folder': z.string().min(1).optional(),
})

export type QixOptions = z.infer<typeof optionsSchema>

/** Throws E_CONFIG. */
export function parseQixOptions(options: Readonly<Record<string, string>>): QixOptions {
  return parseOptions('driver qix', optionsSchema, options)
}

/** Line settings that the options ask for. Throws E_CONFIG. */
export function serialSettings(options: Readonly<Record<string, string>>): SerialSettings {
  const parsed = parseQixOptions(options)
  return {
    baudRate: parsed.baud,
    stopBits: parsed['stop-bits'] === 2 ? 2 : 1,
    hardwareFlowControl: parsed['flow-control'] === 'rtscts',
    softwareFlowControl: parsed['flow-control'] === 'xonxoff',
  }
}
