import { GatewayError } from '../../base/errors.js'

/** Kinds of epoch files: events, times and bases, bits, kept indices, key. */
export type EpochKind = 1 | 2 | 3 | 4 | 7

/** An epoch lasts 2^32 eighths of a nanosecond. */
export const EPOCH_UNITS = 2 ** 32
/** Added to the tag where the epoch number is extended to 32 bits of Unix time. */
export const EXTENDED_TAG = 0x100

/** Words of each kind's header. */
export const HEADER_WORDS: Readonly<Record<EpochKind, number>> = { 1: 5, 2: 6, 3: 4, 4: 5, 7: 4 }

export interface EpochHeader {
  kind: EpochKind
  /** True where the epoch number holds 32 bits instead of 17. */
  extended: boolean
  epoch: number
  /** Entries that the writer announces (T7: epochs). 0 where it did not know. */
  length: number
  /** T1: 49, 4. T2: time order, base bits, protocol. T3: bits an entry. T4: index order, base bits. T7: key bits. */
  fields: readonly number[]
}

/** The kind that a first word names, or undefined. */
export function epochKind(tag: number): EpochKind | undefined {
  const kind = tag & ~EXTENDED_TAG
  return kind === 1 || kind === 2 || kind === 3 || kind === 4 || kind === 7 ? kind : undefined
}

/** Checks the words of a header; throws E_FORMAT saying what does not hold. */
export function parseEpochHeader(words: readonly number[], expected: EpochKind): EpochHeader {
  const [tag = 0, epoch = 0, length = 0, ...fields] = words
  const kind = epochKind(tag)
  if (kind !== expected)
    throw refuse(
      expected,
      kind === undefined
        ? `its first word is ${tag.toString(16)}, not ${expected} or ${(expected + EXTENDED_TAG).toString(16)} (hexadecimal)`
        : `it is a T${kind} file`,
      kind === undefined ? 'leave --format away to have the format told by content' : `use --format t${kind}`,
    )
  const [a = 0, b = 0, c = 0] = fields
  if (kind === 1 && (a !== 49 || b !== 4))
    throw refuse(kind, `its header names ${a} time and ${b} detector bits, not 49 and 4`)
  if ((kind === 2 || kind === 4) && (a < 2 || a > 32 || b > 16))
    throw refuse(kind, `its header names ${a} bits a difference (2 to 32) and ${b} base bits (at most 16)`)
  if (kind === 2 && c > 5) throw refuse(kind, `its header names protocol ${c}, which is none`)
  if (kind === 3 && (a < 1 || a > 16)) throw refuse(kind, `its header names ${a} bits an entry (1 to 16)`)
  return { kind, extended: tag !== kind, epoch, length, fields }
}

/** The header's words. */
export function epochHeaderWords(header: EpochHeader): number[] {
  return [header.kind + (header.extended ? EXTENDED_TAG : 0), header.epoch, header.length, ...header.fields]
}

/** The epoch as its files are named: 8 hexadecimal digits. */
export function epochName(epoch: number): string {
  return (epoch >>> 0).toString(16).padStart(8, '0')
}

function refuse(
  kind: EpochKind,
  what: string,
  remedy = 'check that the file is whole and an epoch file',
): GatewayError {
  return new GatewayError('E_FORMAT', `no T${kind} epoch file: ${what}`, { remedy })
}
