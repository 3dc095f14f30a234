import { z } from 'zod'
import { onOff, parseOptions, wholeNumber } from '../../src/device/driver-options.js'

const schema = z
  .strictObject({
    'key-bytes': wholeNumber(1, 255).prefault('16'),
    'runs-per-key': wholeNumber(1, 4_096).optional(),
    'compare-percent': wholeNumber(0, 90).prefault('25'),
    threshold: wholeNumber(0, 1_023).optional(),
    'show-bits': onOff.prefault('off'),
    speed: wholeNumber(1, 1_000).prefault('1'),
    'stable-folder': z.string().min(1).optional(),
  })
  .transform((options) => ({
    keyBytes: options['key-bytes'],
    // Half the pulses are kept on average, less what is compared; a quarter more makes a window too short for its key a
    // rarity.
    runsPerKey:
      options['runs-per-key'] ??
      Math.ceil((options['key-bytes'] * 8 * 1.25) / (8 * (1 - options['compare-percent'] / 100))),
    compareShare: options['compare-percent'] / 100,
    threshold: options.threshold,
    showBits: options['show-bits'],
    speed: options.speed,
    stableFolder: options['stable-folder'],
  }))

export type EkpqcOptions = z.output<typeof schema>

/** Throws E_CONFIG naming the option. */
export function ekpqcOptions(options: Readonly<Record<string, string>>): EkpqcOptions {
  return parseOptions('driver ekpqc', schema, options)
}
