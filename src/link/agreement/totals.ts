/**
 * From a SiteAgent's total to the fate of batches. The total counts all keys that a store has received; it is sent when
 * it changes, or when a message without keys asked for it, and does not name the store. Batches of open fate have sizes
 * whose sums are all different (`avoidedCounts` sees to it), so one total tells the fate of each.
 */
import type { BatchRef, StoreView } from './state.js'

export interface OpenBatches {
  /** On its way now. */
  readonly flight: BatchRef | undefined
  /** Their streams have ended; each may have been taken in, in this order, before the flight. */
  readonly doubts: readonly BatchRef[]
}

export interface ReportContext {
  /** The reports were interrupted since the last total: it may be another store. */
  readonly mayBeRenewed: boolean
  /** A message without keys waits for its answer, which is the total as it is. */
  readonly asked: boolean
}

export type TotalReading =
  /** Not about our store, or nothing new. */
  | { readonly type: 'ignored' }
  /**
   * Explained: `flightIn`, and which doubts were taken in. `fell`: by a store that began anew. `final`: what was not
   * taken in by now never will be, and `doubtsIn` tells of all.
   */
  | {
      readonly type: 'explained'
      readonly flightIn: boolean
      readonly doubtsIn: readonly boolean[]
      readonly fell: boolean
      readonly final: boolean
    }
  /**
   * Somebody else changed our store. `sure`: it is ours. Otherwise it may be another store of a site with several links,
   * and only the absence of a better report tells. `base`: the total it had before.
   */
  | { readonly type: 'unexplained'; readonly base: bigint; readonly sure: boolean }

/** Which of `doubts` (by position) add up to `keys`; undefined where none do. */
function subsetOf(doubts: readonly BatchRef[], keys: bigint): readonly boolean[] | undefined {
  for (let mask = 0; mask < 1 << doubts.length; mask += 1) {
    let sum = 0n
    doubts.forEach(({ count }, index) => {
      if ((mask & (1 << index)) !== 0) sum += BigInt(count)
    })
    if (sum === keys) return doubts.map((_, index) => (mask & (1 << index)) !== 0)
  }
  return undefined
}

function explain(growth: bigint, open: OpenBatches): { flightIn: boolean; doubtsIn: readonly boolean[] } | undefined {
  if (open.flight !== undefined) {
    const withFlight = subsetOf(open.doubts, growth - BigInt(open.flight.count))
    if (withFlight !== undefined) return { flightIn: true, doubtsIn: withFlight }
  }
  const without = subsetOf(open.doubts, growth)
  return without === undefined ? undefined : { flightIn: false, doubtsIn: without }
}

type Report = { readonly storeId: bigint; readonly total: bigint }

/** Reads a report. */
export function readTotal(store: StoreView, report: Report, open: OpenBatches, context: ReportContext): TotalReading {
  if (store.id !== undefined && store.id !== report.storeId) return { type: 'ignored' }
  if (store.total === undefined) return readFirst(report, open, context)
  const none = open.doubts.map(() => false)
  const growth = report.total - store.total
  const ofNewStore = { type: 'explained', flightIn: true, doubtsIn: none, fell: true, final: true } as const
  const isFirstOfNewStore = open.flight !== undefined && report.total === BigInt(open.flight.count)
  if (growth === 0n) {
    // Reports come on change: after a break in them, the old figure once more is that of a new store.
    if (context.mayBeRenewed && isFirstOfNewStore) return ofNewStore
    if (!context.asked) return { type: 'ignored' }
    return { type: 'explained', flightIn: false, doubtsIn: none, fell: false, final: true }
  }
  const explained = growth > 0n ? explain(growth, open) : undefined
  if (explained !== undefined) return { type: 'explained', ...explained, fell: false, final: explained.flightIn }
  if (isFirstOfNewStore) return ofNewStore
  if (context.asked && context.mayBeRenewed && report.total === 0n) return { ...ofNewStore, flightIn: false }
  if (store.id === undefined && open.flight === undefined && !context.asked) return { type: 'ignored' }
  return { type: 'unexplained', base: store.total, sure: store.id !== undefined }
}

/** The first report of all: it shows the base as well. */
function readFirst(report: Report, open: OpenBatches, { asked }: ReportContext): TotalReading {
  const none = open.doubts.map(() => false)
  if (open.flight === undefined) {
    const doubtsIn = asked ? subsetOf(open.doubts, report.total) : undefined
    if (doubtsIn === undefined) return { type: 'ignored' }
    return { type: 'explained', flightIn: false, doubtsIn, fell: false, final: true }
  }
  if (report.total < BigInt(open.flight.count)) return { type: 'ignored' }
  const rest = report.total - BigInt(open.flight.count)
  return { type: 'explained', flightIn: true, doubtsIn: subsetOf(open.doubts, rest) ?? none, fell: false, final: true }
}

/** Sizes that the next batch must not have, so that all sums of open sizes differ. */
export function avoidedCounts(doubts: readonly BatchRef[]): number[] {
  let sums = [0]
  for (const { count } of doubts) sums = [...sums, ...sums.map((sum) => sum + count)]
  const avoided = new Set<number>()
  for (const a of sums) for (const b of sums) if (a > b) avoided.add(a - b)
  return [...avoided]
}
