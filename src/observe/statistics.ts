import type { Unsubscribe } from '../base/cell.js'
import type { Clock } from '../base/clock.js'

/** Units of a statistic, named as in `cqp.remote.SiteAgentReport.Units`. */
export type StatisticUnit =
  'complex' | 'count' | 'milliseconds' | 'percentage' | 'decibels' | 'hz' | 'picosecondsPerSecond'

/** The five figures of a statistic. `average` is upstream's: half way between the average before and the value. */
export interface StatisticFigures<N extends number | bigint> {
  readonly latest: N
  readonly average: N
  readonly total: N
  readonly min: N
  readonly max: N
}

export type StatisticValue =
  | { readonly type: 'double'; readonly figures: StatisticFigures<number> }
  | { readonly type: 'long'; readonly figures: StatisticFigures<bigint> }
  | { readonly type: 'unsigned'; readonly figures: StatisticFigures<bigint> }

/** One change of one statistic. A report without path and value says that the parameters changed. */
export interface StatisticReport {
  /** Root first, for example `['ErrorCorrection', 'QBER']`. */
  readonly path: readonly string[]
  /** Unlike for any other statistic of this process; 0 where there is no path. */
  readonly id: bigint
  readonly unit: StatisticUnit
  readonly parameters: ReadonlyMap<string, string>
  /** Wall clock, Unix ms. */
  readonly updatedMs: number
  /** Value per microsecond since the update before; 0 for the first, infinite if both came within one ms. */
  readonly rate: number
  readonly value: StatisticValue | undefined
}

export interface StatisticUpdater<N extends number | bigint> {
  update(value: N): void
}

/** The statistics of one device, reported as they change. */
export interface Statistics {
  /** The same path gives the same statistic; another type for it is a fault of the caller. */
  double(path: readonly string[], unit: StatisticUnit): StatisticUpdater<number>
  long(path: readonly string[], unit: StatisticUnit): StatisticUpdater<bigint>
  unsigned(path: readonly string[], unit: StatisticUnit): StatisticUpdater<bigint>
  /** Parameters that go with every later report. `peer` is the address of the device at the other site. */
  sessionStarted(peer: string): void
  /** Sends one report that carries the parameters only. */
  sessionEnded(): void
  /** Called after each change; what was before is not repeated. */
  subscribe(listener: (report: StatisticReport) => void): Unsubscribe
  /** The latest report of each statistic that was updated at least once. */
  latest(): readonly StatisticReport[]
}

/** How to count with one kind of number. */
interface Arithmetic<N extends number | bigint> {
  add(a: N, b: N): N
  middle(a: N, b: N): N
  toNumber(a: N): number
  wrap(figures: StatisticFigures<N>): StatisticValue
}

const doubles: Arithmetic<number> = {
  add: (a, b) => a + b,
  middle: (a, b) => (a + b) / 2,
  toNumber: (a) => a,
  wrap: (figures) => ({ type: 'double', figures }),
}

const MAX_INT64 = 2n ** 63n - 1n
const MAX_UINT64 = 2n ** 64n - 1n

const longs: Arithmetic<bigint> = {
  add: (a, b) => BigInt.asIntN(64, a + b),
  middle: (a, b) => (a + b) / 2n,
  toNumber: Number,
  wrap: (figures) => ({ type: 'long', figures }),
}

const unsigneds: Arithmetic<bigint> = {
  add: (a, b) => BigInt.asUintN(64, a + b),
  middle: (a, b) => (a + b) / 2n,
  toNumber: Number,
  wrap: (figures) => ({ type: 'unsigned', figures }),
}

export function createStatistics(clock: Pick<Clock, 'nowMs'>, onListenerError: (error: unknown) => void): Statistics {
  const listeners = new Set<(report: StatisticReport) => void>()
  const types = new Map<string, StatisticValue['type']>()
  const updaters = {
    double: new Map<string, StatisticUpdater<number>>(),
    long: new Map<string, StatisticUpdater<bigint>>(),
    unsigned: new Map<string, StatisticUpdater<bigint>>(),
  }
  const latest = new Map<string, StatisticReport>()
  let parameters: ReadonlyMap<string, string> = new Map([['sessionActive', 'false']])
  let lastId = 0n

  const tell = (report: StatisticReport): void => {
    for (const listener of [...listeners]) {
      try {
        listener(report)
      } catch (error) {
        onListenerError(error)
      }
    }
  }

  function make<N extends number | bigint>(
    key: string,
    path: readonly string[],
    unit: StatisticUnit,
    arithmetic: Arithmetic<N>,
    check: (value: N) => boolean,
  ): StatisticUpdater<N> {
    lastId += 1n
    const id = lastId
    let figures: StatisticFigures<N> | undefined
    let lastMs = 0
    return {
      update(value) {
        if (!check(value)) return
        const updatedMs = clock.nowMs()
        const elapsedUs = Math.floor(updatedMs - lastMs) * 1_000
        const rate = figures === undefined ? 0 : ratePerMicrosecond(arithmetic.toNumber(value), elapsedUs)
        lastMs = updatedMs
        figures =
          figures === undefined
            ? { latest: value, average: value, total: value, min: value, max: value }
            : {
                latest: value,
                average: arithmetic.middle(figures.average, value),
                total: arithmetic.add(figures.total, value),
                min: value < figures.min ? value : figures.min,
                max: value > figures.max ? value : figures.max,
              }
        const report = { path, id, unit, parameters, updatedMs, rate, value: arithmetic.wrap(figures) }
        latest.set(key, report)
        tell(report)
      },
    }
  }

  function updaterOf<N extends number | bigint>(
    type: StatisticValue['type'],
    known: Map<string, StatisticUpdater<N>>,
    path: readonly string[],
    unit: StatisticUnit,
    arithmetic: Arithmetic<N>,
    check: (value: N) => boolean,
  ): StatisticUpdater<N> {
    const key = JSON.stringify(path)
    if ((types.get(key) ?? type) !== type) throw new Error(`statistic ${path.join('/')} has another type already`)
    types.set(key, type)
    let updater = known.get(key)
    if (updater === undefined) {
      updater = make(key, [...path], unit, arithmetic, check)
      known.set(key, updater)
    }
    return updater
  }

  return {
    double: (path, unit) => updaterOf('double', updaters.double, path, unit, doubles, (v) => !Number.isNaN(v)),
    long: (path, unit) =>
      updaterOf('long', updaters.long, path, unit, longs, (v) => v >= -MAX_INT64 - 1n && v <= MAX_INT64),
    unsigned: (path, unit) =>
      updaterOf('unsigned', updaters.unsigned, path, unit, unsigneds, (v) => v >= 0n && v <= MAX_UINT64),
    sessionStarted(peer) {
      parameters = new Map([
        ['sessionActive', 'true'],
        ['to', peer],
      ])
    },
    sessionEnded() {
      const to = parameters.get('to')
      parameters = new Map([['sessionActive', 'false'], ...(to === undefined ? [] : [['to', to] as const])])
      tell({ path: [], id: 0n, unit: 'complex', parameters, updatedMs: clock.nowMs(), rate: 0, value: undefined })
    },
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    latest: () => [...latest.values()],
  }
}

function ratePerMicrosecond(value: number, elapsedUs: number): number {
  if (elapsedUs > 0) return value / elapsedUs
  return value === 0 ? 0 : Infinity * Math.sign(value)
}
