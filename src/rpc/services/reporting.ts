import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Server } from '@grpc/grpc-js'
import type { Clock, Timer } from '../../base/clock.js'
import type { StatisticReport, Statistics, StatisticUnit } from '../../observe/statistics.js'
import { addServerStream, type HandlerOptions } from '../bridge.js'
import { invalid } from '../checks.js'
import {
  IReporting,
  SiteAgentReport_Units,
  SiteAgentReportSchema,
  type ReportingFilter,
  type SiteAgentReport,
} from '../gen/cqp/remote/reporting_pb.js'

const MAX_FILTERS = 256
const MAX_FILTER_DEPTH = 32
/** Statistics that wait for one slow reader; more kinds than a device has. */
const MAX_PENDING = 1_024

/** `IReporting.GetStatistics`, as upstream sends it, but with `maxRate_ms` for each statistic on its own. */
export function addReportingService(
  server: Server,
  statistics: Statistics,
  clock: Clock,
  handling: HandlerOptions,
): void {
  addServerStream(
    server,
    IReporting.method.getStatistics,
    async (filter, context) => {
      const wanted = createFilter(filter)
      const pending = createPending(clock, filter.maxRateMs)
      const unsubscribe = statistics.subscribe((report) => {
        if (wanted(report.path)) pending.add(report)
      })
      context.signal.addEventListener('abort', pending.stop, { once: true })
      try {
        for (;;) {
          const report = await pending.next()
          if (report === undefined || (await context.write(wireReport(report))) === 'ended') return
        }
      } finally {
        unsubscribe()
        pending.stop()
        context.signal.removeEventListener('abort', pending.stop)
      }
    },
    handling,
  )
}

/**
 * A filter matches if the shorter of filter and path begins the other; listed are what is wanted or, with
 * `listIsExclude`, what is not. So no filters with `listIsExclude` is everything, and without it nothing.
 */
export function createFilter(filter: ReportingFilter): (path: readonly string[]) => boolean {
  const { filters, listIsExclude } = filter
  if (filters.length > MAX_FILTERS) throw invalid('filters', `${filters.length} entries, at most ${MAX_FILTERS}`)
  const prefixes = filters.map(({ fullname }, index) => {
    if (fullname.length > MAX_FILTER_DEPTH) {
      throw invalid(`filters[${index}].fullname`, `${fullname.length} parts, at most ${MAX_FILTER_DEPTH}`)
    }
    return fullname
  })
  return (path) => {
    // What carries parameters only has no path and is for everybody who wants anything.
    if (path.length === 0) return listIsExclude || prefixes.length > 0
    const listed = prefixes.some((prefix) => {
      const length = Math.min(prefix.length, path.length)
      return prefix.slice(0, length).every((part, index) => part === path[index])
    })
    return listed !== listIsExclude
  }
}

interface Pending {
  add(report: StatisticReport): void
  /** The next report that may go out; undefined once stopped. */
  next(): Promise<StatisticReport | undefined>
  readonly stop: () => void
}

/** Keeps the latest report of each statistic until the reader takes it, at most one in `intervalMs` of each. */
function createPending(clock: Clock, intervalMs: number): Pending {
  const reports = new Map<bigint, StatisticReport>()
  const sentMs = new Map<bigint, number>()
  let wake: (() => void) | undefined
  let timer: Timer | undefined
  let stopped = false

  const rouse = (): void => {
    timer?.cancel()
    timer = undefined
    wake?.()
  }

  const due = (): { report?: StatisticReport; inMs: number } => {
    const nowMs = clock.monotonicMs()
    let inMs = Infinity
    for (const report of reports.values()) {
      const waitMs = (sentMs.get(report.id) ?? -Infinity) + intervalMs - nowMs
      if (waitMs <= 0 || report.path.length === 0) return { report, inMs: 0 }
      inMs = Math.min(inMs, waitMs)
    }
    return { inMs }
  }

  return {
    add(report) {
      // The latest takes the place of the one before, which keeps its turn.
      if (reports.has(report.id) || reports.size < MAX_PENDING) reports.set(report.id, report)
      rouse()
    },
    async next() {
      for (;;) {
        if (stopped) return undefined
        const { report, inMs } = due()
        if (report !== undefined) {
          reports.delete(report.id)
          sentMs.set(report.id, clock.monotonicMs())
          return report
        }
        await new Promise<void>((resolve) => {
          wake = resolve
          if (inMs !== Infinity) timer = clock.after(Math.min(inMs, 2 ** 31 - 1), rouse)
        })
      }
    },
    stop() {
      stopped = true
      rouse()
    },
  }
}

const UNITS: Readonly<Record<StatisticUnit, SiteAgentReport_Units>> = {
  complex: SiteAgentReport_Units.Complex,
  count: SiteAgentReport_Units.Count,
  milliseconds: SiteAgentReport_Units.Milliseconds,
  percentage: SiteAgentReport_Units.Percentage,
  decibels: SiteAgentReport_Units.Decibels,
  hz: SiteAgentReport_Units.Hz,
  picosecondsPerSecond: SiteAgentReport_Units.PicoSecondsPerSecond,
}

/** A report as it travels. */
export function wireReport(report: StatisticReport): SiteAgentReport {
  return create(SiteAgentReportSchema, {
    path: [...report.path],
    id: report.id,
    parameters: Object.fromEntries(report.parameters),
    unit: UNITS[report.unit],
    updated: timestampFromMs(report.updatedMs),
    rate: report.rate,
    ...(report.value === undefined ? {} : { value: wireValue(report.value) }),
  })
}

function wireValue(value: NonNullable<StatisticReport['value']>) {
  switch (value.type) {
    case 'double':
      return { case: 'asDouble' as const, value: value.figures }
    case 'long':
      return { case: 'asLong' as const, value: value.figures }
    case 'unsigned':
      return { case: 'asUnsigned' as const, value: value.figures }
  }
}
