import { GatewayError, messageOf } from '../../base/errors.js'
import { epochKind, type EpochKind, HEADER_WORDS, parseEpochHeader } from './epoch-header.js'
import { FORMAT_NAMES, FORMAT_TITLES, type FormatName } from './format-names.js'
import type { FormatSettings } from './formats.js'
import { HexTextDecoder } from './hex-text.js'
import { parseLabviewLine } from './labview-text.js'
import {
  readsAsCqp,
  readsAsNox,
  readsAsQutag,
  readsAsTdc1,
  readsAsValues,
  wordsOf,
  type ValueReading,
} from './plausible-readings.js'

/** So many bytes from the beginning are enough to tell a format, if it can be told. */
export const SAMPLE_BYTES = 65_536

/** In a file this short a reading may hold by chance. */
const FEW_WORDS = 32

export interface Detection {
  format: FormatName
  settings: FormatSettings
  /** Why, as half a sentence. */
  because: string
}

/**
 * Tells a file's format from its beginning. `whole`: the sample is all there is. Throws E_FORMAT with the reason and the
 * option that settles it where two readings are possible or none.
 */
export function detectFormat(sample: Uint8Array, whole: boolean, name: string): Detection {
  if (sample.length === 0) {
    throw new GatewayError('E_FORMAT', `${name} is empty`, { remedy: 'check that the recording has ended well' })
  }
  return isText(sample) ? detectText(sample, whole, name) : detectBinary(sample, name)
}

function isText(sample: Uint8Array): boolean {
  for (const byte of sample) {
    if (byte >= 0x20 ? byte > 0x7e : byte !== 9 && byte !== 10 && byte !== 13) return false
  }
  return true
}

function detectText(sample: Uint8Array, whole: boolean, name: string): Detection {
  const text = new TextDecoder('latin1').decode(sample)
  const lines = text.split(/\r?\n/)
  // The sample, and a recording that was cut off, may end in the middle of a line.
  const last = lines.pop() ?? ''
  if (whole && (lines.length === 0 || last.trim().length >= (lines[0]?.trim().length ?? 0))) lines.push(last)
  const numbered = lines.map((line, i) => ({ number: i + 1, line: line.trim() })).filter(({ line }) => line !== '')
  const first = numbered[0]?.line
  if (first === undefined) throw cannotTell(name, 'it holds no whole line of text', 'one of a0, a2 or labview')
  if (parseLabviewLine(first) !== undefined)
    return { format: 'labview', settings: {}, because: 'its lines are five digits and a time' }
  for (const [digits, format] of [
    [16, 'a2'],
    [8, 'a0'],
  ] as const) {
    const fits = (line: string): boolean => line.length === digits && /^[0-9a-fA-F]+$/.test(line)
    if (!fits(first)) continue
    const other = numbered.find(({ line }) => !fits(line))
    if (other !== undefined)
      throw new GatewayError(
        'E_FORMAT',
        `${name}: it begins as ${format}, ${digits} hexadecimal digits a line, but line ${other.number} is "${other.line.slice(0, 40)}"`,
        { remedy: 'take that line out: no format mixes such lines' },
      )
    if (format === 'a2') return { format, settings: {}, because: 'its lines are 16 hexadecimal digits' }
    return detectWordText(
      numbered.map(({ line }) => line),
      name,
    )
  }
  throw cannotTell(
    name,
    `its first line is neither 8 nor 16 hexadecimal digits nor a line of LabVIEW text: "${first.slice(0, 40)}"`,
    'a0, a2 or labview, once what is no record is taken out',
  )
}

/** `a0` from the card (pairs, low word first) or from a TDC1 (raw words). */
function detectWordText(lines: readonly string[], name: string): Detection {
  const decoder = new HexTextDecoder(8)
  const words = wordsOf(decoder.decode(new TextEncoder().encode(`${lines.join('\n')}\n`)))
  const raw = readsAsTdc1(words)
  const pairs = readsAsValues(words, 0)
  // Fewer lines hold no two pairs: then nothing speaks against pairs.
  const enough = words.length >= 4
  if (raw.certain || (raw.holds && !pairs.holds && enough))
    return {
      format: 'a0',
      settings: { source: 'tdc1' },
      because: 'its 8-digit lines follow each other as TDC1 records do',
    }
  if (pairs.holds && !raw.holds)
    return { format: 'a0', settings: { source: 'card' }, because: 'its pairs of 8-digit lines ascend in time' }
  const doubt = !enough
    ? 'too few 8-digit lines to tell pairs of the 4 ps card from raw words of a TDC1'
    : raw.holds
      ? 'its 8-digit lines read as pairs of the 4 ps card and as raw words of a TDC1'
      : 'its 8-digit lines ascend neither as pairs nor as raw words'
  throw new GatewayError('E_FORMAT', `${name}: ${doubt}`, {
    remedy: 'say which unit wrote it: --format a0 --source card, or --format a0 --source tdc1',
  })
}

function detectBinary(sample: Uint8Array, name: string): Detection {
  const [first = 0] = sample
  if (sample.length > 8 && sample.every((byte) => byte === first))
    throw new GatewayError('E_FORMAT', `${name}: all its bytes are ${first.toString(16).padStart(2, '0')}`, {
      remedy: 'record anew: there are no events in it',
    })
  const words = wordsOf(sample)
  const epoch = detectEpoch(words)
  if (epoch !== undefined && !('fault' in epoch)) return epoch
  const nox = readsAsNox(sample)
  if (nox.certain)
    return { format: 'nox', settings: {}, because: 'each 8 bytes begin with 24 or 25 and have the blank nibble' }
  const raw = readsAsTdc1(words)
  if (raw.certain) return { format: 'tdc1', settings: {}, because: 'its words follow each other as TDC1 records do' }
  const found: Detection[] = []
  const add = (format: FormatName, because: string): void => {
    found.push({ format, settings: {}, because })
  }
  if (nox.holds) add('nox', 'each 8 bytes begin with 24 or 25')
  if (raw.holds) add('tdc1', 'its words follow each other as TDC1 records do')
  const values = valueDetection(words, sample.length)
  if (values !== undefined) found.push(values)
  if (readsAsQutag(sample).holds)
    add('qutag', 'behind 40 bytes, each 10 bytes hold a time near the one before and a small channel')
  if (readsAsCqp(sample).holds) add('cqp', 'each 9 bytes hold a time behind the one before and a small number')
  const [only, ...others] = found
  if (only === undefined) throw refuseBytes(sample, name, epoch)
  if (epoch !== undefined && words.length < FEW_WORDS)
    throw cannotTell(
      name,
      `it reads as ${only.format} (${FORMAT_TITLES[only.format]}), but begins like an epoch file: ${epoch.fault}`,
      `${only.format}, or t${epoch.kind}${epoch.cutOff ? ' if it is cut off' : ''}`,
    )
  if (others.length === 0) return only
  throw cannotTell(
    name,
    `it is too short or too regular to tell: it reads as ${found.map(({ format }) => `${format} (${FORMAT_TITLES[format]})`).join(' and as ')}`,
    found.map(({ format }) => format).join(' or '),
  )
}

/** What other programs put at the beginning of their files, in hexadecimal, and how to get at what is inside. */
const SIGNATURES: readonly (readonly [begin: string, what: string, remedy: string])[] = [
  ['1f8b', 'a file compressed by gzip', 'unpack it first: gunzip -c FILE | qkd-gw decode -'],
  ['28b52ffd', 'a file compressed by zstd', 'unpack it first: zstd -dc FILE | qkd-gw decode -'],
  ['fd377a585a00', 'a file compressed by xz', 'unpack it first: xz -dc FILE | qkd-gw decode -'],
  ['425a68', 'a file compressed by bzip2', 'unpack it first: bzip2 -dc FILE | qkd-gw decode -'],
  ['504b0304', 'a zip archive', 'unpack it first: unzip -p FILE | qkd-gw decode -'],
  ['efbbbf', 'text behind a byte order mark', 'save it as plain text, without that mark'],
  ['fffe', 'text in 16-bit characters', 'save it as plain text (ASCII)'],
]

/** For bytes that read as nothing. */
function refuseBytes(sample: Uint8Array, name: string, epoch: EpochFault | undefined): GatewayError {
  const begin = Buffer.from(sample.subarray(0, 8)).toString('hex')
  const signature = SIGNATURES.find(([bytes]) => begin.startsWith(bytes))
  if (signature !== undefined && sample.length >= 32)
    return new GatewayError('E_FORMAT', `${name}: it looks like ${signature[1]}`, { remedy: signature[2] })
  if (epoch !== undefined)
    return cannotTell(
      name,
      `it begins like an epoch file, but: ${epoch.fault}`,
      `${epoch.cutOff ? `t${epoch.kind} if it is cut off, ` : ''}another one if it is no epoch file`,
    )
  const bytes = sample.length === 1 ? 'one byte reads' : `first ${sample.length} bytes read`
  const short = sample.length < 16 ? ': two records at least are needed to tell' : ''
  return cannotTell(name, `its ${bytes} as no known format${short}`, FORMAT_NAMES.join(', '))
}

/** `a1` or `a1X`, by which reading ascends; where both do, the one whose times lie close together. */
function valueDetection(words: Uint32Array, bytes: number): Detection | undefined {
  if (bytes < 16) return undefined
  const low = readsAsValues(words, 0)
  const high = readsAsValues(words, 1)
  const percent = (share: number): string => `${Math.round(share * 100)} %`
  const pick = (format: FormatName, taken: ValueReading, other: ValueReading): Detection => ({
    format,
    settings: {},
    because: other.holds
      ? 'its times ascend in either word order, but lie close together only in this one'
      : `time goes back at ${percent(taken.backShare)} of the records, in the other word order at ${percent(other.backShare)}`,
  })
  if (low.holds && (!high.holds || low.span < high.span >> 8n)) return pick('a1', low, high)
  if (high.holds && (!low.holds || high.span < low.span >> 8n)) return pick('a1X', high, low)
  return undefined
}

/** A first word that names an epoch file, and a header that is none. */
interface EpochFault {
  kind: EpochKind
  fault: string
  /** The header holds, and announces more than there is. */
  cutOff: boolean
}

/** An epoch file by its header, or what is wrong with a header that begins like one. */
function detectEpoch(words: Uint32Array): Detection | EpochFault | undefined {
  const kind = epochKind(words[0] ?? 0)
  if (kind === undefined || words.length < 2) return undefined
  if (words.length < HEADER_WORDS[kind])
    return { kind, fault: `a T${kind} header has ${4 * HEADER_WORDS[kind]} bytes, and it ends before`, cutOff: false }
  try {
    const header = parseEpochHeader([...words.subarray(0, HEADER_WORDS[kind])], kind)
    // A list of bits says how long it is; any other file that begins with a small number does not fit.
    const bits = kind === 3 ? header.length * (header.fields[0] ?? 0) : kind === 7 ? (header.fields[0] ?? 0) : 0
    const needed = HEADER_WORDS[kind] + Math.ceil(bits / 32)
    if ((kind === 3 || kind === 7) && words.length < SAMPLE_BYTES / 4 && words.length !== needed) {
      const fault = `its T${kind} header announces ${4 * needed} bytes, and it has ${4 * words.length}`
      return { kind, fault, cutOff: words.length < needed }
    }
    return { format: `t${kind}`, settings: {}, because: `its header is that of a T${kind} epoch file` }
  } catch (error) {
    return { kind, fault: messageOf(error), cutOff: false }
  }
}

function cannotTell(name: string, reason: string, which: string): GatewayError {
  return new GatewayError('E_FORMAT', `${name}: its format cannot be told: ${reason}`, {
    remedy: `name it with --format: ${which}`,
  })
}
