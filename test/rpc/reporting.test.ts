import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { createStatistics, type StatisticReport } from '../../src/observe/statistics.js'
import { serverStream } from '../../src/rpc/bridge.js'
import { IReporting, ReportingFilterSchema, SiteAgentReport_Units } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { createFilter, wireReport } from '../../src/rpc/services/reporting.js'
import { soon, startDevice, type DeviceUnderTest } from './support/device.js'

let device: DeviceUnderTest | undefined
afterEach(async () => {
  await device?.close()
  device = undefined
})

const filterOf = (listIsExclude: boolean, ...names: string[][]): ((path: readonly string[]) => boolean) =>
  createFilter(create(ReportingFilterSchema, { listIsExclude, filters: names.map((fullname) => ({ fullname })) }))

describe('a filter', () => {
  it('without entries is everything if it excludes, and nothing if it does not', () => {
    expect(filterOf(true)(['A', 'B'])).toBe(true)
    expect(filterOf(false)(['A', 'B'])).toBe(false)
  })

  it('matches where the shorter of filter and path begins the other', () => {
    const matches = filterOf(false, ['Key Generation', 'Key Generated'])
    expect(matches(['Key Generation', 'Key Generated'])).toBe(true)
    expect(matches(['Key Generation'])).toBe(true)
    expect(matches(['Key Generation', 'Key Generated', 'Site'])).toBe(true)
    expect(matches(['Key Generation', 'Key Used'])).toBe(false)
    expect(matches(['Key Generated'])).toBe(false)
  })

  it('that excludes is the opposite of the one that does not', () => {
    const path = fc.array(fc.constantFrom('a', 'b'), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(fc.array(path, { minLength: 1, maxLength: 3 }), path, (names, looked) => {
        expect(filterOf(true, ...names)(looked)).toBe(!filterOf(false, ...names)(looked))
      }),
    )
  })
})

describe('a statistic', () => {
  let nowMs = 1_000
  const collect = (): { statistics: ReturnType<typeof createStatistics>; reports: StatisticReport[] } => {
    const statistics = createStatistics({ nowMs: () => nowMs }, () => {})
    const reports: StatisticReport[] = []
    statistics.subscribe((report) => reports.push(report))
    return { statistics, reports }
  }

  it('keeps the five figures and the rate a microsecond', () => {
    const { statistics, reports } = collect()
    const time = statistics.double(['TransmitterGroup', 'Frame Time'], 'milliseconds')
    time.update(10)
    nowMs += 2
    time.update(20)
    time.update(6)
    expect(reports.map(({ rate }) => rate)).toEqual([0, 20 / 2_000, Infinity])
    expect(reports.at(-1)?.value?.figures).toEqual({ latest: 6, average: 10.5, total: 36, min: 6, max: 20 })
    expect(reports[0]?.value?.figures).toEqual({ latest: 10, average: 10, total: 10, min: 10, max: 10 })
  })

  it('counts to the end of 64 bits exactly', () => {
    const { statistics, reports } = collect()
    statistics.unsigned(['n'], 'count').update(2n ** 64n - 1n)
    statistics.unsigned(['n'], 'count').update(2n ** 64n)
    statistics.long(['m'], 'count').update(-(2n ** 63n))
    expect(reports.map(({ value }) => value?.figures.latest)).toEqual([2n ** 64n - 1n, -(2n ** 63n)])
    expect(new Set(reports.map(({ id }) => id)).size).toBe(2)
  })

  it('carries the session, and its end is one report without path or value', () => {
    const { statistics, reports } = collect()
    statistics.sessionStarted('10.0.0.7:9000')
    statistics.unsigned(['n'], 'count').update(1n)
    statistics.sessionEnded()
    expect(reports.map(({ parameters }) => Object.fromEntries(parameters))).toEqual([
      { sessionActive: 'true', to: '10.0.0.7:9000' },
      { sessionActive: 'false', to: '10.0.0.7:9000' },
    ])
    const [, last] = reports
    if (last === undefined) throw new Error('no report')
    expect(wireReport(last)).toMatchObject({
      path: [],
      value: { case: undefined },
      unit: SiteAgentReport_Units.Complex,
    })
  })
})

describe('GetStatistics', () => {
  it('limits each statistic on its own and ends with the latest of each', async () => {
    device = await startDevice()
    const { statistics } = device
    const { client } = await device.channel()
    const stop = new AbortController()
    const call = serverStream(
      client,
      IReporting.method.getStatistics,
      { listIsExclude: true, maxRateMs: 300 },
      { deadlineMs: Infinity, signal: stop.signal },
    )
    const slow = statistics.unsigned(['Slow'], 'count')
    const quick = statistics.unsigned(['Quick'], 'count')
    const seen: string[] = []
    // Updates begin once the call has surely reached the server: its first answer.
    const knock = setInterval(() => statistics.unsigned(['Knock'], 'count').update(1n), 5)
    let startedMs = 0
    try {
      for await (const { path, value } of call) {
        if (path[0] === 'Knock') {
          if (startedMs !== 0) continue
          clearInterval(knock)
          startedMs = performance.now()
          slow.update(1n)
          for (let n = 1n; n <= 500n; n += 1n) quick.update(n)
          continue
        }
        seen.push(`${path[0]} ${value.case === 'asUnsigned' ? value.value.latest : ''}`)
        if (seen.length === 2) for (let n = 501n; n <= 1_000n; n += 1n) quick.update(n)
        if (seen.length === 3) stop.abort()
      }
    } catch {
      // Cancelled by ourselves.
    }
    expect(seen[0]).toBe('Slow 1')
    expect(seen[2]).toBe('Quick 1000')
    expect(performance.now() - startedMs).toBeGreaterThan(280)
  })

  it('refuses a filter without end and names the field', async () => {
    device = await startDevice()
    const { client } = await device.channel()
    const filters = [{ fullname: Array.from({ length: 40 }, () => 'x') }]
    const call = serverStream(client, IReporting.method.getStatistics, { filters }, soon())
    expect((await call.status).details).toContain('filters[0].fullname: 40 parts')
  })
})
