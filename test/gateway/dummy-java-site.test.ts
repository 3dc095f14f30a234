import { afterEach, describe, expect, it } from 'vitest'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { startJavaSiteAgent, type StandinJavaSiteAgent } from '../../src/standin/java-site-agent.js'
import { callUnary } from '../../src/standin/wire.js'
import { after, clientOf, closeDummyLab, eventually, startOurs, startTheirs } from './support/dummy-lab.js'

afterEach(closeDummyLab)

async function startSite(name: string): Promise<StandinJavaSiteAgent> {
  const agent = await startJavaSiteAgent({ name })
  after(() => agent.close())
  return agent
}

describe('our Dummy device at a Java SiteAgent, a C++ one at another', () => {
  it('gives both the same keys, and says when the KMS behind will hand out its first', async () => {
    const [a, b] = await Promise.all([startSite('A'), startSite('B')])
    const ours = await startOurs({ side: 'alice', siteAgent: a.address, id: 'A_B_A', keyBytes: 32, frameMs: 100 })
    await startTheirs({ side: 'bob', siteAgent: b.address, id: 'A_B_B', bytesPerKey: 32, dialect: 'openqkd' })
    await ours.untilPart('registration', 'registered')
    const before = ours.status().parts['registration']?.facts
    expect(before?.['dialect']).toBe('java')
    expect(before?.['kms']).toMatch(/hands out its first key after 4,096 keys .*none go out now$/)
    await eventually('both devices registered', () => a.devices().length > 0 && b.devices().length > 0)
    const path = pathOf({ site: a.url, deviceId: 'A_B_A' }, { site: b.url, deviceId: 'A_B_B' })
    // It never answers.
    void callUnary(clientOf(a), ISiteAgent.method.startNode, path).catch(() => {})
    await eventually('50 keys at both', () => Math.min(a.receivedKeys().length, b.receivedKeys().length) >= 50)
    expect(a.digest(50)).toBe(b.digest(50))
    expect([a.malformedKeys(), b.malformedKeys()]).toEqual([0, 0])
    const facts = ours.status().parts['registration']?.facts
    expect(facts?.['kms']).toMatch(/: [1-9]\d* went out; at \d+\.\d kbit\/s the rest takes about \d+ (s|min)$/)
    expect(facts?.['kmsForecast']).toMatchObject({ neededKeys: 4096, firstKey: 'coming' })
  })
})
