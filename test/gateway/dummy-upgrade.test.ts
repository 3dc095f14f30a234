import { afterEach, expect, it } from 'vitest'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { callUnary } from '../../src/standin/wire.js'
import { clientOf, closeDummyLab, makeLink, startOurs, unhurried } from './support/dummy-lab.js'

afterEach(closeDummyLab)

it('where a gateway takes the place of the C++ device, the link goes on by agreement, keys still equal', async () => {
  const link = await makeLink({ ours: 'alice', ...unhurried })
  await link.start()
  await link.untilQuiet()
  await link.end()
  await link.theirs.close()
  const bob = await startOurs({ side: 'bob', siteAgent: link.siteOfTheirs.address, id: 'second' })
  await bob.untilPart('registration', 'registered')
  const path = pathOf(
    { site: link.siteOfOurs.url, deviceId: link.ours.id },
    { site: link.siteOfTheirs.url, deviceId: 'second' },
  )
  await callUnary(clientOf(link.siteOfOurs), ISiteAgent.method.startNode, path)
  const before = link.keys()[0].length
  await link.untilKeys(before + 20)
  const [here, there] = link.keys()
  expect(here).toEqual(there)
  expect(link.ours.status().parts['session']?.facts).toMatchObject({ peerIsGateway: true })
})
