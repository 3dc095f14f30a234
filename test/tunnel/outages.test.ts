import { describe, expect, it } from 'vitest'
import type { TunnelBackendName } from '../../src/tunnel/contract.js'
import { OutageBench, type OutageTimes } from './outage-bench.js'
import { CUT, OUTAGES, SHORT_CUT, suffer, type Outage } from './outages.js'

/** As in a lab, but quick: noticed within 2.5 s, let go by sshd about 3 s later. */
const SHORT: OutageTimes = {
  timings: {
    connectTimeoutMs: 3_000,
    handshakeTimeoutMs: 5_000,
    authTimeoutMs: 5_000,
    forwardTimeoutMs: 3_000,
    channelTimeoutMs: 2_000,
    resolveTimeoutMs: 5_000,
    pingTimeoutMs: 1_000,
    keepaliveIntervalMs: 1_000,
    probeIntervalMs: 500,
    probeTimeoutMs: 1_000,
    largeProbeIntervalMs: 1_000,
    fastRetriesMs: [20, 100],
    retryFirstMs: 200,
    retryMaxMs: 500,
    bannedFirstMs: 500,
    bannedMaxMs: 1_000,
    replaceUnprovenAfterMs: 8_000,
    sleepGapMs: 1_500,
  },
  sshdConfig: ['ClientAliveInterval 1', 'ClientAliveCountMax 1'],
  detectMs: 2_500,
  releaseMs: 5_000,
  stepMs: 2_000,
  bannedMs: 1_000,
  patienceMs: 60_000,
}

interface Story {
  readonly backend: TunnelBackendName
  readonly outages: readonly Outage[]
  readonly times?: OutageTimes
}

function named(...names: string[]): Outage[] {
  return names.map((name) => {
    const outage = OUTAGES.find((one) => one.name.includes(name))
    if (outage === undefined) throw new Error(`no outage named ${name}`)
    return outage
  })
}

/** Longer than noticing takes, so that what must be said while it lasts can be. */
const LASTS_MS = 3_500

/**
 * Each a process, a server and a network of its own, which all of its outages happen to, one after the other. Five, since
 * so many tests run side by side.
 */
const STORIES: readonly Story[] = [
  { backend: 'ssh2', outages: [SHORT_CUT, CUT, ...named('SIGSTOP', 'NAT entry')] },
  { backend: 'openssh', outages: [CUT, ...named('restarted', 'SIGSTOP', 'name server gone')] },
  { backend: 'openssh+ssh2', outages: [CUT, ...named('SIGSTOP', 'killed', 'stopped and continued')] },
  {
    backend: 'ssh2',
    outages: named('before its banner', 'another program', 'key revoked', 'stopped and continued', 'new address'),
  },
  // A server as patient as printed: two hundred callers may keep a busy machine from answering it for seconds.
  {
    backend: 'ssh2',
    outages: named('large packets', 'loses 30 %', 'two hundred', 'flooded'),
    times: { ...SHORT, sshdConfig: [] },
  },
]

describe.concurrent('a tunnel is proven again, leaves nothing behind and says nothing that is not so', () => {
  it.each(STORIES)(
    'with the back end $backend, after the faults of its story',
    { timeout: 300_000 },
    async ({ backend, outages, times = SHORT }) => {
      const bench = await OutageBench.start(backend, times, outages[0]?.sshdConfig)
      try {
        for (const outage of outages) {
          const { fault, lies, leaks, noticedMs } = await suffer(bench, outage, outage === SHORT_CUT ? 1_000 : LASTS_MS)
          expect({ fault, lies, leaks }).toEqual({ fault, lies: [], leaks: [] })
          if (outage.says !== undefined && outage !== SHORT_CUT)
            expect({ fault, noticed: noticedMs !== undefined }).toEqual({ fault, noticed: true })
        }
      } finally {
        await bench.close()
      }
    },
  )
})

describe('the stories', () => {
  it('tell of every fault that there is', () => {
    const told = new Set(STORIES.flatMap(({ outages }) => outages.map(({ name }) => name)))
    expect(OUTAGES.filter(({ name }) => !told.has(name))).toEqual([])
  })
})
