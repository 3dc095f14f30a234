import { networkInterfaces } from 'node:os'
import { status } from '@grpc/grpc-js'
import { describe, expect, test } from 'vitest'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { callUnary } from '../../src/standin/wire.js'
import { codeOf, useBench } from './support/bench.js'
import { poll } from './support/poll.js'

const bench = useBench()

const hasIpv6Loopback = Object.values(networkInterfaces()).some((list) =>
  list?.some(({ address }) => address === '::1'),
)

const portOf = (address: string): string => address.slice(address.lastIndexOf(':') + 1)

/** Starts the link with a device at site A that registered `address`; what StartNode answered. */
async function startWith(address: string): Promise<number> {
  const { a, b } = await bench.pair({ connectWaitMs: 300 })
  await bench.register(a, 'spelt', address)
  const path = pathOf({ site: a.url, deviceId: 'spelt' }, { site: b.url, deviceId: 'b' })
  return codeOf(callUnary(bench.client(a), ISiteAgent.method.startNode, path))
}

describe('a control address', () => {
  test.each(['127.0.0.1', 'localhost', 'dns:127.0.0.1', 'dns:///127.0.0.1', 'ipv4:127.0.0.1'])(
    'spelt %s:port is dialled',
    async (host) => {
      const device = await bench.device()
      expect(await startWith(`${host}:${portOf(device.address)}`)).toBe(status.OK)
      await poll(() => device.openStreams).toBe(1)
    },
  )

  // Machines without IPv6 have nothing to be dialled there.
  test.each(hasIpv6Loopback ? ['[::1]', 'ipv6:[::1]'] : [])('spelt %s:port is dialled over IPv6', async (host) => {
    const device = await bench.device({ host: '[::1]' })
    expect(await startWith(`${host}:${portOf(device.address)}`)).toBe(status.OK)
    await poll(() => device.openStreams).toBe(1)
  })

  test.each(['grpc://', 'http://', '//'])('that begins with %s reaches nobody, and StartNode is OK', async (prefix) => {
    const device = await bench.device()
    expect(await startWith(`${prefix}${device.address}`)).toBe(status.OK)
    expect(device.calls.history).toEqual([])
  })

  test('without a port leads elsewhere', async () => {
    const device = await bench.device()
    expect(await startWith('127.0.0.1')).toBe(status.OK)
    expect(device.calls.history).toEqual([])
  })
})
