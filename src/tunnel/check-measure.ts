/** The measuring steps of the check. */
import type { Duplex } from 'node:stream'
import type { CheckStep, CheckSubject } from './check-step.js'
import type { TunnelLink } from './link.js'
import type { TunnelOptions } from './options.js'

type Measured = CheckSubject & { via: 'here' | 'ssh' }
type Result = Omit<CheckStep, 'name'>

const LATENCY_CALLS = 15
const LARGE_BYTES = 1_048_576
const THROUGHPUT_BYTES = 8 * 1_048_576
const MEASURE_TIMEOUT_MS = 20_000
/** A busy server takes its time to start a shell. */
const EXEC_TIMEOUT_MS = 15_000

/** Latency that points at Nagle's algorithm rather than at the network. */
const DELAYED_ACK_MS = 38

async function call(
  subject: Measured,
  bytesThere: number,
  bytesBack: number,
  timeoutMs: number,
): Promise<number | string> {
  const { echo, controlAddress: target, signal, link, via } = subject
  const stream: Duplex | undefined = via === 'ssh' ? await link.dial(target, signal) : undefined
  const answer = await echo.exchange({
    target,
    ...(stream === undefined ? {} : { stream }),
    ...{ bytesThere, bytesBack, timeoutMs, signal },
  })
  return answer.result === 'ourselves' ? answer.roundTripMs : answer.reason
}

function viaWords(subject: Measured): string {
  return subject.via === 'here' ? '' : ', from the server and back through SSH'
}

/** A megabyte there and back: more than any packet, so that a hole in the path shows. */
export async function largeStep(subject: Measured): Promise<Result> {
  const took = await call(subject, LARGE_BYTES, LARGE_BYTES, MEASURE_TIMEOUT_MS)
  if (typeof took === 'number')
    return { result: 'ok', found: `1 MiB each way in ${Math.round(took)} ms${viaWords(subject)}` }
  return {
    result: 'failed',
    found: `small messages come through, 1 MiB does not: ${took}`,
    remedy: 'something on the way drops large packets (MTU): lower the MTU of the interface, or let ICMP through',
  }
}

const LOST_REMEDY =
  'connections to the listener are dropped: look for a limit on new connections in a firewall on the way, and at the load of the server'

/** Median and worst of some small calls, each over a connection of its own. */
export async function latencyStep(subject: Measured): Promise<Result> {
  const times: number[] = []
  for (let index = 0; index < LATENCY_CALLS; index += 1) {
    const took = await call(subject, 0, 0, subject.timings.probeTimeoutMs)
    if (typeof took === 'number') times.push(took)
  }
  times.sort((a, b) => a - b)
  const medianMs = times[Math.floor(times.length / 2)]
  const worstMs = times.at(-1)
  if (medianMs === undefined || worstMs === undefined) {
    return { result: 'failed', found: 'no call came back', remedy: LOST_REMEDY }
  }
  const found = `${medianMs.toFixed(1)} ms at the median, ${worstMs.toFixed(1)} ms at worst, of ${times.length} of ${LATENCY_CALLS} calls${viaWords(subject)}`
  const remedy =
    times.length < LATENCY_CALLS
      ? LOST_REMEDY
      : medianMs >= DELAYED_ACK_MS
        ? "no wonder on a long way; on a short one it may be Nagle's algorithm, which sshd from August 2025 on leaves off"
        : undefined
  return {
    result: remedy === undefined ? 'ok' : 'doubtful',
    found,
    ...(remedy === undefined ? {} : { remedy }),
    facts: {
      medianMs: Math.round(medianMs * 10) / 10,
      worstMs: Math.round(worstMs * 10) / 10,
      lost: LATENCY_CALLS - times.length,
    },
  }
}

/** Eight megabytes each way, one after the other. */
export async function throughputStep(subject: Measured): Promise<Result> {
  const there = await call(subject, THROUGHPUT_BYTES, 0, MEASURE_TIMEOUT_MS)
  const back = await call(subject, 0, THROUGHPUT_BYTES, MEASURE_TIMEOUT_MS)
  if (typeof there === 'string' || typeof back === 'string') {
    return {
      result: 'failed',
      found: `8 MiB did not come through: ${typeof there === 'string' ? there : String(back)}`,
      remedy:
        'the line carries less than 0.4 MB/s, or something on the way cuts long transfers: single keys come through, a backlog may not',
    }
  }
  const speed = (ms: number): number => Math.round((THROUGHPUT_BYTES / 1e6 / (ms / 1_000)) * 10) / 10
  return {
    result: 'ok',
    found: `to us ${speed(there)} MB/s, from us ${speed(back)} MB/s${viaWords(subject)}`,
    facts: { toUsMBs: speed(there), fromUsMBs: speed(back) },
  }
}

/** The server's clock, where it lets us run `date`. */
export async function clockStep(link: TunnelLink, options: Pick<TunnelOptions, 'clock'>): Promise<Result> {
  const { clock } = options
  const startedMs = clock.nowMs()
  const output = await link.exec('date +%s.%N', EXEC_TIMEOUT_MS)
  const endedMs = clock.nowMs()
  const seconds = Number(output?.trim())
  if (output === undefined || !Number.isFinite(seconds) || seconds === 0) {
    return {
      result: 'skipped',
      found:
        'SSH itself tells no time, and the server runs no command for us: the difference of the clocks is not known',
      remedy: 'compare date -u on both machines by hand, or let both follow a time server',
    }
  }
  const differenceMs = Math.round(seconds * 1_000 - (startedMs + endedMs) / 2)
  const doubtMs = Math.ceil((endedMs - startedMs) / 2)
  const far = Math.abs(differenceMs) - doubtMs > 2_000
  return {
    result: far ? 'doubtful' : 'ok',
    found: `the server's clock is ${Math.abs(differenceMs)} ms ${differenceMs < 0 ? 'behind' : 'ahead'} (give or take ${doubtMs} ms)`,
    ...(far
      ? { remedy: 'let both machines follow a time server: statistics and logs of the two sites will not line up' }
      : {}),
    facts: { differenceMs, doubtMs },
  }
}
