import { create } from '@bufbuild/protobuf'
import { Server } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { systemClock, type Clock } from '../../src/base/clock.js'
import { serverStream } from '../../src/rpc/bridge.js'
import { IReporting, ReportingFilterSchema, type SiteAgentReport } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { Figure, passesFilter, ReportServer } from '../../src/standin/report-server.js'
import { bind, dial } from '../../src/standin/wire.js'
import { useBench } from './support/bench.js'
import { poll } from './support/poll.js'

const bench = useBench()

const filter = (listIsExclude: boolean, ...names: string[][]) =>
  create(ReportingFilterSchema, { listIsExclude, filters: names.map((fullname) => ({ fullname })) })

test('a filter matches where the shorter of filter and path begins the other', () => {
  const path = ['Key Generation', 'Key Generated']
  expect(passesFilter(filter(false, path), path)).toBe(true)
  expect(passesFilter(filter(false, ['Key Generation']), path)).toBe(true)
  expect(passesFilter(filter(false, [...path, 'deeper']), path)).toBe(true)
  expect(passesFilter(filter(false, ['Key Generated']), path)).toBe(false)
  expect(passesFilter(filter(true, path), path)).toBe(false)
})

test('an empty filter lets nothing through, an empty exclusion everything', () => {
  expect(passesFilter(filter(false), ['any'])).toBe(false)
  expect(passesFilter(filter(true), ['any'])).toBe(true)
})

test('figures: the average is half way to the value, the rate is value a microsecond since the last update', () => {
  let nowMs = 0
  const clock: Clock = { ...systemClock, monotonicMs: () => nowMs }
  const figure = new Figure(['Key Generation', 'Key Generated'], 2n, {}, clock)
  expect(figure.update(781n)).toMatchObject({
    rate: 0,
    value: { case: 'asUnsigned', value: { latest: 781n, average: 781n, total: 781n, min: 781n, max: 781n } },
  })
  nowMs = 1000
  const second = figure.update(783n)
  expect(second.rate).toBeCloseTo(783 / 1_000_000, 12)
  expect(second.value).toMatchObject({ value: { latest: 783n, average: 782n, total: 1564n, min: 781n, max: 783n } })
})

test('changes only are sent, never what was before; the rate limit holds for the whole listener', async () => {
  let nowMs = 0
  const reports = new ReportServer({ ...systemClock, monotonicMs: () => nowMs })
  const server = new Server()
  reports.register(server)
  const address = `127.0.0.1:${await bind(server, '127.0.0.1:0')}`
  bench.after(() => server.forceShutdown())
  const client = dial(address)
  bench.after(() => client.close())
  const listen = (maxRateMs: number): SiteAgentReport[] => {
    const seen: SiteAgentReport[] = []
    const stop = new AbortController()
    bench.after(() => stop.abort())
    const options = { deadlineMs: Infinity, signal: stop.signal }
    const call = serverStream(client, IReporting.method.getStatistics, { listIsExclude: true, maxRateMs }, options)
    void (async () => {
      for await (const report of call) seen.push(report)
    })().catch(() => {})
    return seen
  }
  reports.publish({ path: ['before'] })
  const [all, limited] = [listen(0), listen(100)]
  await poll(() => reports.listenerCount).toBe(2)
  reports.publish({ path: ['a'] })
  reports.publish({ path: ['b'] })
  nowMs = 100
  reports.publish({ path: ['c'] })
  await poll(() => all.map(({ path }) => path[0])).toEqual(['a', 'b', 'c'])
  expect(limited.map(({ path }) => path[0])).toEqual(['a', 'c'])
})
