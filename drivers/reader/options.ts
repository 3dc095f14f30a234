import { z } from 'zod'
import { GatewayError } from '../../src/base/errors.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { FORMAT_NAMES, type FormatName } from '../../src/device/event-formats/format-names.js'
import type { LostWraps } from '../../src/device/event-formats/event-value-steps.js'

/** The maker's reader, found by the system's search path. */
const DEFAULT_COMMAND = 'readevents7'

const schema = z.strictObject({
  args: z.string().prefault('-a1 -X -A -s'),
  'first-run': z.string().prefault('-q1'),
  format: z.enum(FORMAT_NAMES).optional(),
  source: z.enum(['card', 'tdc1']).prefault('card'),
  'lost-wraps': z.enum(['auto', 'card', 'tdc1', 'none']).prefault('auto'),
  'restart-ms': wholeNumber(10, 600_000).prefault('2000'),
  'silent-after-ms': wholeNumber(100, 86_400_000).prefault('5000'),
})

export interface ReaderOptions {
  command: string
  args: readonly string[]
  /** What is added to `args` in a first run whose output is thrown away (stale events); undefined: there is none. */
  firstRun: readonly string[] | undefined
  format: FormatName
  source: 'card' | 'tdc1'
  lostWraps: LostWraps
  /** Pause before the program is started again; it grows where it dies at once. */
  restartMs: number
  silentAfterMs: number
}

/** `device` is the program. Throws E_CONFIG. */
export function parseReaderOptions(device: string, options: Readonly<Record<string, string>>): ReaderOptions {
  const found = parseOptions('driver reader', schema, options)
  const args = splitArguments(found.args)
  const firstRun = found['first-run']
  return {
    command: device === '' ? DEFAULT_COMMAND : device,
    args,
    firstRun: firstRun === 'off' ? undefined : splitArguments(firstRun),
    format: found.format ?? formatOf(args),
    source: found.source,
    lostWraps: found['lost-wraps'],
    restartMs: found['restart-ms'],
    silentAfterMs: found['silent-after-ms'],
  }
}

/** Words between blanks; single or double quotes keep blanks together. No shell ever sees them. Throws E_CONFIG. */
export function splitArguments(text: string): string[] {
  const words: string[] = []
  const pattern = /\s*(?:"([^"]*)"|'([^']*)'|([^\s"']+))/y
  while (pattern.lastIndex < text.trimEnd().length) {
    const at = pattern.lastIndex
    const match = pattern.exec(text)
    if (match === null)
      throw new GatewayError('E_CONFIG', `driver reader: args: a quote is not closed in: ${text.slice(at).trim()}`)
    words.push(match[1] ?? match[2] ?? match[3] ?? '')
  }
  return words
}

/** The form that `-a n` and `-X` ask the maker's readers for. */
function formatOf(args: readonly string[]): FormatName {
  const joined = args.join(' ')
  const form = /(?:^| )-a ?([0-4])\b/.exec(joined)?.[1] ?? '0'
  if (form === '1') return /(?:^| )-X\b/.test(joined) ? 'a1X' : 'a1'
  if (form === '2') return 'a2'
  if (form === '4') return 'a4'
  if (form === '0') return 'a0'
  throw new GatewayError(
    'E_CONFIG',
    `driver reader: the program is asked for form a${form}, which is for people to read`,
    {
      remedy: 'use -a0, -a1, -a2 or -a4, or name the format of its output with format=',
    },
  )
}
