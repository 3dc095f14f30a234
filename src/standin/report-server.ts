/** `IReporting` as a C++ SiteAgent serves it: changes only, never a snapshot, one rate limit for the whole listener. */
import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type * as grpc from '@grpc/grpc-js'
import type { Clock } from '../base/clock.js'
import { addServerStream } from '../rpc/bridge.js'
import {
  IReporting,
  SiteAgentReport_Units,
  type ReportingFilter,
  type SiteAgentReportSchema,
} from '../rpc/gen/cqp/remote/reporting_pb.js'

export type Report = MessageInitShape<typeof SiteAgentReportSchema>

function isPrefix(shorter: readonly string[], longer: readonly string[]): boolean {
  return shorter.every((part, index) => part === longer[index])
}

/** A filter matches where the shorter of filter and path is the beginning of the other. */
function matches(filter: readonly string[], path: readonly string[]): boolean {
  return filter.length <= path.length ? isPrefix(filter, path) : isPrefix(path, filter)
}

/** Whether a listener with this filter hears of `path`. An empty list that is no exclusion lets nothing through. */
export function passesFilter(filter: ReportingFilter, path: readonly string[]): boolean {
  const listed = filter.filters.some((entry) => matches(entry.fullname, path))
  return filter.listIsExclude ? !listed : listed
}

export class ReportServer {
  readonly #listeners = new Set<(report: Report) => void>()

  constructor(private readonly clock: Clock) {}

  get listenerCount(): number {
    return this.#listeners.size
  }

  publish(report: Report): void {
    for (const listener of [...this.#listeners]) listener(report)
  }

  register(server: grpc.Server): void {
    addServerStream(server, IReporting.method.getStatistics, async (filter, stream) => {
      const { signal } = stream
      let lastMs = Number.NEGATIVE_INFINITY
      // One write at a time, in order.
      let turn: Promise<unknown> = Promise.resolve()
      await new Promise<void>((resolve) => {
        const listener = (report: Report): void => {
          if (!passesFilter(filter, report.path ?? [])) return
          const nowMs = this.clock.monotonicMs()
          if (nowMs - lastMs < filter.maxRateMs) return
          lastMs = nowMs
          turn = turn.then(() => stream.write(report))
        }
        const stop = (): void => {
          this.#listeners.delete(listener)
          resolve()
        }
        if (signal.aborted) return stop()
        this.#listeners.add(listener)
        signal.addEventListener('abort', stop, { once: true })
      })
    })
  }
}

/** One figure: latest, average as (average + value) / 2, total, least and greatest, value a microsecond since the last update. */
export class Figure {
  #average = 0n
  #total = 0n
  #min = 0n
  #max = 0n
  #updates = 0
  #lastUs = 0

  constructor(
    private readonly path: readonly string[],
    private readonly id: bigint,
    private readonly parameters: Readonly<Record<string, string>>,
    private readonly clock: Clock,
  ) {}

  get total(): bigint {
    return this.#total
  }

  update(value: bigint): Report {
    const nowUs = this.clock.monotonicMs() * 1000
    const first = this.#updates === 0
    const rate = first ? 0 : Number(value) / (nowUs - this.#lastUs)
    this.#lastUs = nowUs
    this.#average = first ? value : (this.#average + value) / 2n
    this.#total += value
    this.#min = first || value < this.#min ? value : this.#min
    this.#max = value > this.#max ? value : this.#max
    this.#updates += 1
    return {
      path: [...this.path],
      id: this.id,
      parameters: { ...this.parameters },
      unit: SiteAgentReport_Units.Count,
      updated: timestampFromMs(this.clock.nowMs()),
      rate,
      value: {
        case: 'asUnsigned',
        value: { latest: value, average: this.#average, total: this.#total, min: this.#min, max: this.#max },
      },
    }
  }
}

/** The four figures of one key store, with ids of their own. */
export class KeyStoreFigures {
  readonly #unused: Figure
  readonly #reserved: Figure
  readonly #generated: Figure
  readonly #used: Figure

  constructor(
    firstId: bigint,
    parameters: Readonly<Record<string, string>>,
    clock: Clock,
    private readonly publish: (report: Report) => void,
  ) {
    const make = (name: string, offset: bigint): Figure =>
      new Figure(['Key Generation', name], firstId + offset, parameters, clock)
    this.#unused = make('Unused Keys Available', 0n)
    this.#reserved = make('Reserved Keys', 1n)
    this.#generated = make('Key Generated', 2n)
    this.#used = make('Key Used', 3n)
  }

  get generatedTotal(): bigint {
    return this.#generated.total
  }

  /** After a batch: all three, in the original's order. */
  received(count: number, unused: number, reserved: number): void {
    this.publish(this.#unused.update(BigInt(unused)))
    this.publish(this.#reserved.update(BigInt(reserved)))
    this.publish(this.#generated.update(BigInt(count)))
  }

  used(count: number): void {
    this.publish(this.#used.update(BigInt(count)))
  }
}
