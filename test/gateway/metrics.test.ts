import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createMetrics, METRIC_PARTS, type MetricsInput } from '../../src/gateway/metrics.js'
import { DROP_REASONS } from '../../src/link/counts.js'
import { LINK_STAGES } from '../../src/link/status.js'
import { keysAddUp, parsePrometheus, sumOf, valueOf } from '../observe/prometheus-text.js'

function input(changes: Partial<MetricsInput> = {}): MetricsInput {
  const part = (state: string) => ({ state, sinceMs: 1_700_000_000_500 })
  return {
    status: {
      ...{
        version: '1.2.3',
        pid: 1,
        id: 'A_B_A "x"\\\n',
        device: '/dev/x',
        startedAtMs: 0,
        warnings: ['a'],
        counts: {},
      },
      parts: {
        device: part('producing'),
        server: part('serving'),
        tunnel: part('proven'),
        registration: part('registered'),
        session: part('started'),
        link: part('diverged'),
      },
    },
    driver: 'qix',
    side: 'alice',
    notSecretBecause: undefined,
    counts: { received: 10n, delivered: 5n, held: 2n, sacrificed: 1n, dropped: { missing: 2n } },
    figures: {
      stages: Object.fromEntries(
        LINK_STAGES.map((stage) => [stage, { batches: 0, keys: 0 }]),
      ) as MetricsInput['figures']['stages'],
      owedHere: 0,
      owedThere: 7,
      sites: {
        here: { total: 2n ** 40n, confirmedMs: 1_700_000_000_250 },
        there: { total: undefined, confirmedMs: undefined },
        skewMs: 2.5,
        skewMaxMs: 40,
      },
      roundTripMs: undefined,
      inferredKeys: 0n,
      mismatches: 0,
      firstDifferingKey: 17n,
    },
    discarded: { corrupt: 3 },
    server: {
      ...{ open: 2, strangers: 0, accepted: 9, evicted: 0, refused: 0, requestBytesInFlight: 0 },
      refusals: { total: 4, byMethod: {}, last: undefined },
    },
    tunnelRoundTripMs: 1.5,
    ...changes,
  }
}

async function scrape(look: () => MetricsInput): Promise<ReturnType<typeof parsePrometheus>> {
  const metrics = createMetrics(look)
  const { text, contentType } = await metrics.page()
  metrics.close()
  expect(contentType).toContain('text/plain; version=0.0.4')
  return parsePrometheus(text)
}

describe('the metrics of a gateway', () => {
  it('are text that a strict reader takes, with base units and one series for each state', async () => {
    const metrics = await scrape(() => input())
    expect(valueOf(metrics, 'qkdgw_keys_delivered_total')).toBe(5)
    expect(valueOf(metrics, 'qkdgw_site_keys_generated', { site: 'here' })).toBe(2 ** 40)
    expect(valueOf(metrics, 'qkdgw_site_last_confirmed_timestamp_seconds', { site: 'here' })).toBe(1_700_000_000.25)
    expect(valueOf(metrics, 'qkdgw_sites_skew_seconds')).toBe(0.0025)
    expect(valueOf(metrics, 'qkdgw_tunnel_round_trip_seconds')).toBe(0.0015)
    expect(valueOf(metrics, 'qkdgw_owed_keys', { site: 'there' })).toBe(7)
    expect(valueOf(metrics, 'qkdgw_first_differing_key')).toBe(17)
    expect(valueOf(metrics, 'qkdgw_info', { id: 'A_B_A \\"x\\"\\\\\\n', driver: 'qix' })).toBe(1)
    for (const part of METRIC_PARTS) expect(sumOf(metrics, `qkdgw_${part}_state`)).toBe(1)
    expect(valueOf(metrics, 'qkdgw_link_state', { state: 'diverged' })).toBe(1)
    expect(valueOf(metrics, 'qkdgw_link_state', { state: 'delivering' })).toBe(0)
    const reasons = metrics.get('qkdgw_keys_dropped_total')?.samples.map(({ labels }) => labels['reason'])
    expect(reasons).toEqual(Object.keys(DROP_REASONS))
    expect(metrics.has('process_cpu_seconds_total')).toBe(true)
  })

  it('leave out what is not known instead of saying 0', async () => {
    const { figures } = input()
    const unknown = { total: undefined, confirmedMs: undefined }
    const sites = { here: unknown, there: unknown, skewMs: undefined, skewMaxMs: undefined }
    const metrics = await scrape(() =>
      input({ figures: { ...figures, sites, firstDifferingKey: undefined }, tunnelRoundTripMs: undefined }),
    )
    for (const name of [
      'site_keys_generated',
      'sites_skew_seconds',
      'tunnel_round_trip_seconds',
      'first_differing_key',
    ])
      expect(metrics.get(`qkdgw_${name}`)?.samples).toEqual([])
  })

  it('say that keys are not secret where that is so, and why', async () => {
    const metrics = await scrape(() => input({ notSecretBecause: 'a demonstrator' }))
    expect(valueOf(metrics, 'qkdgw_keys_not_secret', { reason: 'a demonstrator' })).toBe(1)
    expect((await scrape(() => input())).get('qkdgw_keys_not_secret')?.samples).toEqual([])
  })

  it('show what is so at each scrape, and add up whenever the counts do', async () => {
    const reasons = fc.subarray(Object.keys(DROP_REASONS))
    const few = fc.bigInt({ min: 0n, max: 10n ** 12n })
    let present = input()
    const metrics = createMetrics(() => present)
    await fc.assert(
      fc.asyncProperty(few, few, few, reasons, few, async (delivered, held, sacrificed, names, each) => {
        const dropped = Object.fromEntries(names.map((name) => [name, each]))
        const received = delivered + held + sacrificed + each * BigInt(names.length)
        present = input({ counts: { received, delivered, held, sacrificed, dropped } })
        const read = parsePrometheus((await metrics.page()).text)
        expect(keysAddUp(read)).toBe(true)
        expect(valueOf(read, 'qkdgw_keys_held')).toBe(Number(held))
      }),
      { numRuns: 30 },
    )
    metrics.close()
  })
})
