/**
 * Wire traces: what went over a serial line, with times. The file is text, so that it can be read, searched and cut:
 *
 *     {"format":"qkd-gw wire trace","version":1,"startedUnixMs":1700000000000,"path":"/dev/ttyUSB0","masked":false}
 *     0 note "open at 9600 baud"
 *     15210 rx 5aa50000
 *     20480 tx 0d0a
 *
 * First a header, one JSON object; then a line for each event: µs since the start, what it is, hex digits (or, for a
 * note, a JSON string).
 */
import { createReadStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { z } from 'zod'
import { type Clock, sleep } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import type { ByteTransport, DeviceLine, OpenSerial } from './contract.js'

export const TRACE_FORMAT = 'qkd-gw wire trace'
const LONGEST_LINE = 4 * 1024 * 1024

const headerSchema = z.object({
  format: z.literal(TRACE_FORMAT),
  version: z.literal(1),
  startedUnixMs: z.number(),
  path: z.string(),
  driver: z.string().optional(),
  /** Key bytes were replaced by zeros before writing: such frames do not decode any more. */
  masked: z.boolean(),
})

export interface TraceHeader {
  startedUnixMs: number
  path: string
  driver?: string | undefined
  masked: boolean
}

/** `rx` came from the device, `tx` went to it. */
export type TraceRecord =
  { atUs: number; direction: 'rx' | 'tx'; bytes: Uint8Array } | { atUs: number; direction: 'note'; text: string }

/** Where a tap tells what it hears. The bytes are lent: copy what is kept. */
export interface WireListener {
  bytes(direction: 'rx' | 'tx', bytes: Uint8Array): void
  note(text: string): void
}

/** Wraps an opener so that `listener` hears both directions, openings and endings; nothing changes for the opener's user. */
export function tapSerial(openSerial: OpenSerial, listener: WireListener): OpenSerial {
  return async (path, settings, signal): Promise<ByteTransport> => {
    let inner: ByteTransport
    try {
      inner = await openSerial(path, settings, signal)
    } catch (error) {
      listener.note(`not opened: ${messageOf(error)}`)
      throw error
    }
    listener.note(`open ${inner.path} at ${settings.baudRate} baud`)
    inner.onClose((reason) =>
      listener.note(reason.cause === 'closed' ? 'closed' : `${reason.cause}: ${reason.message}`),
    )
    let heard = false
    const setBaudRate = inner.setBaudRate?.bind(inner)
    return {
      path: inner.path,
      onData(dataListener) {
        // Heard once, however many listen; and not before somebody does, since that would start the reading.
        const first = !heard
        heard = true
        return inner.onData((chunk) => {
          if (first) listener.bytes('rx', chunk)
          dataListener(chunk)
        })
      },
      onClose: (closeListener) => inner.onClose(closeListener),
      async write(bytes, timeoutMs, writeSignal) {
        listener.bytes('tx', bytes)
        await inner.write(bytes, timeoutMs, writeSignal)
      },
      ...(setBaudRate === undefined
        ? {}
        : {
            async setBaudRate(baudRate: number) {
              listener.note(`${baudRate} baud`)
              await setBaudRate(baudRate)
            },
          }),
      close: () => inner.close(),
    }
  }
}

/** One line of the file, without its line end. */
export function formatTraceRecord(record: TraceRecord): string {
  const what = record.direction === 'note' ? JSON.stringify(record.text) : Buffer.from(record.bytes).toString('hex')
  return `${Math.round(record.atUs)} ${record.direction} ${what}`
}

/** Writes a trace file. */
export interface TraceWriter {
  write(record: TraceRecord): void
  /** Waits until everything is on the disk. Rejects with what went wrong since, if anything did. */
  close(): Promise<void>
}

/**
 * Creates a trace file, readable by its owner only; an existing file is left alone. Rejects with E_USAGE where it is
 * there already or cannot be made.
 */
export async function createTraceFile(file: string, header: TraceHeader): Promise<TraceWriter> {
  let handle: FileHandle
  try {
    handle = await open(file, 'wx', 0o600)
  } catch (error) {
    throw new GatewayError('E_USAGE', `${file} cannot be made: ${messageOf(error)}`, {
      remedy: 'name a file that does not exist yet, in a folder where you may write',
    })
  }
  const started = headerSchema.parse({ format: TRACE_FORMAT, version: 1, ...header })
  let failure: unknown
  let turn: Promise<unknown> = handle.write(`${JSON.stringify(started)}\n`)
  const append = (text: string): void => {
    turn = turn.then(() => handle.write(text)).catch((error: unknown) => (failure ??= error))
  }
  return {
    write: (record) => append(`${formatTraceRecord(record)}\n`),
    async close() {
      await turn
      await handle.close()
      if (failure !== undefined) throw new GatewayError('E_FORMAT', `${file} is incomplete: ${messageOf(failure)}`)
    },
  }
}

function wrong(file: string, line: number, found: string): GatewayError {
  return new GatewayError('E_FORMAT', `${file}, line ${line}: ${found}`, {
    remedy: 'a wire trace is a JSON header and then lines such as: 15210 rx 5aa50000',
  })
}

function parseRecord(text: string, file: string, line: number): TraceRecord {
  const match = /^(\d{1,15}) (?:(rx|tx) ((?:[0-9a-fA-F]{2})*)|note (".*"))$/.exec(text)
  if (match === null) throw wrong(file, line, 'no record of a wire trace')
  const [, atUs, direction, hex = '', note] = match
  if (note !== undefined) {
    try {
      return { atUs: Number(atUs), direction: 'note', text: z.string().parse(JSON.parse(note)) }
    } catch {
      throw wrong(file, line, 'a note that is no JSON string')
    }
  }
  return {
    atUs: Number(atUs),
    direction: direction === 'tx' ? 'tx' : 'rx',
    bytes: Uint8Array.from(Buffer.from(hex, 'hex')),
  }
}

/** What a reader of a trace gets first, and then. */
export type TraceItem = { type: 'header'; header: TraceHeader } | { type: 'record'; record: TraceRecord }

/**
 * Reads a trace from its lines: the header, then record after record, never more than a line in memory. `name` stands
 * in errors. Throws E_FORMAT with the line. A last line that was cut off in writing is an error too.
 */
export async function* parseTrace(lines: AsyncIterable<string>, name: string): AsyncGenerator<TraceItem> {
  let line = 0
  for await (const text of lines) {
    line += 1
    if (line === 1) {
      let found: unknown
      try {
        found = JSON.parse(text)
      } catch {
        throw wrong(name, 1, 'this is no wire trace')
      }
      const header = headerSchema.safeParse(found)
      if (!header.success) throw wrong(name, 1, `this is no wire trace: ${z.prettifyError(header.error)}`)
      const { startedUnixMs, path, driver, masked } = header.data
      yield { type: 'header', header: { startedUnixMs, path, driver, masked } }
    } else if (text !== '') {
      yield { type: 'record', record: parseRecord(text, name, line) }
    }
  }
  if (line === 0) throw wrong(name, 1, 'the file is empty')
}

/** Chunks of text to lines. readline would lose errors of the stream, and hold a line of any length. */
async function* splitLines(chunks: AsyncIterable<string>, name: string): AsyncGenerator<string> {
  let held = ''
  let line = 0
  for await (const chunk of chunks) {
    const parts = (held + chunk).split('\n')
    held = parts.pop() ?? ''
    for (const part of parts) {
      line += 1
      yield part.replace(/\r$/, '')
    }
    if (held.length > LONGEST_LINE) throw wrong(name, line + 1, `a line longer than ${LONGEST_LINE} characters`)
  }
  if (held !== '') yield held
}

/** Reads a trace file; see `parseTrace`. */
export async function* readTraceFile(file: string): AsyncGenerator<TraceItem> {
  const input: AsyncIterable<string> & { destroy(): void } = createReadStream(file, { encoding: 'utf8' })
  try {
    yield* parseTrace(splitLines(input, file), file)
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw new GatewayError('E_USAGE', `${file} cannot be read: ${messageOf(error)}`)
  } finally {
    input.destroy()
  }
}

/**
 * Plays what the device said in a trace on a line, at recorded speed or `speed` times as fast (Infinity: at once).
 * Resolves with the number of bytes sent; rejects with E_CANCELLED when `signal` aborts.
 */
export async function replayTrace(
  items: AsyncIterable<TraceItem>,
  line: Pick<DeviceLine, 'send'>,
  options: { clock: Clock; speed: number; signal: AbortSignal },
): Promise<number> {
  const { clock, speed, signal } = options
  const startMs = clock.monotonicMs()
  let sent = 0
  for await (const item of items) {
    if (item.type !== 'record' || item.record.direction !== 'rx') continue
    const waitMs = startMs + item.record.atUs / 1_000 / speed - clock.monotonicMs()
    if (waitMs > 0) await sleep(clock, waitMs, signal)
    sent += await line.send(item.record.bytes)
  }
  return sent
}
