/**
 * Records of Bristol's NOX time-tagger (8 bytes): 24 detection or 25 configuration (hexadecimal), 36 bits of coarse time,
 * a blank nibble, channel + 1, 12 bits of fine time. One count is 1/4096 of a 130 MHz period; 2^48 of them are 528.6 s.
 */
import { deliver, newBatch, TagTally, type TagReader, type TagSink } from './batch.js'
import { Staging } from './staging.js'
import { UNIT_NOX } from './units.js'

export const NOX_DETECTION = 0x24
export const NOX_CONFIGURATION = 0x25
export const NOX_RECORD_BYTES = 8
/** Channels that stand for BB84 states; detections on others are invalid. */
export const NOX_CHANNELS = 4

const BATCH = 16_384
/** What a wrap adds to the high word of the time. */
const WRAP_HI = 2 ** 16

/** One detection's bytes. `counts`: time in 1/4096 periods, cut to 48 bits; channel 0 to 14. */
export function noxDetection(counts: number, channel: number): Uint8Array {
  const fine = counts % 4096
  const coarse = Math.floor(counts / 4096) % 2 ** 36
  const low = coarse % 2 ** 28
  return Uint8Array.of(
    NOX_DETECTION,
    Math.floor(coarse / 2 ** 28),
    low >>> 20,
    (low >>> 12) & 255,
    (low >>> 4) & 255,
    (low & 15) << 4,
    ((channel + 1) << 4) | (fine >>> 8),
    fine & 255,
  )
}

/** A configuration record; what it holds is not public. */
export function noxConfiguration(content: Uint8Array = new Uint8Array(7)): Uint8Array {
  const record = new Uint8Array(NOX_RECORD_BYTES)
  record[0] = NOX_CONFIGURATION
  record.set(content.subarray(0, 7), 1)
  return record
}

/** True where eight bytes at `at` can be a record. */
export function isNoxRecord(bytes: Uint8Array, at: number): boolean {
  const kind = bytes[at]
  if (kind === NOX_CONFIGURATION) return true
  return kind === NOX_DETECTION && ((bytes[at + 5] ?? 0) & 15) === 0 && (bytes[at + 6] ?? 0) >>> 4 > 0
}

/** Four bytes, least significant first. */
function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)
}

/**
 * Streaming reader of NOX records. Patterns are channel numbers; configuration records count as dummies. Bytes between
 * records are passed over until two records in a row fit.
 */
export class NoxReader implements TagReader {
  readonly unit = UNIT_NOX
  readonly tally = new TagTally(16)
  /** Detections that stand before the first configuration record: CQPToolkit's reader drops those. */
  eventsBeforeConfiguration = 0
  readonly #staging = new Staging()
  readonly #batch = newBatch(BATCH)
  #lost = false
  #lo = 0
  #hi = -1
  #wrapsHi = 0

  push(chunk: Uint8Array, sink: TagSink): void {
    this.#staging.push(chunk, (filled) => this.#read(filled, sink, false))
    this.flush(sink)
  }

  flush(sink: TagSink): void {
    deliver(this.#batch, sink)
  }

  end(sink: TagSink): void {
    this.#staging.drop(this.#read(this.#staging.filled, sink, true))
    this.flush(sink)
    const rest = this.#staging.filled
    if (rest === 0) return
    this.tally.strayBytes += rest
    this.tally.notes.push(`the last record is cut off after ${rest} of ${NOX_RECORD_BYTES} bytes`)
    this.#staging.drop(rest)
  }

  #read(filled: number, sink: TagSink, final: boolean): number {
    const { bytes } = this.#staging
    let at = 0
    while (at + NOX_RECORD_BYTES <= filled) {
      if (this.#lost) {
        // Two records in a row must fit before the limits are believed again.
        const enough = at + 2 * NOX_RECORD_BYTES <= filled
        if (!enough && !final) return at
        if (!isNoxRecord(bytes, at) || (enough && !isNoxRecord(bytes, at + NOX_RECORD_BYTES))) {
          at += 1
          this.tally.strayBytes += 1
          continue
        }
        this.#lost = false
      } else if (!isNoxRecord(bytes, at)) {
        this.#lost = true
        this.tally.slips += 1
        deliver(this.#batch, sink)
        sink.gap?.('bytes that are no NOX record')
        continue
      }
      at = this.#readRecords(at, filled, sink)
    }
    return at
  }

  /** Reads records as long as they fit; at least one. */
  #readRecords(from: number, filled: number, sink: TagSink): number {
    const { bytes, words } = this.#staging
    // A record is two words where the stream never slipped.
    const isAligned = (from & 3) === 0
    const { tally } = this
    const counts = tally.patterns
    const batch = this.#batch
    const { times, patterns } = batch
    let at = from
    let out = batch.count
    let events = 0
    let beforeLo = this.#lo
    let beforeHi = this.#hi
    let wrapsHi = this.#wrapsHi
    for (; at + NOX_RECORD_BYTES <= filled; at += NOX_RECORD_BYTES) {
      const early = isAligned ? (words[at >>> 2] ?? 0) : wordAt(bytes, at)
      const late = isAligned ? (words[(at >>> 2) + 1] ?? 0) : wordAt(bytes, at + 4)
      const kind = early & 255
      if (kind !== NOX_DETECTION || (late & 0x0f00) !== 0 || (late & 0xf0_0000) === 0) {
        if (kind !== NOX_CONFIGURATION) break
        tally.records += 1
        tally.dummies += 1
        if (tally.dummies === 1) this.eventsBeforeConfiguration = tally.events + events
        continue
      }
      const channel = ((late >>> 20) & 15) - 1
      const lo =
        ((early & 0xff00_0000) | ((late & 0xff) << 16) | (late & 0xf000) | ((late >>> 8) & 0x0f00) | (late >>> 24)) >>>
        0
      const written = (early & 0xff00) | ((early >>> 16) & 0xff)
      let hi = written + wrapsHi
      events += 1
      counts[channel] = (counts[channel] ?? 0) + 1
      if (channel >= NOX_CHANNELS) {
        tally.invalid += 1
        continue
      }
      if (hi < beforeHi || (hi === beforeHi && lo < beforeLo)) {
        if (beforeHi - hi <= WRAP_HI / 2) {
          tally.outOfOrder += 1
          continue
        }
        tally.wraps += 1
        wrapsHi += WRAP_HI
        hi += WRAP_HI
      }
      if (out === BATCH) {
        batch.count = out
        deliver(batch, sink)
        out = 0
      }
      times[2 * out] = lo
      times[2 * out + 1] = hi
      patterns[out] = channel
      out += 1
      beforeHi = hi
      beforeLo = lo
      if (tally.first === undefined) {
        tally.first = { time: { hi, lo }, writtenTime: { hi: written, lo }, value: undefined, pattern: channel }
      }
    }
    this.#lo = beforeLo
    this.#hi = beforeHi
    this.#wrapsHi = wrapsHi
    tally.records += events
    tally.events += events
    batch.count = out
    if (out > 0) {
      const lo = times[2 * out - 2] ?? 0
      const hi = times[2 * out - 1] ?? 0
      const pattern = patterns[out - 1] ?? 0
      tally.last = { time: { hi, lo }, writtenTime: { hi: hi % WRAP_HI, lo }, value: undefined, pattern }
    }
    return at
  }
}
