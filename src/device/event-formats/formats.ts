/** How each format is opened. */
import { CqpListReader, QutagReader } from './channel-lists.js'
import type { TagReader, TagSink, TagTally } from './batch.js'
import { BitsReader, T4Reader, type ListReader } from './epoch-lists.js'
import { T1Reader, T2Reader } from './epoch-tags.js'
import { EventValueReader } from './event-value-reader.js'
import type { LostWraps } from './event-value-steps.js'
import type { FormatName } from './format-names.js'
import { HexTextDecoder } from './hex-text.js'
import { LabviewReader } from './labview-text.js'
import { NoxReader } from './nox.js'
import { Tdc1Reader } from './tdc1-reader.js'
import type { TimeUnit } from './units.js'

/** What the numbers called patterns stand for. */
export type PatternMeaning = 'inputs' | 'channels' | 'qubits' | 'bases' | 'entries' | 'bits'

export interface FormatSettings {
  /** Which unit wrote an `a0` file: the card (pairs of words) or a TDC1 (raw words). */
  source?: 'card' | 'tdc1' | undefined
  /** Which counter's lost wraps are put back in 64-bit values. */
  lostWraps?: LostWraps | undefined
}

/** A reader made for one file. */
export type OpenedFormat =
  | { kind: 'tags'; format: FormatName; patternsAre: PatternMeaning; reader: TagReader }
  | { kind: 'list'; format: FormatName; patternsAre: PatternMeaning; reader: ListReader }

/** Feeds the words of hexadecimal text to a reader of words. */
export class HexTextReader<R extends TagReader> implements TagReader {
  readonly #text: HexTextDecoder

  constructor(
    readonly words: R,
    private readonly digits: 8 | 16,
  ) {
    this.#text = new HexTextDecoder(digits)
  }

  get unit(): TimeUnit {
    return this.words.unit
  }

  get tally(): TagTally {
    return this.words.tally
  }

  push(chunk: Uint8Array, sink: TagSink): void {
    this.words.push(this.#text.decode(chunk), sink)
  }

  flush(sink: TagSink): void {
    this.words.flush(sink)
  }

  end(sink: TagSink): void {
    this.words.push(this.#text.end(), sink)
    this.words.end(sink)
    const { cutOff } = this.#text
    if (cutOff === 0) return
    this.tally.strayBytes += cutOff
    this.tally.notes.push(`the last line is cut off after ${cutOff} of ${this.digits} digits`)
  }
}

/** Makes a reader. An `a0` file without a source is read as the card's. */
export function openFormat(format: FormatName, settings: FormatSettings = {}): OpenedFormat {
  const lostWraps = settings.lostWraps ?? 'auto'
  const tags = (reader: TagReader, patternsAre: PatternMeaning = 'inputs'): OpenedFormat => ({
    kind: 'tags',
    format,
    patternsAre,
    reader,
  })
  const list = (reader: ListReader, patternsAre: PatternMeaning): OpenedFormat => ({
    kind: 'list',
    format,
    patternsAre,
    reader,
  })
  switch (format) {
    case 'tdc1':
    case 'a4':
      return tags(new Tdc1Reader())
    case 'a0':
      return settings.source === 'tdc1'
        ? tags(new HexTextReader(new Tdc1Reader(), 8))
        : tags(new HexTextReader(new EventValueReader({ order: 'lowFirst', lostWraps }), 8))
    case 'a1':
      return tags(new EventValueReader({ order: 'lowFirst', lostWraps }))
    case 'a1X':
      return tags(new EventValueReader({ order: 'highFirst', lostWraps }))
    case 'a2':
      return tags(new HexTextReader(new EventValueReader({ order: 'highFirst', lostWraps }), 16))
    case 't1':
      return tags(new T1Reader())
    case 't2':
      return tags(new T2Reader(), 'bases')
    case 't3':
      return list(new BitsReader(3), 'entries')
    case 't4':
      return list(new T4Reader(), 'bases')
    case 't7':
      return list(new BitsReader(7), 'bits')
    case 'nox':
      return tags(new NoxReader(), 'channels')
    case 'qutag':
      return tags(new QutagReader(), 'channels')
    case 'cqp':
      return tags(new CqpListReader(), 'qubits')
    case 'labview':
      return tags(new LabviewReader())
  }
}
