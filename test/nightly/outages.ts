/**
 * npm run nightly:outages [-- --minutes 10 --backend ssh2 --only cable --spare]
 *
 * Every fault that a tunnel has to survive, with all back ends and the times that a lab has (docs/tunnel.md), in networks
 * of their own: needs root, iproute2 and nftables. stdout: one JSON document. Exit code 0 only if each time a call came
 * back within the bound, nothing was left behind, and nothing was said that was not so; 11 otherwise.
 */
import { parseArgs } from 'node:util'
import { EXIT } from '../../src/base/error-codes.js'
import type { TunnelBackendName } from '../../src/tunnel/contract.js'
import { DEFAULT_TIMINGS } from '../../src/tunnel/options.js'
import { CLIENT_ALIVE_COUNT_MAX, CLIENT_ALIVE_INTERVAL_S } from '../../src/tunnel/server-config.js'
import { whyNoNetLab } from '../tunnel/net-lab.js'
import { OutageBench, type OutageTimes } from '../tunnel/outage-bench.js'
import {
  CUT,
  LONG_CUT,
  MANY_LOSSES,
  OUTAGES,
  SHORT_CUT,
  suffer,
  type Outage,
  type OutageResult,
} from '../tunnel/outages.js'

const { values } = parseArgs({
  options: {
    /** Of the long cut. */
    minutes: { type: 'string', default: '10' },
    backend: { type: 'string', multiple: true, default: ['ssh2', 'openssh', 'openssh+ssh2'] },
    only: { type: 'string' },
    /** With tunnel.spareConnection. */
    spare: { type: 'boolean', default: false },
    /** So many tunnels at once. */
    at: { type: 'string', default: '12' },
  },
})

const {
  probeIntervalMs,
  probeTimeoutMs,
  pingTimeoutMs,
  expectedReleaseMs,
  retryMaxMs,
  connectTimeoutMs,
  bannedFirstMs,
} = DEFAULT_TIMINGS
const longMs = Number(values.minutes) * 60_000
const TIMES: OutageTimes = {
  timings: {},
  sshdConfig: [`ClientAliveInterval ${CLIENT_ALIVE_INTERVAL_S}`, `ClientAliveCountMax ${CLIENT_ALIVE_COUNT_MAX}`],
  detectMs: probeIntervalMs + probeTimeoutMs + pingTimeoutMs,
  releaseMs: expectedReleaseMs,
  // The longest pause, a tenth more by chance, and the try that was under way when the path came back.
  stepMs: retryMaxMs * 1.1 + connectTimeoutMs,
  bannedMs: bannedFirstMs * 2 * 1.1,
  patienceMs: 300_000,
}

const say = (text: string): void => void process.stderr.write(`${text}\n`)
const lastsMs = (outage: Outage): number => (outage === SHORT_CUT ? 1_000 : outage === LONG_CUT ? longMs : 60_000)

interface Story {
  readonly backend: TunnelBackendName
  readonly outages: readonly Outage[]
}

function stories(): Story[] {
  const made: Story[] = []
  for (const name of values.backend) {
    const backend = name as TunnelBackendName
    const fits = [CUT, SHORT_CUT, MANY_LOSSES, ...OUTAGES].filter(
      (outage) =>
        (outage.backends ?? [backend]).includes(backend) &&
        (values.only === undefined || outage.name.includes(values.only)),
    )
    // Those that need settings of their own stand alone.
    const alone = fits.filter(({ sshdConfig }) => sshdConfig !== undefined)
    const others = fits.filter(({ sshdConfig }) => sshdConfig === undefined)
    if (values.only === undefined || LONG_CUT.name.includes(values.only)) made.push({ backend, outages: [LONG_CUT] })
    for (let at = 0; at < others.length; at += 4) made.push({ backend, outages: others.slice(at, at + 4) })
    made.push(...alone.map((outage) => ({ backend, outages: [outage] })))
  }
  return made
}

interface Verdict extends Partial<OutageResult> {
  fault: string
  backend: string
  wrong: string[]
}

function judge(result: OutageResult): Verdict {
  const wrong = [...result.leaks, ...result.lies]
  if (result.provenAgainMs > result.boundMs) wrong.push(`proven again after ${result.provenAgainMs} ms`)
  const mostMs = probeIntervalMs + probeTimeoutMs + 1_000
  if (result.longestStaleMs > mostMs) wrong.push(`"proven" was said for ${result.longestStaleMs} ms without a proof`)
  return { ...result, wrong }
}

const results: Verdict[] = []

async function tell({ backend, outages }: Story): Promise<void> {
  const bench = await OutageBench.start(backend, TIMES, outages[0]?.sshdConfig, values.spare)
  try {
    for (const outage of outages) {
      say(`${backend}: ${outage.name} …`)
      try {
        const verdict = judge(await suffer(bench, outage, lastsMs(outage)))
        results.push(verdict)
        const noticed = verdict.noticedMs === undefined ? 'not noticed' : `noticed after ${verdict.noticedMs} ms`
        say(
          `${backend}: ${outage.name}: ${noticed}, proven again ${verdict.provenAgainMs} ms later${verdict.wrong.length === 0 ? '' : `; WRONG: ${verdict.wrong.join('; ')}`}`,
        )
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error)
        say(`${backend}: ${outage.name}: ${text}`)
        results.push({ fault: outage.name, backend, wrong: [text] })
        return
      }
    }
  } finally {
    await bench.close()
  }
}

const why = whyNoNetLab()
if (why !== undefined) {
  say(`${why} (root, iproute2 and nftables are needed)`)
  process.exit(EXIT.checkFailed)
}
const queue = stories()
await Promise.all(
  Array.from({ length: Number(values.at) }, async () => {
    for (let story = queue.shift(); story !== undefined; story = queue.shift()) await tell(story)
  }),
)
const wrong = results.filter((one) => one.wrong.length > 0).length
process.stdout.write(`${JSON.stringify({ outages: results.length, wrong, results }, null, 2)}\n`)
process.exit(wrong === 0 && results.length > 0 ? EXIT.ok : EXIT.checkFailed)
