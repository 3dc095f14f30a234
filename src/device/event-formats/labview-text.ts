/**
 * What the TDC1's maker writes from LabVIEW: six tab-separated columns a line (dummy, inputs 4 to 1, time in ns), lines
 * end in CR LF, times descend inside a snapshot.
 */
import { GatewayError } from '../../base/errors.js'
import { deliver, newBatch, TagTally, type TagBatch, type TagReader, type TagSink } from './batch.js'
import { UNIT_NS } from './units.js'

const LINE = /^\s*([01])[\t ]+([01])[\t ]+([01])[\t ]+([01])[\t ]+([01])[\t ]+(\d{1,15})\s*$/
/** Detections of one snapshot that are turned round; a longer one is handed on in pieces. */
const SNAPSHOT = 65_536
const LONGEST_LINE = 256

/** Pattern, dummy flag and time of one line, or undefined where it is none. */
export function parseLabviewLine(line: string): { dummy: boolean; pattern: number; timeNs: number } | undefined {
  const match = LINE.exec(line)
  if (match === null) return undefined
  const bit = (column: number): number => (match[column] === '1' ? 1 : 0)
  return {
    dummy: match[1] === '1',
    pattern: bit(2) * 8 + bit(3) * 4 + bit(4) * 2 + bit(5),
    timeNs: Number(match[6]),
  }
}

/** The inverse, with its line end. */
export function labviewLine(timeNs: number, pattern: number, dummy = false): string {
  const inputs = [8, 4, 2, 1].map((mask) => ((pattern & mask) === 0 ? '0' : '1'))
  return `${[dummy ? '1' : '0', ...inputs, String(timeNs)].join('\t')}\r\n`
}

/** Streaming reader of LabVIEW text. Each snapshot is turned round, so that detections ascend; between two stands a gap. */
export class LabviewReader implements TagReader {
  readonly unit = UNIT_NS
  readonly tally = new TagTally(16)
  snapshots = 0
  earliest: bigint | undefined
  latest: bigint | undefined
  /** Detections of the present snapshot as the file has them, descending, until they are turned round. */
  readonly #snapshot: TagBatch = newBatch(SNAPSHOT)
  #line = 0
  #text = ''
  #timeNs = -1
  #pattern = -1
  readonly #decoder = new TextDecoder('latin1')

  push(chunk: Uint8Array, sink: TagSink): void {
    const lines = (this.#text + this.#decoder.decode(chunk, { stream: true })).split('\n')
    this.#text = lines.pop() ?? ''
    for (const line of lines) this.#take(line, sink)
    if (this.#text.length > LONGEST_LINE) throw this.#refuse()
  }

  flush(): void {
    // A snapshot is handed on when it is whole.
  }

  end(sink: TagSink): void {
    if (this.#text.trim() !== '') this.#take(this.#text, sink)
    this.#text = ''
    this.#turn(sink)
  }

  #take(line: string, sink: TagSink): void {
    this.#line += 1
    if (line.trim() === '') return
    const record = parseLabviewLine(line)
    if (record === undefined) throw this.#refuse()
    const { tally } = this
    const { timeNs, pattern, dummy } = record
    tally.records += 1
    if (this.#timeNs < 0 || timeNs > this.#timeNs) {
      this.#turn(sink)
      if (this.snapshots > 0) sink.gap?.('the next snapshot')
      this.snapshots += 1
    } else if (timeNs === this.#timeNs && pattern === this.#pattern && !dummy) {
      tally.outOfOrder += 1
      tally.repeated += 1
    }
    this.#timeNs = timeNs
    this.#pattern = pattern
    if (dummy) {
      tally.dummies += 1
      return
    }
    tally.events += 1
    tally.patterns[pattern] = (tally.patterns[pattern] ?? 0) + 1
    if (pattern === 0) {
      tally.invalid += 1
      return
    }
    if (this.#snapshot.count === SNAPSHOT) this.#turn(sink)
    const at = this.#snapshot.count
    const lo = timeNs >>> 0
    const hi = Math.floor(timeNs / 2 ** 32)
    this.#snapshot.times[2 * at] = lo
    this.#snapshot.times[2 * at + 1] = hi
    this.#snapshot.patterns[at] = pattern
    this.#snapshot.count = at + 1
    const time = { hi, lo }
    tally.last = { time, writtenTime: time, value: undefined, pattern }
    tally.first ??= tally.last
    const ns = BigInt(timeNs)
    if (this.earliest === undefined || ns < this.earliest) this.earliest = ns
    if (this.latest === undefined || ns > this.latest) this.latest = ns
  }

  /** In place: two words a time, so first the words from end to end, then the words of each time. */
  #turn(sink: TagSink): void {
    const { count, times, patterns } = this.#snapshot
    times.subarray(0, 2 * count).reverse()
    patterns.subarray(0, count).reverse()
    for (let i = 0; i < count; i++) {
      const hi = times[2 * i] ?? 0
      times[2 * i] = times[2 * i + 1] ?? 0
      times[2 * i + 1] = hi
    }
    deliver(this.#snapshot, sink)
  }

  #refuse(): GatewayError {
    return new GatewayError(
      'E_FORMAT',
      `line ${this.#line}: expected five digits 0 or 1 and a time in ns, separated by tabs`,
      {
        remedy: 'name another format with --format if this is no LabVIEW text of a TDC1',
        details: { line: this.#line },
      },
    )
  }
}
