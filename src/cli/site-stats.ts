/** `qkd-gw site … stats`: the statistics of a SiteAgent and of its devices, as they come. */
import { timestampMs } from '@bufbuild/protobuf/wkt'
import { GatewayError } from '../base/errors.js'
import { serverStream } from '../rpc/bridge.js'
import { IReporting, SiteAgentReport_Units, type SiteAgentReport } from '../rpc/gen/cqp/remote/reporting_pb.js'
import { statusName } from '../rpc/rpc-error.js'
import type { SiteContext } from './site-context.js'

interface Row {
  time: string
  path: string
  id: string
  unit: string
  latest: string
  average: string
  total: string
  min: string
  max: string
  rate: number
  parameters: Record<string, string>
}

const columns = ['time', 'path', 'id', 'unit', 'latest', 'average', 'total', 'min', 'max', 'rate'] as const

function rowOf(report: SiteAgentReport): Row {
  const value = report.value.value
  return {
    time: new Date(report.updated === undefined ? 0 : timestampMs(report.updated)).toISOString(),
    path: report.path.join('/'),
    id: report.id.toString(),
    unit: SiteAgentReport_Units[report.unit] ?? String(report.unit),
    latest: String(value?.latest ?? ''),
    average: String(value?.average ?? ''),
    total: String(value?.total ?? ''),
    min: String(value?.min ?? ''),
    max: String(value?.max ?? ''),
    rate: report.rate,
    parameters: report.parameters,
  }
}

function quoted(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

export async function showStatistics(context: SiteContext): Promise<void> {
  const { flags, env } = context.request
  const { filter, exclude, rate, seconds } = flags
  if (flags.json === true && flags.csv === true)
    throw new GatewayError('E_USAGE', '--json and --csv exclude each other')
  const filters = filter.map((path) => ({ fullname: path.split('/') }))
  const channel = await context.opener(context.address)()
  try {
    const call = serverStream(
      channel.client,
      IReporting.method.getStatistics,
      // Without a filter an inclusion list lets nothing through, an exclusion list everything.
      { maxRateMs: rate, listIsExclude: exclude === true || filters.length === 0, filters },
      { deadlineMs: seconds === undefined ? Infinity : seconds * 1000, signal: context.signal },
    )
    if (flags.csv === true) env.stdout.write(`${[...columns, 'parameters'].join(',')}\n`)
    for await (const report of untilEnd(call)) write(context, rowOf(report))
    const ended = await call.status
    const wanted = context.signal.aborted || seconds !== undefined
    if (!wanted) {
      throw new GatewayError(
        'E_SITE_UNREACHABLE',
        `the statistics of ${context.request.address} ended: ${statusName(ended.code)} ${ended.details}`,
      )
    }
  } finally {
    await channel.close()
  }
}

/** The messages; how the stream ended is for `status` to tell. */
async function* untilEnd<T>(messages: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
  try {
    yield* messages
  } catch {
    return
  }
}

function write(context: SiteContext, row: Row): void {
  if (context.request.flags.csv === true) {
    const parameters = Object.entries(row.parameters).map(([name, value]) => `${name}=${value}`)
    const cells = [...columns.map((column) => String(row[column])), parameters.join(' ')]
    context.request.env.stdout.write(`${cells.map(quoted).join(',')}\n`)
    return
  }
  const from = [row.parameters['siteFrom'], row.parameters['to']].filter((part) => part !== undefined).join(' to ')
  context.line(row, `${row.time}  ${row.path}  ${row.latest} (total ${row.total}) ${row.unit}  ${from}`.trimEnd())
}
