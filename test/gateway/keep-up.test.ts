import { afterEach, describe, expect, it } from 'vitest'
import type { StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { freePort } from '../tunnel/real-sshd.js'
import {
  closeLab,
  deviceId,
  eventually,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
  startUnit,
  type EmbeddedSshd,
  type GatewayProcess,
} from './support/lab.js'

afterEach(closeLab)

interface Kept {
  readonly sites: readonly [StandinSiteAgent, StandinSiteAgent]
  readonly ssh: readonly [EmbeddedSshd, EmbeddedSshd]
  readonly left: GatewayProcess
}

/** Two units, tunnels and gateways; the left gateway with these lines in its configuration. */
async function start(
  sites: readonly [StandinSiteAgent, StandinSiteAgent],
  ids: readonly [string, string],
  toml: string,
): Promise<Kept> {
  const pair = 'keep-up'
  const [unitA, unitB] = await Promise.all([startUnit({ pair, rate: 100 }), startUnit({ pair, rate: 100 })])
  const [sshA, sshB] = await Promise.all([startEmbeddedSshd(), startEmbeddedSshd()])
  const [portA, portB] = await Promise.all([freePort(), freePort()])
  const left = startGateway({
    ...{ device: unitA.path, side: 'alice', id: ids[0], ssh: sshA, siteAgent: sites[0].address },
    ...{ remoteListen: `127.0.0.1:${portA}`, toml },
  })
  startGateway({
    ...{ device: unitB.path, side: 'bob', id: ids[1], ssh: sshB, siteAgent: sites[1].address },
    remoteListen: `127.0.0.1:${portB}`,
  })
  return { sites, ssh: [sshA, sshB], left }
}

/** Keys come; after each tunnel was cut they come again; and they are equal. */
async function expectKept({ sites: [a, b], ssh }: Kept): Promise<void> {
  const both = (): number => Math.min(a.receivedKeys().length, b.receivedKeys().length)
  await eventually('first keys at both sites', () => both() >= 40)
  for (const { sshd } of ssh) {
    const before = both()
    sshd.cut()
    await eventually('keys again after the cut', () => both() >= before + 60, 40_000)
  }
  const compared = both()
  expect(a.digest(compared)).toBe(b.digest(compared))
}

describe("the left gateway's link.keepUp", () => {
  it('starts the link, and after a cut tunnel keys flow again without a hand, equal at both sites', async () => {
    const sites = await Promise.all([startSiteAgent('left'), startSiteAgent('right')])
    const ids = [deviceId('A'), deviceId('B')] as const
    const kept = await start(
      sites,
      ids,
      `[link.keepUp]
leftSite = "${sites[0].address}"
leftId = "${ids[0]}"
rightSite = "${sites[1].address}"
rightId = "${ids[1]}"`,
    )
    await expectKept(kept)
    expect(kept.left.stderr()).toContain('starting the link')
  })

  it('restarts a static link by registering anew, with no address of a site in its configuration', async () => {
    const ids = [deviceId('A'), deviceId('B')] as const
    const port = await freePort()
    const networkManager = `127.0.0.1:${port}`
    const b = await startSiteAgent('right', 0, { networkManager })
    const hop = {
      first: { site: networkManager, deviceId: ids[0] },
      second: { site: b.url, deviceId: ids[1] },
    }
    const a = await startSiteAgent('left', port, { staticHops: [[hop]] })
    const kept = await start([a, b], ids, '[link.keepUp]\nstatic = true')
    await expectKept(kept)
    expect(kept.left.stderr()).toContain('starting the static link')
    // Nobody but the network manager starts anything, and what was taken away was registered again, once.
    expect(a.devices()).toHaveLength(1)
    expect(a.events.history.filter((e) => e.event === 'unregistered').length).toBeGreaterThanOrEqual(1)
    expect(kept.left.stderr()).not.toContain('was restarted')
  })
})
