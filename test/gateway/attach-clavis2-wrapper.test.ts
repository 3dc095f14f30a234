/** `qkd-gw attach` for a Clavis2 unit whose other end is CQPToolkit's own device and not a gateway. */
import { readFileSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { pathOf } from '../../src/site/link-path.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import type { StandinSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { callUnary, dial } from '../../src/standin/wire.js'
import { installClavis2Host, optionFlags, type Clavis2Host } from './support/clavis2-host.js'
import { startClavis2Wrapper, type Clavis2Wrapper } from './support/clavis2-wrapper.js'
import {
  closeLab,
  deviceId,
  eventually,
  onCleanup,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
  type GatewayProcess,
} from './support/lab.js'

afterEach(closeLab)

const WHOLE = Uint8Array.from({ length: 32 }, (_, i) => 0xf0 ^ i)
/** Has a byte below 10 hex. */
const SHORTENED = Uint8Array.from(WHOLE).fill(5, 3, 4)

interface Lab {
  readonly gateway: GatewayProcess
  readonly host: Clavis2Host
  readonly wrapper: Clavis2Wrapper
  /** Ours, theirs. */
  readonly sites: readonly [StandinSiteAgent, StandinSiteAgent]
  /** Waits for so many keys at both SiteAgents and shows that they are the same in the same order. */
  expectEqual(count: number): Promise<void>
}

const hex = (site: StandinSiteAgent): string[] => site.receivedKeys().map((key) => Buffer.from(key).toString('hex'))

/** Both devices at their SiteAgents, Alice's being the left one, and the link started. */
async function startLab(side: 'alice' | 'bob', fallbackKey: Uint8Array, options = {}): Promise<Lab> {
  const [host, ssh, left, right] = await Promise.all([
    installClavis2Host(),
    startEmbeddedSshd(),
    startSiteAgent('left', 0, { fallbackKey }),
    startSiteAgent('right', 0, { fallbackKey }),
  ])
  const [ourSite, theirSite] = side === 'alice' ? [left, right] : [right, left]
  const other = side === 'alice' ? 'bob' : 'alice'
  const theirId = deviceId(`upstream_${side}`)
  const gateway = startGateway({
    ...{ device: host.device, driver: 'clavis2', side, ssh, siteAgent: ourSite.address, id: deviceId(`ours_${side}`) },
    // Their unit makes keys before our program is up, which real units cannot.
    flags: [...host.flags, ...optionFlags({ 'reply-timeout-ms': '5000', ...options })],
  })
  const wrapper = await startClavis2Wrapper({
    ...{ side: other, id: theirId, kind: 'clavis', siteAgent: theirSite.address, roundMs: 200 },
  })
  await gateway.untilPart('registration', 'registered')
  await gateway.untilPart('device', 'identified')
  const [leftId, rightId] = side === 'alice' ? [gateway.id, theirId] : [theirId, gateway.id]
  const client = dial(left.address)
  onCleanup(() => client.close())
  const path = pathOf({ site: left.url, deviceId: leftId }, { site: right.url, deviceId: rightId })
  await callUnary(client, ISiteAgent.method.startNode, path)
  return {
    gateway,
    host,
    wrapper,
    sites: [ourSite, theirSite],
    async expectEqual(count) {
      const few = (): number => Math.min(ourSite.receivedKeys().length, theirSite.receivedKeys().length)
      await eventually(`${count} keys at both`, () => few() >= count)
      const common = few()
      expect(hex(ourSite).slice(0, common)).toEqual(hex(theirSite).slice(0, common))
      expect(new Set(hex(ourSite)).size).toBe(hex(ourSite).length)
    },
  }
}

const digitsIn = (file: string): string =>
  /initial_secret_key = ([0-9A-F]+)/.exec(readFileSync(file, 'utf8'))?.[1] ?? ''

describe("a Clavis2 unit at a gateway, the other at CQPToolkit's own device", () => {
  it('gives both sites the same keys, whichever is Alice, as long as both write the initial key alike', async () => {
    const labs = await Promise.all([
      startLab('bob', WHOLE),
      startLab('alice', SHORTENED, { 'key-spelling': 'upstream' }),
    ])
    for (const lab of labs) {
      await lab.expectEqual(6)
      expect(digitsIn(lab.host.file)).toBe(digitsIn(lab.wrapper.file))
      await lab.gateway.said(/the peer is no gateway/)
    }
    const [bob] = labs
    const { parts } = await bob.gateway.status()
    // Their Alice repeats all earlier ids with every message.
    expect(Number(parts['device']?.facts?.['idsRepeated'])).toBeGreaterThan(0)
  })

  it('ends a session whose initial key that device writes without leading zeros, says so, and gives no key out', async () => {
    const labs = await Promise.all([startLab('bob', SHORTENED), startLab('alice', SHORTENED)])
    for (const { gateway, host, wrapper, sites } of labs) {
      await gateway.line('the end of the session', (line) =>
        /CQPToolkit's wrapper .*key-spelling=upstream/.test(String(line['reason'])) ? true : undefined,
      )
      await gateway.untilPart('session', 'listening', 'none')
      expect(digitsIn(host.file)).toHaveLength(64)
      await eventually('their file', () => digitsIn(wrapper.file).length === 63)
      expect(sites[0].receivedKeys()).toEqual([])
    }
  })
})
