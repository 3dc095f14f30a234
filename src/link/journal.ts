/**
 * The journal of one link: where each batch stood, so that a gateway that died knows which one was in doubt. One line
 * of JSON a record, the last one counts; counts and positions only, never a key. 64-bit numbers are decimal strings.
 */
import { readFileSync } from 'node:fs'
import { open, rename, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { GatewayError, messageOf } from '../base/errors.js'
import type { DurableState } from './agreement/durable.js'

/** What a record says beside the positions; for audits. */
export interface JournalRecord {
  /** Unix ms. */
  readonly atMs: number
  readonly state: DurableState
}

/** Where the journal lives; a file in the gateway's state folder, or memory in tests. */
export interface JournalStore {
  /** The last whole record; undefined where there is none. Throws E_STATE_FOLDER for a file of another form. */
  load(): JournalRecord | undefined
  /** Appends a record; where `sync` is set it resolves once the record is on the disk. Rejects where it cannot be. */
  append(record: JournalRecord, sync: boolean): Promise<void>
  close(): Promise<void>
}

const decimal = z
  .string()
  .regex(/^-?\d+$/)
  .transform((text) => BigInt(text))
const count = z.number().int().min(0)
const batch = z.object({ serial: count, count })
const recordSchema = z.object({
  v: z.literal(1),
  atMs: z.number(),
  lineage: z.string(),
  settled: count,
  position: count,
  nextSerial: count,
  ahead: z.array(batch),
  sending: z.array(batch.extend({ order: z.enum(['first', 'follow']), foreseen: z.boolean().optional() })),
  total: decimal.optional(),
  store: z.string().default(''),
  empty: z.boolean().default(false),
  stores: z.object({ mine: z.string(), theirs: z.string() }).default({ mine: '', theirs: '' }),
  offset: z.union([z.literal('adopt'), decimal]),
  diverged: z.object({ firstDifferingKey: decimal, reason: z.string() }).optional(),
  accepting: z.boolean(),
})

/** One line, with its end. */
export function encodeRecord({ atMs, state }: JournalRecord): string {
  const text = JSON.stringify({ v: 1, atMs, ...state }, (_, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  )
  return `${text}\n`
}

/** Undefined for a line that is no whole record: the process died while it wrote it. */
export function decodeRecord(line: string): JournalRecord | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  const parsed = recordSchema.safeParse(value)
  if (!parsed.success) return undefined
  const { v: _, atMs, ...state } = parsed.data
  return { atMs, state: { ...state, total: state.total, diverged: state.diverged } }
}

/** All whole records of a journal's text, oldest first. */
export function decodeJournal(text: string): JournalRecord[] {
  return text
    .split('\n')
    .map(decodeRecord)
    .filter((record) => record !== undefined)
}

/** Above this the file is written anew with its last records. */
const COMPACT_ABOVE_BYTES = 256 * 1024
const RECORDS_KEPT = 100

export function fileJournal(path: string): JournalStore {
  let file: FileHandle | undefined
  /** Bytes of whole records; a torn one behind them is cut off before the next. */
  let goodBytes = 0
  let torn = false
  /** The file's name may not be on the disk yet: a power cut would bring back what stood under it before. */
  let nameUnsafe = true
  let tail: Promise<void> = Promise.resolve()
  /** Handed over, and not being written yet: the next record takes its place, as only the last one counts. */
  let waiting: { record: JournalRecord; sync: boolean; readonly done: Promise<void> } | undefined

  const opened = async (): Promise<FileHandle> => {
    if (file !== undefined) return file
    const next = await open(path, 'a+', 0o600)
    try {
      const { size } = await next.stat()
      const text = readText(path)
      const whole = text.lastIndexOf('\n') + 1
      goodBytes = size === 0 ? 0 : Buffer.byteLength(text.slice(0, whole))
      torn = size > goodBytes
    } catch (error) {
      await next.close()
      throw error
    }
    file = next
    return next
  }

  const write = async (record: JournalRecord, sync: boolean): Promise<void> => {
    const handle = await opened()
    if (torn) await handle.truncate(goodBytes)
    const line = Buffer.from(encodeRecord(record))
    // Until it is known to be whole.
    torn = true
    await handle.appendFile(line)
    if (sync) await handle.datasync()
    if (sync && nameUnsafe) await keepName()
    torn = false
    goodBytes += line.length
  }

  const compact = async (): Promise<void> => {
    const lines = readText(path)
      .split('\n')
      .filter((line) => line !== '')
    const text = `${lines.slice(-RECORDS_KEPT).join('\n')}\n`
    const temporary = `${path}.new`
    const next = await open(temporary, 'w', 0o600)
    try {
      await next.writeFile(text)
      await next.sync()
    } finally {
      await next.close()
    }
    await rename(temporary, path)
    nameUnsafe = true
    // Whatever fails from here on, nothing may go to the file that has no name any more.
    const old = file
    file = undefined
    await old?.close()
    await keepName()
  }

  const keepName = async (): Promise<void> => {
    await syncFolder(dirname(path))
    nameUnsafe = false
  }

  /** After a record, when nobody waits for it any more. */
  const keepSmall = async (): Promise<void> => {
    if (goodBytes > COMPACT_ABOVE_BYTES) await compact()
  }

  return {
    load() {
      const text = readText(path)
      if (text === '') return undefined
      const last = decodeJournal(text).at(-1)
      if (last === undefined && text.includes('\n')) {
        throw new GatewayError('E_STATE_FOLDER', `${path}: this is no journal of a link`, {
          remedy: 'move the file away if the stores of both SiteAgents are new; the gateway then begins a new sequence',
        })
      }
      return last
    },
    append(record, sync) {
      if (waiting !== undefined) {
        waiting.record = record
        waiting.sync ||= sync
        return waiting.done
      }
      const done = tail.then(() => {
        const next = waiting
        waiting = undefined
        return next === undefined ? undefined : write(next.record, next.sync)
      })
      waiting = { record, sync, done }
      // Where it cannot be written anew it grows; the next record tries again.
      tail = done.then(keepSmall).catch(() => {})
      return done
    },
    async close() {
      await tail
      await file?.close()
      file = undefined
    },
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
    throw new GatewayError('E_STATE_FOLDER', `${path}: ${messageOf(error)}`, {
      remedy: 'make the state folder readable and writable for the user of the gateway',
      cause: error,
    })
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** A journal that lasts as long as the object: tests crash gateways around it. */
export function memoryJournal(): JournalStore & { readonly records: JournalRecord[] } {
  const records: JournalRecord[] = []
  return {
    records,
    load: () => records.at(-1),
    append(record) {
      records.push(record)
      return Promise.resolve()
    },
    close: () => Promise.resolve(),
  }
}
