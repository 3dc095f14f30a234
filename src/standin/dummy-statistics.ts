/** The statistics of a Dummy device: paths, ids, units and parameters as the original sends them. */
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../base/clock.js'
import { SiteAgentReport_Units } from '../rpc/gen/cqp/remote/reporting_pb.js'
import type { ReportServer } from './report-server.js'

const ids: Readonly<Record<string, bigint>> = {
  'Privacy Amplification/KeyEmitted': 4n,
  'Privacy Amplification/TimeTaken': 5n,
  'TransmitterGroup/Qubits Transmitted': 6n,
  'TransmitterGroup/Qubits Received': 7n,
  'TransmitterGroup/Time Taken': 8n,
  'TransmitterGroup/Frame Time': 9n,
  'Sifting/Bytes Produced': 10n,
  'Sifting/Comparison Time': 12n,
  'Sifting/Publish Time': 13n,
}

/** The original says Count of these times. */
const saidToBeCounts = new Set(['Sifting/Comparison Time', 'Sifting/Publish Time'])

interface Running {
  average: number
  total: number
  min: number
  max: number
  atUs: number
}

export class DummyStatistics {
  readonly #figures = new Map<string, Running>()
  #active = false
  #to = ''

  constructor(
    private readonly reports: ReportServer,
    private readonly clock: Clock,
  ) {}

  sessionBegan(to: string): void {
    this.#active = true
    this.#to = to
  }

  /** One report without path or value, only parameters. */
  sessionEnded(): void {
    this.#active = false
    this.reports.publish({ path: [], parameters: this.#parameters() })
  }

  ms(group: string, name: string, value: number): void {
    const { figure, rate, base } = this.#update(group, name, value)
    const unit = saidToBeCounts.has(`${group}/${name}`)
      ? SiteAgentReport_Units.Count
      : SiteAgentReport_Units.Milliseconds
    const { average, total, min, max } = figure
    this.reports.publish({
      ...base,
      unit,
      rate,
      value: { case: 'asDouble', value: { latest: value, average, total, min, max } },
    })
  }

  count(group: string, name: string, value: number): void {
    const { figure, rate, base } = this.#update(group, name, value)
    const whole = (n: number): bigint => BigInt(Math.trunc(n))
    const { average, total, min, max } = figure
    this.reports.publish({
      ...base,
      unit: SiteAgentReport_Units.Count,
      rate,
      value: {
        case: 'asUnsigned',
        value: {
          latest: whole(value),
          average: whole(average),
          total: whole(total),
          min: whole(min),
          max: whole(max),
        },
      },
    })
  }

  #update(group: string, name: string, value: number) {
    const key = `${group}/${name}`
    const nowUs = this.clock.monotonicMs() * 1000
    const before = this.#figures.get(key)
    const figure: Running =
      before === undefined
        ? { average: value, total: value, min: value, max: value, atUs: nowUs }
        : {
            average: (before.average + value) / 2,
            total: before.total + value,
            min: Math.min(before.min, value),
            max: Math.max(before.max, value),
            atUs: nowUs,
          }
    this.#figures.set(key, figure)
    const base = {
      path: [group, name],
      id: ids[key] ?? 0n,
      parameters: this.#parameters(),
      updated: timestampFromMs(this.clock.nowMs()),
    }
    return { figure, rate: before === undefined ? 0 : value / (nowUs - before.atUs), base }
  }

  #parameters(): Record<string, string> {
    return { sessionActive: String(this.#active), to: this.#to }
  }
}
