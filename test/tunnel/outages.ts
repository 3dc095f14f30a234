/** What a tunnel has to survive, each fault once, whatever the times are. */
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { TunnelBackendName } from '../../src/tunnel/contract.js'
import { ADDRESSES } from './net-lab.js'
import { PORT, type OutageBench } from './outage-bench.js'
import { signalAll } from './real-sshd.js'
import { readFileSync } from 'node:fs'

const CALLER = fileURLToPath(new URL('./outage-caller.ts', import.meta.url))

export interface Outage {
  readonly name: string
  /** Breaks something; what it returns mends it. */
  begin(bench: OutageBench, lastsMs: number): Promise<() => Promise<void> | void> | (() => Promise<void> | void)
  /** What is said while it lasts, in one of the states. Absent: the tunnel may stay proven. */
  readonly says?: RegExp
  /** No call can come back while it lasts. */
  readonly dead?: boolean
  /** Our own process says nothing while it lasts. */
  readonly mute?: boolean
  /** sshd does not notice it, so the listener of the dead connection is held for a while. */
  readonly held?: boolean
  /** Over once it has begun: what counts is the time from there. */
  readonly instant?: boolean
  /** What is waited for is a pause for a server that refuses us. */
  readonly banned?: boolean
  /** Further lines of sshd_config. */
  readonly sshdConfig?: readonly string[]
  /** Default: all three. */
  readonly backends?: readonly TunnelBackendName[]
}

const LOST =
  /not answered|no longer answers|not responding|cannot be reached|did not come back|timed out|unreachable|no answer/i

function everyProcessOf(bench: OutageBench): number[] {
  return [bench.sshd.pid(), ...bench.sshd.sessions(), ...bench.sshd.sessions().flatMap(childrenOf)]
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

async function call(
  bench: OutageBench,
  place: 'server' | 'outside',
  ...args: string[]
): Promise<{ answered: number; came: number; said: string }> {
  const child = bench.net.start(
    place,
    process.execPath,
    ['--import', 'tsx', CALLER, ...args],
    ['ignore', 'pipe', 'inherit'],
  )
  let text = ''
  for await (const chunk of child.stdout ?? []) text += String(chunk)
  return JSON.parse(text) as { answered: number; came: number; said: string }
}

/** A program of somebody else on the tunnel's port, or many callers of sshd that never log in. */
async function other(bench: OutageBench, place: 'server' | 'outside', script: string): Promise<() => void> {
  const child = bench.net.start(place, process.execPath, ['-e', script], ['ignore', 'pipe', 'inherit'])
  await new Promise((resolve) => child.stdout?.once('data', resolve))
  return () => void child.kill('SIGKILL')
}

const cut: Omit<Outage, 'name'> = {
  dead: true,
  held: true,
  says: LOST,
  begin({ net }) {
    net.cable(false)
    return () => net.cable(true)
  },
}

export const SHORT_CUT: Outage = { ...cut, name: 'a cable cut for a second' }
export const CUT: Outage = { ...cut, name: 'a cable cut for a minute' }
/** Memory and listeners after many losses show what one loss leaves behind. */
export const MANY_LOSSES: Outage = {
  name: 'sixty losses in a row',
  async begin(bench) {
    for (let loss = 0; loss < 60; loss += 1) {
      const fromMs = Date.now()
      bench.sshd.signalLoggedIn('SIGKILL')
      const down = await bench.until(fromMs, 'down')
      bench.kick()
      await bench.until(down.atMs, 'proven')
    }
    return () => {}
  },
}
export const LONG_CUT: Outage = { ...cut, name: 'a cable cut for ten minutes' }

export const OUTAGES: readonly Outage[] = [
  {
    name: 'sshd stopped with SIGSTOP, half-open',
    dead: true,
    held: true,
    says: LOST,
    begin(bench) {
      const pids = everyProcessOf(bench)
      signalAll(pids, 'SIGSTOP')
      return () => signalAll(pids, 'SIGCONT')
    },
  },
  {
    name: 'sshd killed and started again later',
    dead: true,
    says: /refused|cannot be reached|ended|closed/i,
    async begin({ sshd }) {
      await sshd.stop('SIGKILL')
      return () => sshd.start()
    },
  },
  {
    name: 'sshd restarted',
    instant: true,
    says: /ended|closed|refused|cannot be reached|reset/i,
    async begin({ sshd }) {
      await sshd.stop('SIGTERM')
      await sshd.start()
      return () => {}
    },
  },
  {
    name: 'a server back under a new address behind the same name',
    dead: true,
    held: true,
    says: LOST,
    begin({ net }) {
      net.move()
      return () => net.name(ADDRESSES.moved)
    },
  },
  {
    name: 'a NAT entry lost in silence',
    instant: true,
    held: true,
    says: LOST,
    begin(bench) {
      const ports = bench.sshConnections().join(', ')
      bench.net.filter([`tcp sport { ${ports} } drop`, `tcp dport { ${ports} } drop`])
      return () => {}
    },
  },
  {
    name: 'the port taken by another program',
    dead: true,
    says: /used by another program/,
    async begin(bench) {
      await bench.sshd.stop('SIGKILL')
      const end = await other(
        bench,
        'server',
        `require('net').createServer(s=>{s.on('error',()=>{});s.end('HTTP/1.1 400\\r\\n\\r\\n')}).listen(${PORT},()=>console.log('up'))`,
      )
      await bench.sshd.start()
      return end
    },
  },
  {
    name: 'the key revoked while connected',
    dead: true,
    says: /refused every key/,
    begin(bench) {
      const { sshd } = bench
      const beganMs = Date.now()
      const line = sshd.authorizedKeys()
      sshd.setAuthorizedKeys('')
      sshd.signalSessions('SIGKILL')
      return async () => {
        // Not before it has given up by itself.
        await bench.until(beganMs, 'needs-attention')
        sshd.setAuthorizedKeys(line)
        bench.kick()
      }
    },
  },
  {
    name: 'a path that drops large packets and says nothing',
    says: /large/i,
    begin({ net }) {
      net.filter(['meta length > 600 drop'])
      return () => net.filter([])
    },
  },
  {
    name: 'a path that loses 30 % of all packets each way',
    held: true,
    begin({ net }) {
      net.filter(['numgen random mod 100 < 30 drop'])
      return () => net.filter([])
    },
  },
  {
    name: 'our own process stopped and continued',
    mute: true,
    held: true,
    begin({ child }) {
      child.kill('SIGSTOP')
      return () => void child.kill('SIGCONT')
    },
  },
  {
    name: 'the name server gone',
    dead: true,
    says: /cannot be resolved|resolving|could not resolve/i,
    begin({ net, sshd }) {
      net.name(undefined)
      sshd.signalSessions('SIGKILL')
      return () => net.name(ADDRESSES.server)
    },
  },
  {
    name: 'two hundred connections at once and one that never reads',
    instant: true,
    begin: async (bench) => {
      const { answered, said } = await call(bench, 'server', 'many', `${ADDRESSES.server}:${PORT}`, '200')
      if (answered !== 200) {
        const states = JSON.stringify(bench.seen.filter(({ state }) => state.state !== 'proven').slice(-4))
        throw new Error(`${answered} of 200 calls were answered: ${said}; last states ${states}`)
      }
      return () => {}
    },
    // Where callers are hidden they count as strangers, whose share is smaller.
    backends: ['ssh2', 'openssh+ssh2'],
  },
  {
    name: 'a listener flooded by strangers',
    instant: true,
    async begin(bench, lastsMs) {
      const { came } = await call(bench, 'outside', 'flood', `${ADDRESSES.serverOutside}:${PORT}`, String(lastsMs))
      if (came <= 100) throw new Error(`only ${came} strangers came`)
      return () => {}
    },
  },
  {
    name: 'a server that closes before its banner',
    dead: true,
    banned: true,
    sshdConfig: ['MaxStartups 2:100:2', 'LoginGraceTime 0'],
    says: /refuses this address for now/,
    async begin(bench) {
      const end = await other(
        bench,
        'outside',
        // Both slots are held for certain: who is turned away asks again.
        `let held=0;const ask=()=>{let isIn=false;require('net').connect(2222,'${ADDRESSES.serverOutside}')
        .on('data',()=>{if(!isIn&&(isIn=true)&&++held===2)console.log('in')}).on('error',()=>{})
        .on('close',()=>setTimeout(ask,100))};ask();ask()`,
      )
      bench.sshd.signalLoggedIn('SIGKILL')
      return end
    },
  },
]

export interface OutageResult {
  readonly fault: string
  readonly backend: string
  readonly lastedMs: number
  /** From the beginning to the first state that is not `proven`. */
  readonly noticedMs: number | undefined
  /** From the end (of what is over at once: from the beginning) to a call that came back. */
  readonly provenAgainMs: number
  /** What the bound allows for that. */
  readonly boundMs: number
  /** Longest time for which `proven` was said without a call that came back. */
  readonly longestStaleMs: number
  readonly attempts: number
  readonly leaks: readonly string[]
  readonly lies: readonly string[]
}

/** Breaks, waits, mends, and looks at what was said, how long it took and what was left behind. */
export async function suffer(bench: OutageBench, outage: Outage, lastsMs: number): Promise<OutageResult> {
  const { times } = bench
  const first = await bench.untilProven(Date.now() - times.detectMs)
  // A second proof: what the start opened is closed again.
  await bench.untilProven(first.atMs + 1)
  await bench.untilSpare()
  const before = await bench.facts()
  const helpersBefore = bench.helpers()
  const listenersBefore = bench.listeners()
  const sessionsBefore = bench.sshConnections().length

  const beganMs = Date.now()
  const mend = await outage.begin(bench, lastsMs)
  const brokenMs = Date.now()
  const lies: string[] = []
  const said = (): string =>
    bench.seen
      .filter(({ atMs }) => atMs >= beganMs)
      .map(({ state }) => ('reason' in state ? (state.reason ?? '') : ''))
      .join('\n')
  const { instant = false } = outage
  if (outage.says !== undefined && (instant || lastsMs > times.detectMs)) {
    const { says } = outage
    await bench.look(`something like ${String(says)}`, () => (says.test(said()) ? true : undefined))
  }
  if (!instant) await pause(Math.max(0, lastsMs - (Date.now() - brokenMs)))
  const endedMs = Date.now()
  if (outage.dead === true) {
    // A call that was on its way back when it began is no lie.
    const wrong = bench.seen.find(
      ({ state }) => state.state === 'proven' && state.provenAtMs > brokenMs + 500 && state.provenAtMs < endedMs,
    )
    if (wrong !== undefined) lies.push(`proven ${wrong.atMs - brokenMs} ms after it began`)
    if (bench.state?.state === 'proven' && lastsMs > times.detectMs + 2_000) lies.push('still proven at the end')
  }
  await mend()
  const again = await bench.look('a call that came back', () =>
    bench.seen.find(({ state }) => state.state === 'proven' && state.provenAtMs >= endedMs),
  )
  const noticed = bench.seen.find(({ atMs, state }) => atMs >= beganMs && state.state !== 'proven')
  const countedFromMs = instant ? brokenMs : endedMs
  const staleMs = outage.mute === true ? 0 : bench.longestStaleMs(Date.now(), beganMs)
  const after = await settled(bench, {
    ...before,
    helpers: helpersBefore,
    listeners: listenersBefore,
    sessions: sessionsBefore,
  })
  return {
    fault: outage.name,
    backend: after.backend,
    lastedMs: endedMs - beganMs,
    noticedMs: noticed === undefined || noticed.atMs > endedMs ? undefined : noticed.atMs - beganMs,
    provenAgainMs: again.atMs - countedFromMs,
    boundMs:
      times.detectMs +
      (outage.held === true ? times.releaseMs : 0) +
      (outage.banned === true ? times.bannedMs : times.stepMs),
    longestStaleMs: staleMs,
    attempts: Number(after.tunnel['attempts']),
    leaks: after.leaks,
    lies,
  }
}

interface Baseline {
  readonly heapBytes: number
  readonly openFiles: number
  readonly abortListeners: number
  readonly helpers: number
  readonly listeners: number
  readonly sessions: number
}

/** What is more than before once the server has let go of the dead connections. */
async function settled(
  bench: OutageBench,
  before: Baseline,
): Promise<Awaited<ReturnType<OutageBench['facts']>> & { leaks: string[] }> {
  const giveUpMs = Date.now() + bench.times.patienceMs
  for (;;) {
    const facts = await bench.facts()
    const leaks: string[] = []
    const compare = (what: string, now: number, then: number): void => {
      if (now > then) leaks.push(`${what}: ${then} before, ${now} after`)
    }
    compare('megabytes of heap', Math.round(facts.heapBytes / 1e6), Math.round(before.heapBytes / 1e6) + 6)
    // A call may be under way at this very moment: its two ends, its listener.
    compare('open files', facts.openFiles, before.openFiles + 4)
    compare('listeners on the stop signal', facts.abortListeners, before.abortListeners + 2)
    compare('helper processes', bench.helpers(), before.helpers)
    compare('listeners on the server', bench.listeners(), before.listeners)
    compare('connections to sshd', bench.sshConnections().length, before.sessions)
    if (leaks.length === 0 || Date.now() > giveUpMs) return { ...facts, leaks }
    await pause(200)
  }
}
