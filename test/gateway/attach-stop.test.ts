import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { closeLab, eventually } from './support/lab.js'
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
