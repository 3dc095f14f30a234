/** The figures of one gateway in Prometheus's text form. Counts, times and states only: nothing here is made of key. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client'
import type { DeviceState } from '../device/contract.js'
import type { LinkCounts } from '../link/contract.js'
import { DROP_REASONS } from '../link/counts.js'
import type { SessionState } from '../link/session-state.js'
import { LINK_STAGES, type LinkCondition, type LinkFigures } from '../link/status.js'
import type { MetricsPage } from '../observe/metrics-server.js'
import type { PartStatus } from '../observe/status.js'
import type { DeviceServerCounts } from '../rpc/server.js'
import type { RegistrationState } from '../site/contract.js'
import type { TunnelState } from '../tunnel/contract.js'
import type { DirectProofState } from './direct-proof.js'
import type { ServingState } from './serving.js'
import type { GatewayStatus } from './status-socket.js'

/** What is looked at when somebody asks. */
export interface MetricsInput {
  readonly status: GatewayStatus
  readonly driver: string
  readonly side: string
  /** Where keys of such a device are never secret: why. */
  readonly notSecretBecause: string | undefined
  readonly counts: LinkCounts
  readonly figures: LinkFigures
  /** By reason: what the driver withheld or lost. */
  readonly discarded: Readonly<Record<string, number>>
  readonly server: DeviceServerCounts
  /** ms; undefined while nothing is proven. */
  readonly tunnelRoundTripMs: number | undefined
}

type Names<S extends string> = Readonly<Record<S, true>>

const device: Names<DeviceState['state']> = {
  ...{ absent: true, busy: true, refused: true, opening: true, open: true },
  ...{ identified: true, producing: true, silent: true, stopped: true },
}
const server: Names<ServingState['state']> = { binding: true, serving: true, stopped: true }
const tunnel: Names<TunnelState['state'] | DirectProofState['state'] | 'off'> = {
  ...{ off: true, probing: true, connecting: true, authenticated: true, listening: true, proven: true },
  ...{ degraded: true, down: true, 'needs-attention': true, stopped: true },
}
const registration: Names<RegistrationState['state'] | 'off'> = {
  ...{ off: true, waiting: true, registering: true, registered: true, failed: true },
  ...{ 'needs-attention': true, unregistered: true },
}
const session: Names<SessionState['state'] | 'listening'> = {
  ...{ none: true, listening: true, starting: true, started: true, ending: true },
}
const link: Names<LinkCondition['state']> = {
  ...{ diverged: true, stopped: true, mismatch: true, unagreed: true },
  ...{ owed: true, waiting: true, delivering: true, idle: true },
}
/** Every state that a part can be in: each is a series of its own, 1 for the present one, so that none comes and goes. */
const STATES: Readonly<Record<string, Readonly<Record<string, true>>>> = {
  ...{ device, server, tunnel, registration, session, link },
}

/** Parts whose state is a metric of its own; the names of the metrics follow them. */
export const METRIC_PARTS = Object.keys(STATES)

export interface Metrics {
  page(): Promise<MetricsPage>
  /** Ends the watch over the process that the default metrics keep. */
  close(): void
}

export function createMetrics(look: () => MetricsInput): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const write = gatewayMetrics(registry)
  return {
    async page() {
      write(look())
      return { contentType: registry.contentType, text: await registry.metrics() }
    },
    close: () => registry.clear(),
  }
}

/** Declares all metrics; the result writes what is so now into them. */
function gatewayMetrics(register: Registry): (input: MetricsInput) => void {
  const writers: ((input: MetricsInput) => void)[] = []

  /** `read` gives the values with their labels; what it leaves out is not shown. */
  const gauge = (
    name: string,
    help: string,
    labelNames: readonly string[],
    read: (input: MetricsInput) => readonly Sample[],
  ): void => {
    const metric = new Gauge({ name: `qkdgw_${name}`, help, labelNames: [...labelNames], registers: [register] })
    writers.push((input) => {
      metric.reset()
      if (labelNames.length === 0) metric.remove()
      for (const [value, labels] of read(input)) metric.set(labels ?? {}, value)
    })
  }
  /** A count that never falls while the process lives. */
  const counter = (
    name: string,
    help: string,
    labelNames: readonly string[],
    read: (input: MetricsInput) => readonly Sample[],
  ): void => {
    const metric = new Counter({
      name: `qkdgw_${name}_total`,
      help,
      labelNames: [...labelNames],
      registers: [register],
    })
    writers.push((input) => {
      metric.reset()
      for (const [value, labels] of read(input)) metric.inc(labels ?? {}, value)
    })
  }

  gauge('info', 'Which device this gateway serves', ['version', 'id', 'driver', 'side'], (input) => [
    [1, { version: input.status.version, id: input.status.id, driver: input.driver, side: input.side }],
  ])
  gauge('keys_not_secret', 'There, and 1, where keys of such a device are never secret', ['reason'], (input) =>
    input.notSecretBecause === undefined ? [] : [[1, { reason: input.notSecretBecause }]],
  )
  keyMetrics(counter, gauge)
  siteMetrics(gauge)
  for (const [part, states] of Object.entries(STATES)) {
    gauge(`${part}_state`, `1 for the state in which the ${part} is`, ['state'], ({ status }) =>
      stateSamples(status.parts[part], states),
    )
  }
  gauge('part_state_since_timestamp_seconds', 'When the part came into its state', ['part'], ({ status }) =>
    Object.entries(status.parts).map(([part, { sinceMs }]) => [sinceMs / 1_000, { part }]),
  )
  gauge('warnings', 'Sentences that qkd-gw status shows as warnings', [], ({ status }) => [[status.warnings.length]])
  gauge('server_connections', 'Open connections to the device service', [], (input) => [[input.server.open]])
  counter('server_connections_accepted', 'Connections to the device service taken in', [], (input) => [
    [input.server.accepted],
  ])
  counter('server_calls_refused', 'Calls that the access policy refused', [], (input) => [
    [input.server.refusals.total],
  ])
  return (input) => {
    for (const write of writers) write(input)
  }
}

type Sample = readonly [value: number, labels?: Readonly<Record<string, string>>]
type Declare = (
  name: string,
  help: string,
  labelNames: readonly string[],
  read: (input: MetricsInput) => readonly Sample[],
) => void

/** received = delivered + held + sacrificed + the sum of dropped. */
function keyMetrics(counter: Declare, gauge: Declare): void {
  counter('keys_received', 'Keys that the device gave', [], ({ counts }) => [[Number(counts.received)]])
  counter('keys_delivered', 'Keys that the own SiteAgent took in', [], ({ counts }) => [[Number(counts.delivered)]])
  counter('keys_sacrificed', 'Keys given up to verify the others', [], ({ counts }) => [[Number(counts.sacrificed)]])
  counter('keys_dropped', 'Keys that were never delivered, by reason', ['reason'], ({ counts }) =>
    Object.keys(DROP_REASONS).map((reason) => [Number(counts.dropped[reason] ?? 0n), { reason }]),
  )
  counter('keys_inferred', 'Delivered keys whose taking in no total told of', [], ({ figures }) => [
    [Number(figures.inferredKeys)],
  ])
  counter('device_keys_discarded', 'Keys that the driver withheld or lost, by reason', ['reason'], (input) =>
    Object.entries(input.discarded).map(([reason, keys]) => [keys, { reason }]),
  )
  gauge('keys_held', 'Keys in memory, in batches too', [], ({ counts }) => [[Number(counts.held)]])
  gauge('link_stage_keys', 'Keys of unsettled batches by stage', ['stage'], ({ figures }) =>
    LINK_STAGES.map((stage) => [figures.stages[stage].keys, { stage }]),
  )
  gauge('link_stage_batches', 'Unsettled batches by stage', ['stage'], ({ figures }) =>
    LINK_STAGES.map((stage) => [figures.stages[stage].batches, { stage }]),
  )
  gauge('link_mismatched_batches', 'Batches in a row that did not verify', [], ({ figures }) => [[figures.mismatches]])
}

function siteMetrics(gauge: Declare): void {
  const ofBoth = (read: (site: LinkFigures['sites']['here']) => number | undefined) => (input: MetricsInput) => {
    const { here, there } = input.figures.sites
    return [...optional(read(here), { site: 'here' }), ...optional(read(there), { site: 'there' })]
  }
  const seconds = (ms: number | undefined): readonly Sample[] => optional(ms === undefined ? undefined : ms / 1_000)
  gauge(
    'site_keys_generated',
    "The SiteAgent's own total of keys taken in",
    ['site'],
    ofBoth(({ total }) => (total === undefined ? undefined : Number(total))),
  )
  gauge(
    'site_last_confirmed_timestamp_seconds',
    'When the SiteAgent was last known to have taken a batch in',
    ['site'],
    ofBoth(({ confirmedMs }) => (confirmedMs === undefined ? undefined : confirmedMs / 1_000)),
  )
  gauge('owed_keys', 'Keys that this SiteAgent lacks of what the other one has', ['site'], ({ figures }) => [
    [figures.owedHere, { site: 'here' }],
    [figures.owedThere, { site: 'there' }],
  ])
  gauge('sites_skew_seconds', 'Time between the two SiteAgents for the last batch', [], ({ figures }) =>
    seconds(figures.sites.skewMs),
  )
  gauge('sites_skew_max_seconds', 'The greatest of the last 100 batches', [], ({ figures }) =>
    seconds(figures.sites.skewMaxMs),
  )
  gauge('peer_round_trip_seconds', 'Between the two gateways', [], ({ figures }) => seconds(figures.roundTripMs))
  gauge('tunnel_round_trip_seconds', 'To the control address and back here', [], (input) =>
    seconds(input.tunnelRoundTripMs),
  )
  gauge('first_differing_key', 'Number of the first key that differs, where the stores have parted', [], (input) =>
    optional(input.figures.firstDifferingKey === undefined ? undefined : Number(input.figures.firstDifferingKey)),
  )
}

function optional(value: number | undefined, labels?: Readonly<Record<string, string>>): readonly Sample[] {
  return value === undefined ? [] : [labels === undefined ? [value] : [value, labels]]
}

function stateSamples(part: PartStatus | undefined, states: Readonly<Record<string, true>>): readonly Sample[] {
  const present = part?.state
  const all = present === undefined || present in states ? Object.keys(states) : [...Object.keys(states), present]
  return all.map((state) => [state === present ? 1 : 0, { state }])
}
