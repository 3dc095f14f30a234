import { GatewayError } from '../../base/errors.js'
import { parseTrace, TRACE_FORMAT, type TraceHeader, type TraceItem } from '../../io/wire-trace.js'
import { recordedTags } from '../catalogue-recordings.js'
import type { TagSink } from './batch.js'
import { detectFormat, SAMPLE_BYTES, type Detection } from './detect.js'
import type { EntrySink } from './epoch-lists.js'
import type { FormatName } from './format-names.js'
import { openFormat, type FormatSettings, type OpenedFormat } from './formats.js'
import { SLICE_BYTES, SoundPart } from './sound-part.js'
import { summarize, type DecodeSummary } from './summary.js'
import type { TraceDecoder, TracePiece } from '../trace-contract.js'

/** Characters; the trace's writer never makes one nearly as long. */
const LONGEST_TRACE_LINE = 4 * 1024 * 1024
const A0_LINE = /^\s*[0-9a-f]{8}\s*$/i
/** Formats whose records stand in ascending time, one behind the other to the end of the file. */
const IN_ORDER: ReadonlySet<FormatName> = new Set(['tdc1', 'a0', 'a1', 'a1X', 'a2', 'a4', 'nox', 'cqp'])

export interface StreamOptions {
  /** Stands in errors. */
  name: string
  /** Told by content where it is not given. */
  format?: FormatName | undefined
  settings?: FormatSettings | undefined
  signal?: AbortSignal | undefined
}

export interface OpenedStream {
  opened: OpenedFormat
  /** How the format was told; undefined where it was named. */
  detection: Detection | undefined
  /** Set where the stream is a wire trace; what is decoded then is what came from the device. */
  trace: TraceHeader | undefined
  /** Sentences on the choice of the format. */
  notes: readonly string[]
  /**
   * Reads to the end; rejects with E_FORMAT or E_CANCELLED. Call it once. `afterChunk` is awaited after each chunk and at
   * the end, so a slow listener holds the reading back. `afterSlice` is told each few bytes once the reader took them.
   */
  read(
    sink: TagSink,
    entries?: EntrySink,
    afterChunk?: () => Promise<void>,
    afterSlice?: (slice: Uint8Array) => void,
  ): Promise<void>
}

/** Begins to read a recording: looks at its first 64 KiB (or all of a shorter one) and makes the reader that fits. */
export async function openStream(chunks: AsyncIterable<Uint8Array>, options: StreamOptions): Promise<OpenedStream> {
  const raw = await takeSample(chunks)
  const isTrace = new TextDecoder('latin1').decode(raw.sample.subarray(0, 40)).startsWith(`{"format":"${TRACE_FORMAT}"`)
  const notes: string[] = []
  if (!isTrace) return open(raw, options, undefined, notes)
  const items = parseTrace(linesOf(raw.rest(), options.name), options.name)
  const first = await items.next()
  if (first.done === true || first.value.type !== 'header')
    throw new GatewayError('E_FORMAT', `${options.name}: a wire trace without a header`)
  const trace = first.value.header
  notes.push(
    `a wire trace${trace.driver === undefined ? '' : ` of driver ${trace.driver}`}: what came from the device is decoded`,
  )
  if (trace.masked) notes.push('key bytes were masked before this trace was written')
  const known = recordedTags(trace.driver)
  if (known !== undefined && trace.masked)
    throw new GatewayError(
      'E_FORMAT',
      `${options.name}: the detections of this trace were masked when it was recorded`,
      {
        remedy: 'record it again with --show-keys; it is secret then',
      },
    )
  return open(await takeSample(received(items, trace)), options, trace, notes)
}

/** What came from the device; where it was spoken to and its decoder is known, only what it measured. */
async function* received(items: AsyncIterable<TraceItem>, trace: TraceHeader): AsyncGenerator<Uint8Array> {
  const known = recordedTags(trace.driver)
  let decoder: TraceDecoder | undefined
  let begun = false
  for await (const item of items) {
    if (item.type !== 'record') continue
    if (item.record.direction === 'note') {
      // The port was opened or lost: what was said before is over.
      if (decoder !== undefined) yield* measured(decoder.flush())
      decoder = undefined
      begun = false
      continue
    }
    const { direction, bytes } = item.record
    // A device that was only listened to began before the trace did.
    if (!begun && direction === 'tx') decoder = await known?.createDecoder()
    begun = true
    if (decoder !== undefined) yield* measured(decoder.push(direction, bytes))
    else if (direction === 'rx') yield bytes
  }
  if (decoder !== undefined) yield* measured(decoder.flush())
}

function* measured(pieces: readonly TracePiece[]): Generator<Uint8Array> {
  for (const piece of pieces) {
    if (piece.measured === true) for (const { bytes } of piece.parts) yield bytes
  }
}

/** Reads a recording to its end and sums it up. */
export async function decodeStream(
  chunks: AsyncIterable<Uint8Array>,
  options: StreamOptions,
): Promise<{ summary: DecodeSummary; detection: Detection | undefined }> {
  const stream = await openStream(chunks, options)
  const soundPart = soundPartOf(stream)
  const afterSlice = soundPart === undefined ? undefined : (slice: Uint8Array) => soundPart.slice(slice)
  await stream.read({ tags: () => {} }, undefined, undefined, afterSlice)
  const summary = summarize(stream.opened, stream.notes)
  const note = soundPart?.note()
  if (note !== undefined) summary.notes.push(note)
  return { summary, detection: stream.detection }
}

/** For formats of records that follow each other. A place in a wire trace says nothing of what came over the wire. */
function soundPartOf({ opened, trace }: OpenedStream): SoundPart | undefined {
  if (opened.kind !== 'tags' || trace !== undefined || !IN_ORDER.has(opened.format)) return undefined
  return new SoundPart(opened.reader, opened.format === 'a0' || opened.format === 'a2')
}

interface Sampled {
  sample: Uint8Array
  /** The sample is the whole stream. */
  whole: boolean
  /** Everything, from the beginning. */
  rest(): AsyncGenerator<Uint8Array>
}

async function takeSample(chunks: AsyncIterable<Uint8Array>): Promise<Sampled> {
  const iterator = chunks[Symbol.asyncIterator]()
  const taken: Uint8Array[] = []
  let size = 0
  let whole = false
  while (size < SAMPLE_BYTES) {
    const next = await iterator.next()
    if (next.done === true) {
      whole = true
      break
    }
    taken.push(next.value)
    size += next.value.length
  }
  const sample = new Uint8Array(Math.min(size, SAMPLE_BYTES))
  let at = 0
  for (const chunk of taken) {
    sample.set(chunk.subarray(0, sample.length - at), at)
    at = Math.min(at + chunk.length, sample.length)
  }
  return {
    sample,
    whole,
    async *rest() {
      try {
        yield* taken.splice(0)
        while (!whole) {
          const next = await iterator.next()
          if (next.done === true) return
          yield next.value
        }
      } finally {
        await iterator.return?.()
      }
    },
  }
}

async function* linesOf(chunks: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let begun = ''
  for await (const chunk of chunks) {
    const lines = (begun + decoder.decode(chunk, { stream: true })).split('\n')
    begun = lines.pop() ?? ''
    for (const line of lines) yield line.endsWith('\r') ? line.slice(0, -1) : line
    if (begun.length > LONGEST_TRACE_LINE)
      throw new GatewayError('E_FORMAT', `${name}: a line of a wire trace longer than ${LONGEST_TRACE_LINE} characters`)
  }
  if (begun !== '') yield begun
}

function open(data: Sampled, options: StreamOptions, trace: TraceHeader | undefined, notes: string[]): OpenedStream {
  const { name, format, settings = {}, signal } = options
  const { detection, chosen, chosenSettings } = choose(data, options, recordedTags(trace?.driver)?.format)
  if (format !== undefined && detection !== undefined && !sameFormat(format, detection.format))
    notes.push(`read as ${format}, as asked; by its content it looks like ${detection.format}: ${detection.because}`)
  const opened = openFormat(chosen, { ...chosenSettings, ...definedOf(settings) })
  return {
    opened,
    detection: format === undefined ? detection : undefined,
    trace,
    notes,
    async read(sink, entries, afterChunk, afterSlice) {
      for await (const chunk of data.rest()) {
        if (signal?.aborted === true) throw new GatewayError('E_CANCELLED', `${name}: stopped`)
        const step = afterSlice === undefined ? chunk.length : SLICE_BYTES
        for (let at = 0; at < chunk.length; at += step) {
          const slice = chunk.subarray(at, at + step)
          inFile(name, () =>
            opened.kind === 'tags' ? opened.reader.push(slice, sink) : opened.reader.push(slice, entries),
          )
          afterSlice?.(slice)
        }
        await afterChunk?.()
      }
      inFile(name, () => (opened.kind === 'tags' ? opened.reader.end(sink) : opened.reader.end(entries)))
      afterSlice?.(new Uint8Array(0))
      await afterChunk?.()
      requireHeader(opened, name)
    },
  }
}

function choose(
  data: Sampled,
  { name, format, settings = {} }: StreamOptions,
  /** Where the content leaves it open. */
  otherwise: FormatName | undefined,
): { detection: Detection | undefined; chosen: FormatName; chosenSettings: FormatSettings } {
  let detection: Detection
  try {
    detection = detectFormat(data.sample, data.whole, name)
  } catch (error) {
    // A named format settles what the content leaves open, but for a0, which needs its source too where it may be a0.
    const settled = format ?? otherwise
    const sourceIsOpen = settled === 'a0' && settings.source === undefined && A0_LINE.test(firstLine(data.sample))
    if (settled === undefined || sourceIsOpen) throw error
    if (data.sample.length === 0) throw error
    return { detection: undefined, chosen: settled, chosenSettings: {} }
  }
  const chosen = format ?? detection.format
  return { detection, chosen, chosenSettings: chosen === detection.format ? detection.settings : {} }
}

function firstLine(sample: Uint8Array): string {
  return new TextDecoder('latin1').decode(sample.subarray(0, 64)).split('\n')[0] ?? ''
}

function sameFormat(a: FormatName, b: FormatName): boolean {
  const name = (format: FormatName): FormatName => (format === 'a4' ? 'tdc1' : format)
  return name(a) === name(b)
}

function definedOf(settings: FormatSettings): FormatSettings {
  return {
    ...(settings.source === undefined ? {} : { source: settings.source }),
    ...(settings.lostWraps === undefined ? {} : { lostWraps: settings.lostWraps }),
  }
}

/** Lets errors of a reader name the file. */
function inFile(name: string, work: () => void): void {
  try {
    work()
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'E_FORMAT') throw error
    throw new GatewayError('E_FORMAT', `${name}: ${error.message}`, {
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
      details: error.details,
    })
  }
}

/** A file that ends before its header does holds nothing to sum up. */
function requireHeader(opened: OpenedFormat, name: string): void {
  const { tally } = opened.reader
  const cut = tally.notes.find((note) => note.includes('inside its header'))
  if (cut !== undefined)
    throw new GatewayError('E_FORMAT', `${name}: ${cut}`, { remedy: 'copy the file again: it is cut off' })
}
