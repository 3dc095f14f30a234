import { createServer } from 'node:http2'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { unary } from '../../src/rpc/bridge.js'
import { Probe as ProbeService } from '../../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'
import { createProbe, type Probe } from '../../src/rpc/probe.js'
import type { ProbeSelf } from '../../src/tunnel/contract.js'
import { connectTo, duplexPair, silentPort, soon, startDevice, type DeviceUnderTest } from './support/device.js'

let device: DeviceUnderTest | undefined
const cleanUp: (() => unknown)[] = []
afterEach(async () => {
  await device?.close()
  device = undefined
  for (const end of cleanUp.splice(0)) await end()
})

const signal = new AbortController().signal
const request = { paddingBytes: 0, timeoutMs: 5_000, signal }
const another = (): Probe => createProbe({ random: systemRandom, clock: systemClock, version: '9.9.9' })

describe('the probe', () => {
  it('recognises its own process over a connection of its own', async () => {
    device = await startDevice()
    const probeSelf: ProbeSelf = device.probe.probeSelf
    const result = await probeSelf({ ...request, target: device.address })
    expect(result).toMatchObject({ result: 'ourselves' })
  })

  it('recognises its own process over a stream that somebody else opened', async () => {
    device = await startDevice()
    const [near, far] = duplexPair()
    device.server.inject(far, { host: '203.0.113.9', port: 1 })
    const result = await device.probe.probeSelf({
      ...request,
      stream: near,
      target: { host: 'lab.example', port: 9000 },
    })
    // And where the call came in from: that is how the tunnel learns the server's own address.
    expect(result).toMatchObject({ result: 'ourselves', originator: { host: '203.0.113.9', port: 1 } })
    expect(near.destroyed).toBe(true)
  })

  it.each([1_400, 65_536, 1_048_576])(
    'brings %i bytes of padding there and back, for strangers too',
    async (paddingBytes) => {
      device = await startDevice()
      const [near, far] = duplexPair()
      device.server.inject(far, { host: '203.0.113.9', port: 1 })
      const result = await device.probe.probeSelf({ ...request, paddingBytes, stream: near, target: device.address })
      expect(result).toMatchObject({ result: 'ourselves' })
    },
  )

  it('takes another gateway for a stranger, whatever it answers', async () => {
    device = await startDevice()
    const result = await another().probeSelf({ ...request, target: device.address })
    expect(result).toEqual({ result: 'stranger', reason: expect.stringContaining('another gateway') as string })
  })

  it('takes a gRPC server without a probe for a stranger', async () => {
    const server = new Server()
    cleanUp.push(() => server.forceShutdown())
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    )
    const result = await another().probeSelf({ ...request, target: { host: '127.0.0.1', port } })
    expect(result.result).toBe('stranger')
  })

  it('says within its deadline that nobody answers', async () => {
    const silent = await silentPort()
    cleanUp.push(() => silent.close())
    const startedMs = performance.now()
    const byItself = await another().probeSelf({ ...request, timeoutMs: 300, target: silent.address })
    const socket = await connectTo(silent.address)
    const overStream = await another().probeSelf({ ...request, timeoutMs: 300, target: silent.address, stream: socket })
    expect([byItself.result, overStream.result]).toEqual(['unreachable', 'unreachable'])
    expect(performance.now() - startedMs).toBeLessThan(4_000)
    expect(socket.destroyed).toBe(true)
  })

  it('names the address that refuses', async () => {
    const silent = await silentPort()
    silent.close()
    const result = await another().probeSelf({ ...request, timeoutMs: 2_000, target: silent.address })
    expect(result).toMatchObject({
      result: 'unreachable',
      reason: expect.stringContaining(String(silent.address.port)) as string,
    })
  })

  it('does not mind a server that speaks HTTP/2 and no gRPC', async () => {
    const web = createServer((_request, response) => response.end('hello'))
    await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve))
    cleanUp.push(() => web.close())
    const bound = web.address()
    const port = typeof bound === 'object' && bound !== null ? bound.port : 0
    const result = await another().probeSelf({ ...request, target: { host: '127.0.0.1', port } })
    expect(result.result).not.toBe('ourselves')
  })

  it('refuses what exceeds its bounds and names the field', async () => {
    device = await startDevice()
    const { client } = await device.channel()
    const echo = (message: object): Promise<unknown> => unary(client, ProbeService.method.echo, message, soon())
    await expect(echo({})).rejects.toThrow('nonce: 0 bytes')
    await expect(echo({ nonce: new Uint8Array(65) })).rejects.toThrow('nonce: 65 bytes')
    await expect(echo({ nonce: new Uint8Array(1), replySize: 2 ** 32 - 1 })).rejects.toThrow('reply_size')
    await expect(echo({ nonce: new Uint8Array(1), padding: new Uint8Array(1_048_577) })).rejects.toThrow('padding')
  })
})
