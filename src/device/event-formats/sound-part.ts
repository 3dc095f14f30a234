/** Where a recording stops making sense, should its end be something else than its beginning. */
import { toBigInt, type TagMark, type TagReader, type TagTally } from './batch.js'
import { spanToPs } from './units.js'

/** So many bytes are looked at together: the place is told to within two of these. */
export const SLICE_BYTES = 512

/** Shares of records out of place, below which a recording is a damaged one and not something else. */
const TOLERATED_SHARE = 0.15
/** So many more than tolerated mean that it is something else; twice as many are not told apart from any more. */
const EVIDENCE = 8
const STRAY_BYTES_A_RECORD = 8
const LINE_FEED = 0x0a

interface Place {
  bytes: number
  records: number
  doubts: number
  last: TagMark | undefined
}

/**
 * Adds up what speaks against each slice of a stream and takes off what may be (a cumulative sum): it is zero as long as
 * records follow each other, and grows from where they do not. Tell it each slice after the reader took it.
 */
export class SoundPart {
  #evidence = 0
  #here: Place = { bytes: 0, records: 0, doubts: 0, last: undefined }
  /** The ends of the last slice but one, and of the last, with nothing against them. */
  #before: Place = this.#here
  #sound: Place = this.#here

  constructor(
    private readonly reader: TagReader,
    /** Lines of text: the place told is the end of one. */
    private readonly isText: boolean,
  ) {}

  slice(slice: Uint8Array): void {
    const { tally } = this.reader
    const before = this.#here
    const here = { bytes: before.bytes + slice.length, ...countsOf(tally), last: tally.last }
    const against = here.doubts - before.doubts - TOLERATED_SHARE * (here.records - before.records)
    this.#here = here
    this.#evidence = Math.min(Math.max(0, this.#evidence + against), 2 * EVIDENCE)
    if (this.#evidence > 0) return
    this.#before = this.#sound
    const lineEnd = this.isText ? slice.lastIndexOf(LINE_FEED) + 1 : slice.length
    this.#sound = { ...here, bytes: before.bytes + lineEnd }
  }

  /** What to say of the end of the stream, or undefined where there is nothing to say. */
  note(): string | undefined {
    const { bytes, records, doubts, last } = this.#before
    const { first } = this.reader.tally
    if (this.#evidence < EVIDENCE || bytes === 0 || first === undefined || last === undefined) return undefined
    const spanPs = spanToPs(toBigInt(last.time) - toBigInt(first.time), this.reader.unit)
    const seconds = (Number(spanPs) / 1e12).toFixed(9)
    const behind = `${Math.round(this.#here.doubts - doubts)} of ${Math.round(this.#here.records - records)}`
    return (
      `from about byte ${bytes} on, ${behind} records make no sense behind those before them: something else stands there, ` +
      `or it was damaged; up to there ${Math.round(records)} records span ${seconds} s: ` +
      `cut it there (head -c ${bytes}) and decode that`
    )
  }
}

function countsOf(tally: TagTally): { records: number; doubts: number } {
  const stray = tally.strayBytes / STRAY_BYTES_A_RECORD
  const { outOfOrder, invalid, doubtful, slips, restarts } = tally
  return { records: tally.records + stray, doubts: outOfOrder + invalid + doubtful + slips + restarts + stray }
}
