/**
 * Which keys make the next batch: the ids that both sites hold, ascending. An id that only one site holds stands in the
 * way of all later ones until it is certain that the other will not get it: the other's device has gone past it, and
 * a bounded time went by in which a reordered frame could still have come.
 */
import type { IdList } from './id-list.js'

type Ids = Pick<IdList, 'at' | 'length' | 'lowerBound'>

export interface SelectionInput {
  readonly mine: Ids
  readonly theirs: Ids
  /** When the key at this index of `mine` came, monotonic ms. */
  mineAtMs(index: number): number
  /** When the other side was first known to hold an id above `id`; undefined while it is not. */
  theirsPassedAtMs(id: bigint): number | undefined
  readonly nowMs: number
  readonly gapWaitMs: number
  /** Sacrificed keys included. */
  readonly maxKeys: number
}

export interface Selection {
  /** Ids that both hold, ascending. */
  readonly ids: bigint[]
  /** Arrival of the oldest of them, monotonic ms. */
  readonly oldestMs: number
  /** When the id that stopped the selection may be given up; undefined where nothing stands in the way. */
  readonly blockedUntilMs: number | undefined
}

export function select(input: SelectionInput): Selection {
  const { mine, theirs, nowMs, gapWaitMs, maxKeys } = input
  const ids: bigint[] = []
  let oldestMs = nowMs
  let mineIndex = 0
  let theirIndex = 0
  while (ids.length < maxKeys) {
    const mineId = mine.at(mineIndex)
    const theirId = theirs.at(theirIndex)
    if (mineId === undefined || theirId === undefined) {
      // One list is exhausted: what is left of the other may still come.
      break
    }
    if (mineId === theirId) {
      oldestMs = Math.min(oldestMs, input.mineAtMs(mineIndex))
      ids.push(mineId)
      mineIndex += 1
      theirIndex += 1
      continue
    }
    // All ids below the other list's next one are lacking there; the newest of them decides.
    const nextMine = mineId < theirId ? mine.lowerBound(theirId) : mineIndex
    const passedAtMs =
      mineId < theirId
        ? Math.max(input.mineAtMs(nextMine - 1), input.theirsPassedAtMs(mine.at(nextMine - 1) ?? mineId) ?? nowMs)
        : input.mineAtMs(mineIndex)
    if (nowMs < passedAtMs + gapWaitMs) return { ids, oldestMs, blockedUntilMs: passedAtMs + gapWaitMs }
    if (mineId < theirId) mineIndex = nextMine
    else theirIndex = theirs.lowerBound(mineId)
  }
  return { ids, oldestMs, blockedUntilMs: undefined }
}
