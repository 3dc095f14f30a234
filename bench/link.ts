/**
 * The agreement of two gateways at 0, 20 and 100 ms between the sites: keys a second agreed and delivered, the time from
 * the last byte of a full batch to the keys at each SiteAgent, and the skew between these. Gateways and SiteAgents are
 * processes of their own; the way between the gateways is a proxy that takes time, half of the round trip each way.
 */
import { cpus } from 'node:os'
import { startBenchChild, sharedUs, type BenchChild } from './support/bench-child.js'
import { startDelayProxy } from './support/delay-proxy.js'
import { inTurn, type Figure } from './support/figures.js'
import type { BareRequest } from './support/link-bare.js'
import type { GatewayRequest } from './support/link-gateway.js'
import type { SiteRequest, TakenBatch } from './support/link-site.js'

const roundTripsMs = [0, 20, 100]
/** Of the link's smallest batch by default, and the key that is given up for it. */
const burstKeys = 17
const bursts = 60
/** Batches before those that are measured: a gateway runs for months, and its code is quick after some hundreds. */
const warmBursts = 1_000
const warmEveryUs = 15_000
const warmMs = 2_000
const steadyMs = 6_000
const mostHeld = 60_000
/** A little more than the link's own pause between two Pings. */
const pingEveryMs = 2_100

interface Bed {
  readonly gateways: readonly [BenchChild, BenchChild]
  readonly sites: readonly [BenchChild, BenchChild]
  /** Once the gateways have met and are warm. */
  lengthenWay(): void
  close(): void
}

async function startBed(roundTripMs: number): Promise<Bed> {
  // For a look at where the time goes: QKDGW_BENCH_PROFILE=FOLDER writes a profile of each gateway.
  const folder = process.env['QKDGW_BENCH_PROFILE']
  const profiling = folder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${folder}`]
  const gateways = [
    startBenchChild('link-gateway.ts', profiling),
    startBenchChild('link-gateway.ts', profiling),
  ] as const
  const sites = [startBenchChild('link-site.ts'), startBenchChild('link-site.ts')] as const
  const closing: (() => void)[] = []
  const close = (): void => {
    for (const act of closing) act()
    for (const child of [...gateways, ...sites]) child.kill()
  }
  try {
    const [siteA, siteB] = await Promise.all(sites.map((site) => ask<string>(site, { do: 'listen' })))
    if (siteA === undefined || siteB === undefined) throw new Error('two sites are wanted')
    const left = await ask<string>(gateways[0], { do: 'start', siteAgent: siteA })
    const way = roundTripMs === 0 ? undefined : await startDelayProxy(Number(left.split(':')[1]))
    if (way !== undefined) closing.push(() => way.close())
    const peerVia = way?.address ?? left
    const right = await ask<string>(gateways[1], { do: 'start', siteAgent: siteB, peerVia })
    await askSite(sites[0], { do: 'wait', device: left })
    await askSite(sites[1], { do: 'wait', device: right, peer: left })
    return { gateways, sites, lengthenWay: () => way?.setOneWayMs(roundTripMs / 2), close }
  } catch (error) {
    close()
    throw error
  }
}

function ask<T>(child: BenchChild, request: GatewayRequest | SiteRequest, timeoutMs?: number): Promise<T> {
  return child.ask<T>(request, timeoutMs)
}
const askSite = (child: BenchChild, request: SiteRequest): Promise<unknown> => child.ask(request)

const batchesOf = (bed: Bed): Promise<readonly [TakenBatch[], TakenBatch[]]> =>
  Promise.all([ask<TakenBatch[]>(bed.sites[0], { do: 'batches' }), ask<TakenBatch[]>(bed.sites[1], { do: 'batches' })])

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((one, two) => one - two)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Bursts of keys at both gateways at once; when the last key of each was given, by gateway. */
function give(bed: Bed, count: number, everyUs: number): Promise<number[][]> {
  const fromUs = sharedUs() + 300_000
  const request = { do: 'bursts', keys: burstKeys, bursts: count, fromUs, everyUs } as const
  return Promise.all(bed.gateways.map((gateway) => ask<number[]>(gateway, request, 120_000)))
}

/** Until both SiteAgents have what came of `given` keys: all but the one that each batch costs. */
async function settled(bed: Bed, given: number): Promise<readonly [TakenBatch[], TakenBatch[]]> {
  const isAll = (list: readonly TakenBatch[]): boolean => list.reduce((sum, { keys }) => sum + keys + 1, 0) === given
  const untilMs = performance.now() + 20_000
  for (;;) {
    const batches = await batchesOf(bed)
    if (batches.every(isAll)) return batches
    if (performance.now() > untilMs) {
      const report = await ask<unknown>(bed.gateways[0], { do: 'reporting' })
      throw new Error(`only ${batches[0].length} and ${batches[1].length} batches came: ${JSON.stringify(report)}`)
    }
    await pause(50)
  }
}

/** Of the Pings of the link, while nothing else goes on; ms. */
async function measuredRoundTripMs(bed: Bed): Promise<number> {
  const times: number[] = []
  for (let look = 0; look < 7; look += 1) {
    await pause(pingEveryMs)
    const { facts } = await ask<{ facts: { roundTripMs?: number } }>(bed.gateways[0], { do: 'reporting' })
    if (facts.roundTripMs !== undefined) times.push(facts.roundTripMs)
  }
  return quantile(times, 0.5)
}

/** ms between the two SiteAgents, batch by batch. */
function skews([left, right]: readonly [readonly TakenBatch[], readonly TakenBatch[]]): number[] {
  return left.flatMap(({ atUs }, index) => {
    const other = right[index]
    return other === undefined ? [] : [Math.abs(other.atUs - atUs) / 1_000]
  })
}

/** What three bare gRPC messages take, between as many processes: ms, batch by batch, of a pair that is warm. */
export async function bareSkews(roundTripMs: number): Promise<number[]> {
  const gateways = [startBenchChild('link-bare.ts'), startBenchChild('link-bare.ts')] as const
  const sites = [startBenchChild('link-site.ts'), startBenchChild('link-site.ts')] as const
  const bare = (at: 0 | 1, request: BareRequest): Promise<string> => gateways[at].ask<string>(request, 120_000)
  const keys = burstKeys - 1
  let way: Awaited<ReturnType<typeof startDelayProxy>> | undefined
  try {
    const [siteA = '', siteB = ''] = await Promise.all(sites.map((site) => ask<string>(site, { do: 'listen' })))
    const left = await bare(0, { do: 'start', siteAgent: siteA, keys })
    way = roundTripMs === 0 ? undefined : await startDelayProxy(Number(left.split(':')[1]))
    const right = await bare(1, { do: 'start', siteAgent: siteB, keys, peer: way?.address ?? left })
    await askSite(sites[0], { do: 'wait', device: left })
    await askSite(sites[1], { do: 'wait', device: right })
    await pause(300)
    await bare(0, { do: 'bursts', bursts: warmBursts, everyMs: warmEveryUs / 1_000 })
    way?.setOneWayMs(roundTripMs / 2)
    await pause(300)
    await bare(0, { do: 'bursts', bursts, everyMs: 2.5 * roundTripMs + 40 })
    await pause(roundTripMs + 300)
    const lists = await Promise.all(sites.map((site) => ask<TakenBatch[]>(site, { do: 'batches' })))
    const [one = [], other = []] = lists.map((list) => list.slice(warmBursts))
    if (one.length !== bursts || other.length !== bursts) throw new Error('a bare batch was lost')
    return skews([one, other])
  } finally {
    way?.close()
    for (const child of [...gateways, ...sites]) child.kill()
  }
}

export async function latencyFigures(roundTripMs: number): Promise<Figure[]> {
  const bare = await bareSkews(roundTripMs)
  const bed = await startBed(roundTripMs)
  try {
    await Promise.all(bed.gateways.map((gateway) => ask(gateway, { do: 'unit' })))
    await give(bed, warmBursts, warmEveryUs)
    const warm = (await settled(bed, warmBursts * burstKeys))[0].length
    bed.lengthenWay()
    const given = await give(bed, bursts, Math.round((2.5 * roundTripMs + 40) * 1_000))
    const all = await settled(bed, (warmBursts + bursts) * burstKeys)
    const batches = [all[0].slice(warm), all[1].slice(warm)] as const
    const whole = batches.every((list) => list.every(({ keys }) => keys === burstKeys - 1))
    if (!whole) throw new Error('bursts were not batches of their own: this machine is too busy')
    const lateness = batches.map((list) =>
      list.map(({ atUs }, index) => (atUs - Math.max(...given.map((times) => times[index] ?? Number.NaN))) / 1_000),
    )
    const later = quantile(
      (lateness[0] ?? []).map((ms, index) => Math.max(ms, lateness[1]?.[index] ?? 0)),
      0.95,
    )
    // As the gateways measure it themselves: what lies between is not the way alone, but gRPC at both ends as well.
    const measuredMs = await measuredRoundTripMs(bed)
    const goal = 2 * measuredMs + 10
    const skew = skews(batches)
    const skewGoal = measuredMs / 2 + 2
    const name = `at ${roundTripMs} ms round trip`
    const note = `${bursts} full batches of ${burstKeys - 1} keys`
    return [
      {
        name: `last byte to the keys at the left SiteAgent, median, ${name}`,
        value: quantile(lateness[0] ?? [], 0.5),
        unit: 'ms',
        note,
      },
      { name: `the same at the right one, median, ${name}`, value: quantile(lateness[1] ?? [], 0.5), unit: 'ms', note },
      {
        name: `round trip between the gateways by their own Pings, median, ${name}`,
        value: measuredMs,
        unit: 'ms',
        note: `gRPC at both ends included; the goals below count it as the round trip`,
      },
      { name: `the same at the later one, 95 %, ${name}`, value: later, unit: 'ms', note: `goal ${goal.toFixed(1)}` },
      { name: `skew between the SiteAgents, median, ${name}`, value: quantile(skew, 0.5), unit: 'ms', note },
      { name: `the same, 95 %, ${name}`, value: quantile(skew, 0.95), unit: 'ms', note: `goal ${skewGoal.toFixed(1)}` },
      {
        name: `three bare gRPC messages between four such processes, median, ${name}`,
        value: quantile(bare, 0.5),
        unit: 'ms',
        note: 'no gateway in this language can do with less',
      },
      { name: `the same, 95 %, ${name}`, value: quantile(bare, 0.95), unit: 'ms' },
      {
        name: `the same, greatest, ${name}`,
        value: Math.max(...skew),
        unit: 'ms',
        note: `goal ${skewGoal.toFixed(1)}`,
      },
    ]
  } finally {
    bed.close()
  }
}

interface Cpu {
  readonly user: number
  readonly system: number
}

async function throughputFigures(roundTripMs: number): Promise<Figure[]> {
  const bed = await startBed(roundTripMs)
  try {
    bed.lengthenWay()
    await Promise.all(bed.gateways.map((gateway) => ask(gateway, { do: 'flood', mostHeld })))
    await pause(warmMs)
    const all = [...bed.gateways, ...bed.sites]
    const cpu = (): Promise<Cpu[]> => Promise.all(all.map((child) => ask<Cpu>(child, { do: 'cpu' })))
    const before = await cpu()
    const fromUs = sharedUs()
    await pause(steadyMs)
    const toUs = sharedUs()
    const after = await cpu()
    const batches = await batchesOf(bed)
    await Promise.all(bed.gateways.map((gateway) => ask(gateway, { do: 'stop' })))
    const within = batches.map((list) => list.filter(({ atUs }) => atUs >= fromUs && atUs < toUs))
    const keys = Math.min(...within.map((list) => list.reduce((sum, batch) => sum + batch.keys, 0)))
    const seconds = (toUs - fromUs) / 1_000_000
    const [left = 0, right = 0, siteA = 0, siteB = 0] = after.map(
      ({ user, system }, index) => (user + system - (before[index]?.user ?? 0) - (before[index]?.system ?? 0)) / keys,
    )
    const name = `at ${roundTripMs} ms round trip`
    const goal = roundTripMs === 0 ? 'goal 250,000' : roundTripMs === 20 ? 'goal 100,000' : ''
    const perBatch = keys / (within[0]?.length ?? Number.NaN)
    const shared = `4 processes and the source share ${cpus().length} CPUs`
    const figures: Figure[] = [
      {
        name: `keys a second at both SiteAgents ${name}`,
        value: keys / seconds,
        unit: 'keys/s',
        note: [goal, shared].filter((part) => part !== '').join('; '),
      },
      { name: `keys in a batch ${name}`, value: perBatch, unit: 'keys' },
      { name: `CPU of the left gateway a key ${name}`, value: left, unit: 'µs', note: 'its source included' },
      { name: `CPU of the right gateway a key ${name}`, value: right, unit: 'µs', note: 'its source included' },
      {
        name: `CPU of a SiteAgent a key ${name}`,
        value: (siteA + siteB) / 2,
        unit: 'µs',
        note: 'it counts keys and keeps none',
      },
      { name: `skew while as many keys flow as can, 95 %, ${name}`, value: quantile(skews(batches), 0.95), unit: 'ms' },
    ]
    if (process.env['QKDGW_BENCH_PROFILE'] !== undefined) {
      await Promise.all(bed.gateways.map((gateway) => ask(gateway, { do: 'end' })))
      await pause(3_000)
    }
    return figures
  } finally {
    bed.close()
  }
}

export async function run(): Promise<Figure[]> {
  return inTurn(
    roundTripsMs.flatMap((roundTripMs) => [() => latencyFigures(roundTripMs), () => throughputFigures(roundTripMs)]),
  )
}
