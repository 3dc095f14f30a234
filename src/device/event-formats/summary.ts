import { toBigInt, type TagMark, type TagReader } from './batch.js'
import { CqpListReader, QutagReader } from './channel-lists.js'
import type { ListReader } from './epoch-lists.js'
import { epochName } from './epoch-header.js'
import { T1Reader, T2Reader } from './epoch-tags.js'
import { EventValueReader } from './event-value-reader.js'
import { hexOf } from './event-values.js'
import type { FormatName } from './format-names.js'
import { HexTextReader, type OpenedFormat, type PatternMeaning } from './formats.js'
import { LabviewReader } from './labview-text.js'
import { NoxReader } from './nox.js'
import { Tdc1Reader } from './tdc1-reader.js'
import { spanToPs, unitsToPs } from './units.js'

/** A whole number; beyond 2^53 as decimal digits, so that no reader of JSON rounds it. */
export type JsonInteger = number | string

/** What `qkd-gw decode --json` prints. */
export interface DecodeSummary {
  format: FormatName
  /** What `first` and `last` count: "2 ns", "1/256 ns", "1/8 ns", "1 ns", "1 ps"; null where a file holds no times. */
  unit: string | null
  patternsAre: PatternMeaning
  /** Events and dummies. */
  records: JsonInteger
  events: JsonInteger
  dummies: JsonInteger
  /** Counter wraps put in, at any record. */
  wraps: JsonInteger
  /** Records behind the one before, or repeating it. */
  outOfOrder: JsonInteger
  /** Events of each pattern that occurs. */
  patterns: Record<string, JsonInteger>
  /** Time of the first and the last event in the file's order, wraps undone, in `unit` (T4: index). */
  first: JsonInteger | null
  last: JsonInteger | null
  /** From the earliest to the latest event, after repair. */
  spanPs: JsonInteger | null
  /** From the first to the last event as their times stand in the file; negative where the last is lower. */
  spanAsWrittenPs: JsonInteger | null
  firstPs: JsonInteger | null
  lastPs: JsonInteger | null
  /** The first and the last event's number as written: 16 hexadecimal digits of a 64-bit value, 8 of a TDC1 word. */
  firstValue: string | null
  lastValue: string | null
  firstPattern: number | null
  lastPattern: number | null
  repeated: JsonInteger
  /** Events that cannot be: no input, or a time outside of its neighbours'. */
  invalid: JsonInteger
  /** Places at which time was accepted against the unit's own rule, bytes were lost, or time began anew. */
  gaps: JsonInteger
  strayBytes: JsonInteger
  /** Epoch files: 8 hexadecimal digits. */
  epoch: string | null
  /** What was repaired or doubted, in words. */
  notes: string[]
}

/** As a JSON number where that is exact, else as decimal digits. */
export function jsonInteger(value: bigint | number): JsonInteger {
  const exact = Number(value)
  return Number.isSafeInteger(exact) ? exact : value.toString()
}

/** Sums up a reader whose stream has ended. `notes` go first. */
export function summarize(opened: OpenedFormat, notes: readonly string[] = []): DecodeSummary {
  return opened.kind === 'tags' ? tagSummary(opened, opened.reader, notes) : listSummary(opened, opened.reader, notes)
}

function patternCounts(counts: Float64Array): Record<string, JsonInteger> {
  const found: Record<string, JsonInteger> = {}
  // Up to 65,536 of them, mostly 0: a callback for each would be most of the work on a short file.
  for (let pattern = 0; pattern < counts.length; pattern += 1) {
    const count = counts[pattern] ?? 0
    if (count > 0) found[pattern] = jsonInteger(count)
  }
  return found
}

function tagSummary(
  opened: { format: FormatName; patternsAre: PatternMeaning },
  reader: TagReader,
  notes: readonly string[],
): DecodeSummary {
  const { tally, unit } = reader
  const { first, last } = tally
  const time = (mark: TagMark | undefined): bigint | undefined => (mark === undefined ? undefined : toBigInt(mark.time))
  const [firstTime, lastTime] = [time(first), time(last)]
  const ends = endsOf(reader) ?? { earliest: firstTime, latest: lastTime }
  const spanPs = spanBetween(ends.earliest, ends.latest, reader)
  const written = spanBetween(
    first === undefined ? undefined : toBigInt(first.writtenTime),
    last === undefined ? undefined : toBigInt(last.writtenTime),
    reader,
  )
  const digits = wordsReader(reader) instanceof Tdc1Reader ? 8 : 16
  const value = (mark: TagMark | undefined): string | null =>
    mark?.value === undefined ? null : hexOf(mark.value).slice(-digits)
  const ps = (units: bigint | undefined): JsonInteger | null =>
    units === undefined ? null : jsonInteger(unitsToPs(units, unit))
  return {
    format: opened.format,
    unit: unit.name,
    patternsAre: opened.patternsAre,
    records: jsonInteger(tally.records),
    events: jsonInteger(tally.events),
    dummies: jsonInteger(tally.dummies),
    wraps: jsonInteger(tally.wraps),
    outOfOrder: jsonInteger(tally.outOfOrder),
    patterns: patternCounts(tally.patterns),
    first: firstTime === undefined ? null : jsonInteger(firstTime),
    last: lastTime === undefined ? null : jsonInteger(lastTime),
    spanPs,
    spanAsWrittenPs: written,
    firstPs: ps(firstTime),
    lastPs: ps(lastTime),
    firstValue: value(first),
    lastValue: value(last),
    firstPattern: first?.pattern ?? null,
    lastPattern: last?.pattern ?? null,
    repeated: jsonInteger(tally.repeated),
    invalid: jsonInteger(tally.invalid),
    gaps: jsonInteger(tally.doubtful + tally.slips + tally.restarts),
    strayBytes: jsonInteger(tally.strayBytes),
    epoch: epochOf(reader),
    notes: [...notes, ...tagNotes(reader)],
  }
}

function listSummary(
  opened: { format: FormatName; patternsAre: PatternMeaning },
  reader: ListReader,
  notes: readonly string[],
): DecodeSummary {
  const { tally, header } = reader
  return {
    format: opened.format,
    unit: null,
    patternsAre: opened.patternsAre,
    records: jsonInteger(tally.records),
    events: jsonInteger(tally.records),
    dummies: 0,
    wraps: 0,
    outOfOrder: 0,
    patterns: patternCounts(tally.patterns),
    first: tally.first ?? null,
    last: tally.last ?? null,
    spanPs: null,
    spanAsWrittenPs: null,
    firstPs: null,
    lastPs: null,
    firstValue: null,
    lastValue: null,
    firstPattern: null,
    lastPattern: null,
    repeated: 0,
    invalid: 0,
    gaps: 0,
    strayBytes: tally.strayBytes,
    epoch: header === undefined ? null : epochName(header.epoch),
    notes: [...notes, ...tally.notes, ...strayNote(tally.strayBytes, tally.notes)],
  }
}

function wordsReader(reader: TagReader): TagReader {
  return reader instanceof HexTextReader ? (reader.words as TagReader) : reader
}

function endsOf(reader: TagReader): { earliest: bigint | undefined; latest: bigint | undefined } | undefined {
  if (reader instanceof QutagReader || reader instanceof CqpListReader || reader instanceof LabviewReader) return reader
  return undefined
}

function spanBetween(from: bigint | undefined, to: bigint | undefined, reader: TagReader): JsonInteger | null {
  return from === undefined || to === undefined ? null : jsonInteger(spanToPs(to - from, reader.unit))
}

function epochOf(reader: TagReader): string | null {
  if (!(reader instanceof T1Reader || reader instanceof T2Reader)) return null
  return reader.header === undefined ? null : epochName(reader.header.epoch)
}

function counted(count: number, one: string, many: string): string[] {
  return count === 0 ? [] : [count === 1 ? `1 ${one}` : `${count} ${many}`]
}

function strayNote(bytes: number, notes: readonly string[]): string[] {
  return bytes === 0 || notes.length > 0 ? [] : [`${bytes} bytes belong to no record`]
}

/** What was repaired, left out or doubted. */
function tagNotes(outer: TagReader): string[] {
  const reader = wordsReader(outer)
  const { tally } = reader
  const notes = [...tally.notes]
  if (reader instanceof EventValueReader) notes.push(...valueNotes(reader))
  if (reader instanceof NoxReader && reader.eventsBeforeConfiguration > 0) {
    notes.push(
      `${reader.eventsBeforeConfiguration} detections stand before the first configuration record: CQPToolkit's reader drops those`,
    )
  }
  if (reader instanceof NoxReader && tally.dummies > 0)
    notes.push(`${tally.dummies} configuration records (their content is not public) are counted as dummies`)
  if (reader instanceof QutagReader) notes.push('the header of 40 bytes was passed over: what it holds is not public')
  if (reader instanceof QutagReader && tally.outOfOrder > 0)
    notes.push('the file is not sorted: the span is that from its earliest to its latest event')
  if (reader instanceof LabviewReader)
    notes.push(
      `${reader.snapshots} ${reader.snapshots === 1 ? 'snapshot' : 'snapshots'}, each from its newest record to its oldest; whether they share one time zero the file does not say`,
    )
  const leftOut = reader instanceof QutagReader || reader instanceof CqpListReader ? '' : ' and left out'
  notes.push(
    ...counted(
      tally.outOfOrder,
      `record is behind the one before or repeats it: counted${leftOut}`,
      `records are behind the one before or repeat it: counted${leftOut}`,
    ),
    ...counted(
      tally.invalid,
      'event cannot be (no input or channel, or a time far outside of its neighbours): left out',
      'events cannot be (no input or channel, or a time far outside of its neighbours): left out',
    ),
    ...counted(
      tally.doubtful,
      'step in time is not explained by the records around it: times may be wrong by whole wraps from there on',
      'steps in time are not explained by the records around them: times may be wrong by whole wraps from there on',
    ),
    ...counted(
      tally.slips,
      'place where bytes were lost: the records were found again behind it',
      'places where bytes were lost: the records were found again behind them',
    ),
    ...counted(
      tally.restarts,
      'place where time goes back for good: two recordings in one file, or a unit that started anew',
      'places where time goes back for good: several recordings in one file, or a unit that started anew',
    ),
    ...strayNote(tally.strayBytes, notes),
  )
  return notes
}

function valueNotes(reader: EventValueReader): string[] {
  const { tally, repairedCounter } = reader
  const notes: string[] = []
  if (repairedCounter !== undefined)
    notes.push(
      `time goes back ${tally.wraps} times as written: wraps lost by the reader of ${repairedCounter.name}; one wrap was added at each`,
    )
  else if (tally.wraps > 0) notes.push(`the 64-bit value came round ${tally.wraps} times (every 19.5 hours): followed`)
  if (tally.dummies > 0) notes.push(`${tally.dummies} dummies (bit 4) are not clicks and were left out`)
  if (reader.inStepsOf2ns)
    notes.push(
      "all times are multiples of 2 ns, as a TDC1's are: its maker's reader loses wraps of slow sources, and such a file is then short by multiples of 268 ms where nothing shows it",
    )
  return notes
}
