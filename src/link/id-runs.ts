/** Ascending ids as arithmetic progressions: how they travel, a few bytes for the usual unbroken numbering. */

export interface IdRun {
  readonly first: bigint
  readonly count: number
  readonly step: bigint
}

const MAX_ID = 2n ** 64n - 1n

/** `ids` ascending, without repetition. */
export function toRuns(ids: BigUint64Array): IdRun[] {
  const runs: IdRun[] = []
  let index = 0
  while (index < ids.length) {
    const first = ids[index] ?? 0n
    const step = index + 1 < ids.length ? (ids[index + 1] ?? 0n) - first : 1n
    let count = 1
    let next = first + step
    while (index + count < ids.length && ids[index + count] === next) {
      count += 1
      next += step
    }
    runs.push({ first, count, step: count === 1 ? 1n : step })
    index += count
  }
  return runs
}

/**
 * The ids of `runs`. Returns a text that says what is wrong where they are not ascending, exceed 64 bits, or are more
 * than `maxIds` in all.
 */
export function fromRuns(runs: readonly IdRun[], maxIds: number): BigUint64Array | string {
  let total = 0
  for (const run of runs) {
    if (run.count < 1) return 'a run of no ids'
    if (run.count > 1 && run.step < 1n) return 'a run without a step'
    total += run.count
    if (total > maxIds) return `more than ${maxIds} ids`
  }
  const ids = new BigUint64Array(total)
  let index = 0
  let previous = -1n
  for (const run of runs) {
    if (run.first <= previous) return 'ids that do not ascend'
    const last = run.first + BigInt(run.count - 1) * run.step
    if (last > MAX_ID) return 'an id beyond 64 bits'
    let id = run.first
    for (let member = 0; member < run.count; member += 1) {
      ids[index] = id
      id += run.step
      index += 1
    }
    previous = last
  }
  return ids
}
