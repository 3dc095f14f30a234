import { z } from 'zod'
import { GatewayError } from '../../src/base/errors.js'
import { onOff, parseOptions } from '../../src/device/driver-options.js'
import { FORMAT_NAMES, type FormatName } from '../../src/device/event-formats/format-names.js'
import type { FormatSettings } from '../../src/device/event-formats/formats.js'
import { parseReplaySpeed } from '../../src/device/trace-replay.js'

const schema = z.strictObject({
  speed: z.string().prefault('recorded'),
  format: z.enum(FORMAT_NAMES).optional(),
  source: z.enum(['card', 'tdc1']).optional(),
  'lost-wraps': z.enum(['auto', 'card', 'tdc1', 'none']).optional(),
  loop: onOff.prefault('off'),
  bits: z.string().min(1).optional(),
})

/** `format`, `source`, `lostWraps`: as for `qkd-gw decode`. `loop`: begin again at the end, behind a gap. */
export interface ReplayOptions {
  /** How many times as fast as recorded; Infinity: as fast as it goes. */
  speed: number
  format: FormatName | undefined
  settings: FormatSettings
  loop: boolean
  /** T3 file with the bits of the T2 file that is played. */
  bits: string | undefined
}

/** The remedy of an E_FORMAT, which names the flags of `qkd-gw decode`, in words of this driver's options. */
export function inDriverOptions(error: unknown): unknown {
  if (!(error instanceof GatewayError) || error.code !== 'E_FORMAT' || error.remedy === undefined) return error
  const remedy = error.remedy.replaceAll(
    /--(format|source)(?: (a0|card|tdc1|t\d)\b)?/g,
    (_flag, option: string, value = '…') => `--driver-option ${option}=${value}`,
  )
  return new GatewayError(error.code, error.message, { remedy, details: error.details, cause: error })
}

/** Throws E_CONFIG. */
export function parseReplayOptions(options: Readonly<Record<string, string>>): ReplayOptions {
  const found = parseOptions('driver replay', schema, options)
  return {
    speed: parseReplaySpeed(found.speed, 'driver replay: speed'),
    format: found.format,
    settings: { source: found.source, lostWraps: found['lost-wraps'] },
    loop: found.loop,
    bits: found.bits,
  }
}
