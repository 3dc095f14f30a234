/** From what readers find to the device contract's events: for every device whose data come in one of these formats. */
import type { DeviceEvent } from '../contract.js'
import { toPsTags, type TagBatch, type TagReader, type TagSink } from './batch.js'
import type { OpenedFormat } from './formats.js'

/** Detections of a batch in the device contract's form, and how many stood behind the one before. */
export interface DeviceTags {
  timesPs: BigUint64Array
  patterns: Uint8Array
}

/** The input pattern that stands for what a format calls it: channel 0 of a NOX and channel 1 of a quTAG are input 1. */
export function inputPattern(
  opened: Pick<OpenedFormat, 'format' | 'patternsAre'>,
): ((pattern: number) => number) | undefined {
  const { format, patternsAre } = opened
  if (patternsAre === 'inputs') return undefined
  const first = format === 'qutag' ? 1 : 0
  if (patternsAre === 'channels' || patternsAre === 'qubits')
    return (channel) => (channel >= first && channel < first + 8 ? 1 << (channel - first) : 0)
  return undefined
}

type Tally = TagReader['tally']

/** Tells what a reader left out, each time what is new. Dummies are no detections and no loss: they are only counted. */
export class DiscardTeller {
  #told = { outOfOrder: 0, repeated: 0, invalid: 0 }

  constructor(private readonly emit: (event: DeviceEvent) => void) {}

  tell(tally: Tally): void {
    const now = {
      outOfOrder: tally.outOfOrder - tally.repeated,
      repeated: tally.repeated,
      invalid: tally.invalid,
    }
    for (const [reason, count] of [
      ['outOfOrder', now.outOfOrder - this.#told.outOfOrder],
      ['repeated', now.repeated - this.#told.repeated],
      ['invalid', now.invalid - this.#told.invalid],
    ] as const) {
      if (count > 0) this.emit({ type: 'discarded', reason, count })
    }
    this.#told = now
  }
}

/** Collects what a reader finds as device events, so that they can be handed on at another time. */
export class EventQueue implements TagSink {
  readonly events: DeviceEvent[] = []
  #lastPs = 0n

  constructor(
    private readonly opened: Extract<OpenedFormat, { kind: 'tags' }>,
    private readonly offsetPs = 0n,
    /** The input pattern of each detection, asked in the file's order. */
    private readonly patternOf = inputPattern(opened),
  ) {}

  /** Time of the last detection, offset included. */
  get lastPs(): bigint {
    return this.#lastPs
  }

  tags(batch: TagBatch): void {
    const { patternOf } = this
    const made = toPsTags(batch, this.opened.reader.unit, {
      offsetPs: this.offsetPs,
      ...(patternOf === undefined ? {} : { patternOf }),
    })
    const kept = this.#ascending(made)
    if (kept.patterns.length === 0) return
    this.#lastPs = kept.timesPs.at(-1) ?? this.#lastPs
    this.events.push({ type: 'tags', ...kept })
  }

  gap(reason: string): void {
    this.#lastPs = 0n
    this.events.push({ type: 'gap', reason })
  }

  /** Without detections behind the one before (files that are not sorted) or on no input. */
  #ascending(tags: DeviceTags): DeviceTags {
    const { timesPs, patterns } = tags
    let out = 0
    let last = this.#lastPs
    for (let i = 0; i < patterns.length; i++) {
      const time = timesPs[i] ?? 0n
      const pattern = patterns[i] ?? 0
      if (pattern === 0 || time < last) continue
      last = time
      timesPs[out] = time
      patterns[out] = pattern
      out += 1
    }
    return out === patterns.length ? tags : { timesPs: timesPs.subarray(0, out), patterns: patterns.subarray(0, out) }
  }
}
