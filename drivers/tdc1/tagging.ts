import type { DeviceEvent } from '../../src/device/contract.js'
import { toPsTags, type TagBatch, type TagSink } from '../../src/device/event-formats/batch.js'
import { DiscardTeller } from '../../src/device/event-formats/device-tags.js'
import { Tdc1Reader } from '../../src/device/event-formats/tdc1-reader.js'
import { STATUS_BYTES, statusAtEnd, type Status } from './protocol.js'

/** Late records may still come in front of a status: as much is held back until it is sure not to be one. */
const HELD_BACK_BYTES = STATUS_BYTES + 4

/** Turns the bytes of one run of tagging into device events; its times begin at `offsetPs`. */
export class TagStream implements TagSink {
  readonly #reader = new Tdc1Reader()
  /** Set while a status is awaited: the end of what came. */
  #tail: Uint8Array | undefined
  readonly #discards: DiscardTeller
  #lastPs: bigint

  constructor(
    private readonly offsetPs: bigint,
    private readonly emit: (event: DeviceEvent) => void,
  ) {
    this.#lastPs = offsetPs
    this.#discards = new DiscardTeller(emit)
  }

  get tally(): Tdc1Reader['tally'] {
    return this.#reader.tally
  }

  /** Time of the last tag, or where the run began. */
  get lastPs(): bigint {
    return this.#lastPs
  }

  /** Events of each input since the run began. */
  inputCounts(): number[] {
    const counts = [0, 0, 0, 0]
    this.#reader.tally.patterns.forEach((count, pattern) => {
      for (let input = 0; input < 4; input++) if ((pattern >> input) & 1) counts[input] = (counts[input] ?? 0) + count
    })
    return counts
  }

  push(chunk: Uint8Array): void {
    if (this.#tail === undefined) {
      this.#reader.push(chunk, this)
    } else {
      const joined = new Uint8Array(this.#tail.length + chunk.length)
      joined.set(this.#tail)
      joined.set(chunk, this.#tail.length)
      const sure = Math.max(0, joined.length - HELD_BACK_BYTES)
      if (sure > 0) this.#reader.push(joined.subarray(0, sure), this)
      this.#tail = joined.slice(sure)
    }
    this.#discards.tell(this.#reader.tally)
  }

  /** Nothing came for a while: records that wait for their successors are settled. */
  idle(): void {
    this.#reader.flush(this)
    this.#discards.tell(this.#reader.tally)
  }

  /** From now on a status may end the stream. */
  awaitStatus(): void {
    this.#tail ??= new Uint8Array(0)
  }

  /** The status, once it is the last that came; records in front of it are delivered then. */
  takeStatus(): Status | undefined {
    const tail = this.#tail
    const status = tail === undefined ? undefined : statusAtEnd(tail)
    if (tail === undefined || status === undefined) return undefined
    this.#tail = undefined
    this.#reader.push(tail.subarray(0, tail.length - STATUS_BYTES), this)
    this.end()
    return status
  }

  /** The run is over. */
  end(): void {
    this.#reader.end(this)
    this.#discards.tell(this.#reader.tally)
  }

  tags(batch: TagBatch): void {
    const { timesPs, patterns } = toPsTags(batch, this.#reader.unit, { offsetPs: this.offsetPs })
    this.#lastPs = timesPs.at(-1) ?? this.#lastPs
    this.emit({ type: 'tags', timesPs, patterns })
  }

  gap(reason: string): void {
    this.emit({ type: 'gap', reason })
  }
}
