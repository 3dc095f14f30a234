/** Coincidences between two recordings, found the plain way, to compare with known counts. */

export interface Clicks {
  /** Ascending, exact integers. */
  times: readonly number[]
  patterns: readonly number[]
}

export interface PairCounts {
  coincidences: number
  /** One click a side. */
  single: number
  sifted: number
  errors: number
  /** Rows: alice's V − H +; columns: bob's. */
  matrix: number[][]
}

const SINGLE = new Map([
  [1, 0],
  [2, 1],
  [4, 2],
  [8, 3],
])

/** Alice in time order takes the first bob event not used yet with |t_bob − t_alice − offset| ≤ halfWindow. */
export function pairUp(alice: Clicks, bob: Clicks, offset: number, halfWindow: number): PairCounts {
  const counts: PairCounts = {
    coincidences: 0,
    single: 0,
    sifted: 0,
    errors: 0,
    matrix: [0, 1, 2, 3].map(() => [0, 0, 0, 0]),
  }
  let next = 0
  alice.times.forEach((time, i) => {
    while (next < bob.times.length && (bob.times[next] ?? 0) - time - offset < -halfWindow) next += 1
    if (next >= bob.times.length || (bob.times[next] ?? 0) - time - offset > halfWindow) return
    counts.coincidences += 1
    count(counts, alice.patterns[i] ?? 0, bob.patterns[next] ?? 0)
    next += 1
  })
  return counts
}

function count(counts: PairCounts, alicePattern: number, bobPattern: number): void {
  const a = SINGLE.get(alicePattern)
  const b = SINGLE.get(bobPattern)
  if (a === undefined || b === undefined) return
  counts.single += 1
  const row = counts.matrix[a]
  if (row !== undefined) row[b] = (row[b] ?? 0) + 1
  // V and H are one basis, − and + the other.
  if ((a & 1) !== (b & 1)) return
  counts.sifted += 1
  if (a === b) counts.errors += 1
}
