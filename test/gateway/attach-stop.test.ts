import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startNode } from './support/c-core-site-agent.js'
import {
  closeLab,
  eventually,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
  startUnit,
  type GatewayProcess,
} from './support/lab.js'
import { startTwoSites, type TwoSites } from './support/two-sites.js'

afterEach(closeLab)

const longestStopMs = 5_000

/** Nothing on its way: the devices are silent, what both have is delivered. */
async function untilQuiet({ units, gateways }: TwoSites): Promise<void> {
  await Promise.all(units.map((unit) => unit.fault('hang', '0')))
  await eventually('nothing in flight', async () => {
    const all = await Promise.all(gateways.map((gateway) => gateway.status()))
    return all.every(({ parts, counts }) => {
      const { inFlight, owedHere, owedThere } = parts['link']?.facts ?? {}
      return inFlight === 0 && owedHere === 0 && owedThere === 0 && Number(counts['held']) < 2
    })
  })
}

interface ReportingSites {
  readonly sites: readonly [StandinSiteAgent, StandinSiteAgent]
  /** The left one and the right one. */
  readonly gateways: readonly [GatewayProcess, GatewayProcess]
}

/** SiteAgents that tell their totals, with a link between them that is asked for and not waited for. */
async function startReportingSites(): Promise<ReportingSites> {
  const pair = `stop-${process.pid}`
  const [a, b, unitA, unitB, ssh] = await Promise.all([
    startSiteAgent('left'),
    startSiteAgent('right'),
    startUnit({ pair, rate: 50 }),
    startUnit({ pair, rate: 50 }),
    startEmbeddedSshd(),
  ])
  const left = startGateway({ device: unitA.path, side: 'alice', ssh, siteAgent: a.address })
  const right = startGateway({ device: unitB.path, side: 'bob', ssh, siteAgent: b.address })
  await Promise.all([left, right].map((gateway) => gateway.untilPart('registration', 'registered')))
  await startNode(a.address, b.address, [left.id, right.id])
  return { sites: [a, b], gateways: [left, right] }
}

/** Stops its SiteAgent, its SSH connection and the other gateway: TCP goes on acknowledging, nobody answers. */
function freezeEverything(lab: TwoSites): void {
  lab.agents[0].kill('SIGSTOP')
  lab.ssh.sshd.signalSessions('SIGSTOP')
  lab.gateways[1].kill('SIGSTOP')
}

describe('SIGTERM', () => {
  it('ends the session, the registration and the tunnel, in this order, with exit code 0', async () => {
    const lab = await startTwoSites()
    const [gateway, other] = lab.gateways
    const controlAddress = (await gateway.status()).parts['tunnel']?.facts?.['controlAddress']
    await untilQuiet(lab)
    const end = await gateway.stop()
    expect(end.code).toBe(0)
    expect(end.tookMs).toBeLessThan(longestStopMs)
    await lab.agents[0].event('streamEnded')
    await lab.agents[0].event('unregistered')
    await other.untilPart('session', 'none', 'listening')
    const log = gateway.stderr()
    const places = ['session with', 'unregistered', 'tunnel closed'].map((text) => log.lastIndexOf(text))
    expect(places).toEqual([...places].sort((one, two) => one - two))
    expect(places[0]).toBeGreaterThan(log.indexOf('ending: session'))
    const port = Number(typeof controlAddress === 'string' ? controlAddress.split(':').at(-1) : 0)
    expect(port).toBeGreaterThan(0)
    await eventually('the listener is gone', () => refuses(port))
  })

  it('ends it within 5 s and with exit code 0 although SiteAgent, SSH server and peer hang', async () => {
    const lab = await startTwoSites()
    await untilQuiet(lab)
    freezeEverything(lab)
    const gateway = lab.gateways[0]
    const end = await gateway.stop()
    expect(end, gateway.stderr()).toMatchObject({ code: 0, signal: null })
    expect(end.tookMs).toBeLessThan(longestStopMs)
  })

  it('ends it within 5 s although everything hangs in the middle of a batch, and says what is owed', async () => {
    const lab = await startTwoSites()
    freezeEverything(lab)
    const gateway = lab.gateways[0]
    const end = await gateway.stop()
    expect(end.tookMs).toBeLessThan(longestStopMs)
    if (end.code !== 0) {
      expect(end.code).toBe(10)
      expect(gateway.stderr()).toMatch(/one site lacks \d+ key/)
    }
  })

  it('ends either gateway with exit code 10 while one SiteAgent lacks keys, names the first, and status warned before', async () => {
    const { sites, gateways } = await startReportingSites()
    await eventually('keys at both sites', () => sites.every((site) => site.receivedKeys().length >= 40))
    sites[1].faults.readsNothing = true
    const status = await eventually('the other SiteAgent is behind', async () => {
      const present = await gateways[0].status()
      return /^the other SiteAgent has not taken in/.test(present.parts['link']?.reason ?? '') && present
    })
    const lacked = Number(status.parts['link']?.facts?.['owedThere'])
    expect(lacked).toBe(sites[0].receivedKeys().length - sites[1].receivedKeys().length)
    expect(status.parts['link']?.warnings?.join('; ')).toContain(`${lacked} keys are at one site only`)
    const first = sites[1].receivedKeys().length + 1
    for (const gateway of gateways) {
      const end = await gateway.stop()
      expect(end.code, gateway.stderr()).toBe(10)
      expect(end.tookMs).toBeLessThan(longestStopMs)
      expect(gateway.stderr()).toContain(`one site lacks ${lacked} key(s)`)
      expect(gateway.stderr()).toContain(`the stores part at key ${first}`)
    }
  })
})

function refuses(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const settle = (refused: boolean): void => {
      socket.destroy()
      resolve(refused)
    }
    socket.once('connect', () => settle(false))
    socket.once('error', () => settle(true))
  })
}
