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

/** Several commands start at once, on a machine that may have much else to do. */
const slowMs = 60_000

interface Kept {
  readonly sites: readonly [StandinSiteAgent, StandinSiteAgent]
  readonly ssh: readonly [EmbeddedSshd, EmbeddedSshd]
  readonly left: GatewayProcess
}

/** Two units, tunnels and gateways, each gateway with its lines in its configuration. */
async function start(
  sites: readonly [StandinSiteAgent, StandinSiteAgent],
  ids: readonly [string, string],
  toml: readonly [string, string],
): Promise<Kept> {
  const pair = 'keep-up'
  const [unitA, unitB] = await Promise.all([startUnit({ pair, rate: 100 }), startUnit({ pair, rate: 100 })])
  const [sshA, sshB] = await Promise.all([startEmbeddedSshd(), startEmbeddedSshd()])
  const [portA, portB] = await Promise.all([freePort(), freePort()])
  const left = startGateway({
    ...{ device: unitA.path, side: 'alice', id: ids[0], ssh: sshA, siteAgent: sites[0].address },
    ...{ remoteListen: `127.0.0.1:${portA}`, toml: toml[0] },
  })
  startGateway({
    ...{ device: unitB.path, side: 'bob', id: ids[1], ssh: sshB, siteAgent: sites[1].address },
    ...{ remoteListen: `127.0.0.1:${portB}`, toml: toml[1] },
  })
  return { sites, ssh: [sshA, sshB], left }
}

/** Keys come; after each tunnel was cut they come again; and they are equal. */
async function expectKept({ sites: [a, b], ssh }: Kept): Promise<void> {
  const both = (): number => Math.min(a.receivedKeys().length, b.receivedKeys().length)
  await eventually('first keys at both sites', () => both() >= 40, slowMs)
  for (const { sshd } of ssh) {
    const before = both()
    sshd.cut()
    await eventually('keys again after the cut', () => both() >= before + 60, slowMs)
  }
  const compared = both()
  expect(a.digest(compared)).toBe(b.digest(compared))
}

const ids = (): [string, string] => [deviceId('A'), deviceId('B')]

const path = (sites: readonly { address: string }[], [leftId, rightId]: readonly [string, string]): string =>
  `[link.keepUp]
leftSite = "${sites[0]?.address}"
leftId = "${leftId}"
rightSite = "${sites[1]?.address}"
rightId = "${rightId}"
`

/** The left site is the network manager of a static link. */
async function staticSites([leftId, rightId]: readonly [string, string]): Promise<Kept['sites']> {
  const port = await freePort()
  const networkManager = `127.0.0.1:${port}`
  const b = await startSiteAgent('right', 0, { networkManager })
  const hop = { first: { site: networkManager, deviceId: leftId }, second: { site: b.url, deviceId: rightId } }
  return [await startSiteAgent('left', port, { staticHops: [[hop]] }), b]
}

describe('link.keepUp', { timeout: 240_000 }, () => {
  it('of the left gateway starts the link, and after a cut tunnel keys flow again without a hand', async () => {
    const sites = await Promise.all([startSiteAgent('left'), startSiteAgent('right')])
    const pair = ids()
    const kept = await start(sites, pair, [path(sites, pair), ''])
    await expectKept(kept)
    expect(kept.left.stderr()).toContain('starting the link')
  })

  it.each([
    [
      'with the whole path in the left gateway',
      (sites: Kept['sites'], pair: [string, string]) => path(sites, pair),
      '',
    ],
    ['by both gateways without any address', () => '[link.keepUp]\n', '[link.keepUp]\nstatic = true'],
  ])('restarts a static link by registering anew, %s', async (_name, left, right) => {
    const pair = ids()
    const sites = await staticSites(pair)
    const kept = await start(sites, pair, [`${left(sites, pair)}static = true`, right])
    await expectKept(kept)
    // Nobody but the network manager starts anything, and what was taken away was registered again, once.
    expect(kept.left.stderr()).not.toContain('StartNode at')
    for (const site of sites) expect(site.devices()).toHaveLength(1)
    const unregistered = sites.flatMap(({ events }) => events.history).filter((e) => e.event === 'unregistered')
    expect(unregistered.length).toBeGreaterThanOrEqual(1)
  })
})
