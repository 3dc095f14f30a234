import type { TagBatch, TagReader, TagSink } from '../../../src/device/event-formats/batch.js'
import type { ListReader } from '../../../src/device/event-formats/epoch-lists.js'

export interface Collected {
  times: bigint[]
  patterns: number[]
  /** Gaps, each with the number of detections before it. */
  gaps: { after: number; reason: string }[]
}

export interface Collector extends TagSink {
  readonly found: Collected
}

/** A sink that keeps everything. */
export function collector(): Collector {
  const found: Collected = { times: [], patterns: [], gaps: [] }
  return {
    found,
    tags(batch: TagBatch) {
      for (let i = 0; i < batch.count; i++) {
        found.times.push((BigInt(batch.times[2 * i + 1] ?? 0) << 32n) | BigInt(batch.times[2 * i] ?? 0))
        found.patterns.push(batch.patterns[i] ?? 0)
      }
    },
    gap: (reason) => found.gaps.push({ after: found.times.length, reason }),
  }
}

/** Pieces of the given sizes, repeated over and over. */
export function* pieces(bytes: Uint8Array, sizes: readonly number[]): Generator<Uint8Array> {
  let at = 0
  for (let i = 0; at < bytes.length; i++) {
    const size = Math.max(1, sizes[i % sizes.length] ?? 1)
    // A copy of its own: chunks from a real source are overwritten later.
    yield Uint8Array.from(bytes.subarray(at, at + size))
    at += size
  }
}

/** Everything that a reader finds in bytes that come in pieces. */
export function collect(reader: TagReader, bytes: Uint8Array, sizes: readonly number[] = [bytes.length]): Collected {
  const sink = collector()
  for (const piece of pieces(bytes, sizes)) {
    reader.push(piece, sink)
    piece.fill(0xa5)
  }
  reader.end(sink)
  return sink.found
}

export interface Entry {
  value: number
  index: number
}

export function collectEntries(
  reader: ListReader,
  bytes: Uint8Array,
  sizes: readonly number[] = [bytes.length],
): number[] {
  const entries: number[] = []
  const take = (value: number): void => void entries.push(value)
  for (const piece of pieces(bytes, sizes)) reader.push(piece, take)
  reader.end(take)
  return entries
}
