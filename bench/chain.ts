/** The whole chain: from StartNode to the first key, how many keys a second, at which cost, and a backlog of 10 MB. */
import { setTimeout as pause } from 'node:timers/promises'
import {
  endKeyExchange,
  startCCoreSiteAgent,
  startNode,
  type CCoreSiteAgent,
} from '../test/gateway/support/c-core-site-agent.js'
import {
  closeLab,
  eventually,
  startDebianSshd,
  startGateway,
  type GatewayProcess,
} from '../test/gateway/support/lab.js'
import { inTurn, median, type Figure } from './support/figures.js'
import { cpuMs } from './support/cpu.js'
import { startUnitProcess } from './support/processes.js'

/** As many frames a second as the emulator makes. */
const unboundedRate = 10_000
/** What a unit's line carries at 9600 baud. */
const lineRate = 20
const starts = 7
const steadyMs = 8_000
const backlogBytes = 10_000_000
const keyBytes = 32
const longestDrainMs = 90_000

interface Sites {
  readonly agents: readonly [CCoreSiteAgent, CCoreSiteAgent]
  readonly gateways: readonly [GatewayProcess, GatewayProcess]
  readonly ids: readonly [string, string]
}

/** Both registered, behind Debian's sshd; every part a process of its own. */
async function startSites(rate: number): Promise<Sites> {
  const pair = `bench-${Date.now()}`
  const site = async (side: 'alice' | 'bob'): Promise<[CCoreSiteAgent, GatewayProcess]> => {
    const [device, ssh, agent] = await Promise.all([
      startUnitProcess(pair, rate),
      startDebianSshd(),
      startCCoreSiteAgent(),
    ])
    const gateway = startGateway({ device, side, ssh, siteAgent: agent.address })
    await gateway.untilPart('registration', 'registered')
    return [agent, gateway]
  }
  const [[agentA, a], [agentB, b]] = await Promise.all([site('alice'), site('bob')])
  return { agents: [agentA, agentB], gateways: [a, b], ids: [a.id, b.id] }
}

const start = ({ agents, ids }: Sites): Promise<void> => startNode(agents[0].address, agents[1].address, ids)

/** Wall clock, Unix ms, of the newest log line of that kind at or after `sinceMs`. */
async function saidAt(gateway: GatewayProcess, pattern: RegExp, sinceMs: number): Promise<number> {
  return gateway.line(String(pattern), (line) => {
    const { msg, time } = line
    return typeof msg === 'string' && pattern.test(msg) && typeof time === 'number' && time >= sinceMs
      ? time
      : undefined
  })
}

async function keysAt(agent: CCoreSiteAgent, sinceMs: number): Promise<number> {
  return Number((await agent.event('keys', ({ atMs }) => Number(atMs) >= sinceMs))['atMs'])
}

async function startFigures(): Promise<Figure[]> {
  try {
    const sites = await startSites(lineRate)
    const sessions: number[] = []
    const keys: number[] = []
    for (let round = 0; round < starts; round += 1) {
      const startedMs = Date.now()
      await start(sites)
      const began = await Promise.all(
        sites.gateways.map((gateway) => saidAt(gateway, /session with .* started/, startedMs)),
      )
      const first = await Promise.all(sites.agents.map((agent) => keysAt(agent, startedMs)))
      sessions.push(Math.max(...began) - startedMs)
      keys.push(Math.max(...first) - startedMs)
      await endKeyExchange(sites.agents[0].address, sites.agents[1].address, sites.ids)
      // The next session starts with a device that has been running for a while, as in a lab.
      await pause(1_000)
    }
    const note = `median of ${starts}, ${lineRate} frames a second`
    return [
      { name: 'StartNode to SessionStarted at both sites', value: median(sessions), unit: 'ms', note },
      { name: 'StartNode to the first key at both SiteAgents', value: median(keys), unit: 'ms', note },
    ]
  } finally {
    await closeLab()
  }
}

interface Sample {
  readonly atMs: number
  readonly received: number
  readonly taken: number
  readonly cpuMs: number
}

async function sample({ agents, gateways }: Sites): Promise<Sample> {
  const statuses = await Promise.all(gateways.map((gateway) => gateway.status()))
  return {
    atMs: performance.now(),
    received: Math.min(...statuses.map(({ counts }) => Number(counts['received']))),
    taken: Math.min(...agents.map(({ count }) => count)),
    cpuMs: gateways.reduce((sum, { pid }) => sum + cpuMs(pid), 0) / gateways.length,
  }
}

async function throughputFigures(): Promise<Figure[]> {
  try {
    const sites = await startSites(unboundedRate)
    await start(sites)
    await Promise.all(sites.agents.map((agent) => agent.untilKeys(1_000)))
    const before = await sample(sites)
    await pause(steadyMs)
    const after = await sample(sites)
    const seconds = (after.atMs - before.atMs) / 1_000
    const taken = after.taken - before.taken
    const received = after.received - before.received
    return [
      {
        name: 'keys a second from the units into the gateways',
        value: received / seconds,
        unit: 'keys/s',
        note: `the emulator's limit on this machine, ${unboundedRate} asked for`,
      },
      { name: 'keys a second taken in at both SiteAgents', value: taken / seconds, unit: 'keys/s' },
      {
        name: 'CPU of one gateway a key, tunnel included',
        value: ((after.cpuMs - before.cpuMs) * 1_000) / taken,
        unit: 'µs',
      },
    ]
  } finally {
    await closeLab()
  }
}

async function backlogFigures(): Promise<Figure[]> {
  try {
    const sites = await startSites(unboundedRate)
    const wanted = Math.ceil(backlogBytes / keyBytes)
    let held = 0
    while (held < wanted) {
      await pause(250)
      const statuses = await Promise.all(sites.gateways.map((gateway) => gateway.status()))
      held = Math.min(...statuses.map(({ counts }) => Number(counts['held'])))
    }
    const startedMs = performance.now()
    await start(sites)
    const taken = (): boolean => sites.agents.every(({ count }) => count >= wanted)
    await eventually('the backlog at both SiteAgents', taken, longestDrainMs)
    const seconds = (performance.now() - startedMs) / 1_000
    const note = `${wanted} keys of ${keyBytes} bytes, with new ones arriving`
    return [
      { name: 'backlog of 10 MB delivered at both SiteAgents', value: seconds, unit: 's', note },
      { name: 'backlog delivered a second', value: wanted / seconds, unit: 'keys/s' },
    ]
  } finally {
    await closeLab()
  }
}

export async function run(): Promise<Figure[]> {
  return inTurn([startFigures, throughputFigures, backlogFigures])
}
