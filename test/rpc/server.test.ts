import { create } from '@bufbuild/protobuf'
import { status as Status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { serverStream, unary, RpcError } from '../../src/rpc/bridge.js'
import { ControlDetailsSchema, IDevice, LinkStatus_State } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { ISession } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { Probe } from '../../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'
import { details, soon, startDevice, type DeviceUnderTest } from './support/device.js'

let device: DeviceUnderTest | undefined
afterEach(async () => {
  await device?.close()
  device = undefined
})

async function failureOf(work: Promise<unknown>): Promise<{ code: number; details: string }> {
  return work.then(
    () => ({ code: 0, details: '' }),
    (error: unknown) => (error instanceof RpcError ? error : { code: -1, details: String(error) }),
  )
}
const codeOf = async (work: Promise<unknown>): Promise<number> => (await failureOf(work)).code

describe('the device server', () => {
  it('answers the calls of a SiteAgent on the local port', async () => {
    device = await startDevice()
    const { client } = await device.channel()
    await unary(client, IDevice.method.runSession, { peerAddress: '10.0.0.7:9000' }, soon())
    await unary(client, IDevice.method.endSession, {}, soon())
    const { message } = await unary(client, IDevice.method.getDetails, {}, soon())
    expect(message).toMatchObject({ controlAddress: details.controlAddress, bindAddress: details.controlAddress })
    expect(message.config).toMatchObject({ id: 'A_B_A', kind: 'qix', bytesPerKey: 32, switchPort: ['1', '2'] })
    expect(device.port.calls.map(({ method }) => method)).toEqual(['runSession', 'endSession'])
    expect(device.port.calls[0]?.call?.originator).toMatchObject({ address: '127.0.0.1', via: 'local' })
  })

  it('tells the originator of every call that comes through the tunnel', async () => {
    device = await startDevice()
    const site = await device.throughTunnel({ host: '45.55.2.5', port: 4711 })
    await unary(site.client, IDevice.method.endSession, {}, soon())
    const peer = await device.throughTunnel({ host: '::ffff:198.51.100.9', port: 9 })
    await unary(peer.client, ISession.method.sessionStarting, { initiatorAddress: 'b:9000' }, soon())
    const hidden = await device.throughTunnel(undefined)
    await unary(hidden.client, ISession.method.sessionEnding, {}, soon())
    expect(device.port.calls.map(({ call }) => call?.originator)).toEqual([
      { address: '45.55.2.5', port: 4711, via: 'tunnel' },
      { address: '198.51.100.9', port: 9, via: 'tunnel' },
      { address: 'unknown', port: 0, via: 'hidden' },
    ])
  })

  it('refuses keys to a stranger before the port hears of it, and names the line that would allow it', async () => {
    device = await startDevice()
    const { client } = await device.throughTunnel({ host: '203.0.113.9', port: 1 })
    const call = unary(client, IDevice.method.runSession, { peerAddress: 'x:1' }, soon())
    await expect(call).rejects.toMatchObject({ code: Status.PERMISSION_DENIED })
    const keys = serverStream(client, IDevice.method.waitForSession, {}, soon())
    await expect(keys.status).resolves.toMatchObject({ code: Status.PERMISSION_DENIED })
    expect(device.port.calls).toEqual([])
    const { refusals } = device.server.counts()
    expect(refusals.total).toBe(2)
    expect(refusals.last?.allowingLine).toBe('server.allow = ["203.0.113.9"]')
    expect(refusals.byMethod).toEqual({
      '/cqp.remote.IDevice/RunSession': 1,
      '/cqp.remote.IDevice/WaitForSession': 1,
    })
  })

  it('lets a stranger echo, and nothing else that shows the device', async () => {
    device = await startDevice()
    const { client } = await device.throughTunnel({ host: '203.0.113.9', port: 1 })
    const { message } = await unary(client, Probe.method.echo, { nonce: new Uint8Array([1, 2]) }, soon())
    expect(message.proof).toHaveLength(32)
    expect(await codeOf(unary(client, IDevice.method.getDetails, {}, soon()))).toBe(Status.PERMISSION_DENIED)
  })

  it('gives back in both numberings the right control address', async () => {
    device = await startDevice()
    const { client } = await device.channel()
    const { message } = await unary(client, IDevice.method.getDetails, {}, soon())
    expect(create(ControlDetailsSchema, message)).toMatchObject({
      bindAddress: '45.55.2.5:9000',
      siteAgentAddress: '45.55.2.5:8000',
    })
  })

  it.each([
    ['an empty peer address', { peerAddress: '' }, 'peerAddress: is empty'],
    ['no port', { peerAddress: 'host' }, 'peerAddress: "host" is no host:port'],
    ['port 0', { peerAddress: 'host:0' }, 'peerAddress: host:0 has port 0'],
    ['a URL', { peerAddress: 'http://host:9000' }, 'peerAddress: "http://host:9000"'],
    ['an endless address', { peerAddress: `${'h'.repeat(600)}:1` }, 'peerAddress: 602 characters'],
    [
      'an attenuation that is no number',
      { peerAddress: 'h:1', details: { lineAttenuation: NaN } },
      'details.lineAttenuation',
    ],
    [
      'a crowd of parameters',
      { peerAddress: 'h:1', details: { parameters: Array.from({ length: 300 }, () => ({})) } },
      'details.parameters: 300 entries',
    ],
    [
      'an endless parameter',
      { peerAddress: 'h:1', details: { parameters: [{ value: 'v'.repeat(5_000) }] } },
      'details.parameters',
    ],
  ])('refuses RunSession with %s and names the field', async (_name, request, text) => {
    device = await startDevice()
    const { client } = await device.channel()
    const call = unary(client, IDevice.method.runSession, request, soon())
    const { code, details: reason } = await failureOf(call)
    expect(code).toBe(Status.INVALID_ARGUMENT)
    expect(reason).toContain(text)
    expect(device.port.calls).toEqual([])
  })

  it('hands 64-bit numbers on exactly', async () => {
    device = await startDevice()
    const { client } = await device.channel()
    const most = 2n ** 64n - 1n
    const request = {
      peerAddress: 'h:1',
      details: { initialKeyId: most, photonsPerBurst: most - 1n, repitionRate: 2 ** 32 - 1 },
    }
    await unary(client, IDevice.method.runSession, request, soon())
    expect(device.port.calls[0]?.parameters).toMatchObject({ initialKeyId: most, photonsPerBurst: most - 1n })
  })

  it('shows the link status at once, then changes, and forgets the caller when it hangs up', async () => {
    device = await startDevice()
    const { client } = await device.channel()
    const stop = new AbortController()
    const call = serverStream(client, IDevice.method.getLinkStatus, {}, { deadlineMs: Infinity, signal: stop.signal })
    const seen: number[] = []
    try {
      for await (const { state, errorCode } of call) {
        seen.push(state)
        if (seen.length === 1) device.port.linkStatus.set({ state: 'sessionStarted', errorCode: 0 })
        if (seen.length === 2) device.port.linkStatus.set({ state: 'listening', errorCode: Status.UNAVAILABLE })
        if (seen.length === 3) {
          expect(errorCode).toBe(14n)
          stop.abort()
        }
      }
    } catch (error) {
      expect(error).toMatchObject({ code: Status.CANCELLED })
    }
    expect(seen).toEqual([LinkStatus_State.Inactive, LinkStatus_State.SessionStarted, LinkStatus_State.Listening])
  })

  it('answers a deadline beyond what a timer holds like one that is far away', async () => {
    device = await startDevice()
    const { client } = await device.channel()
    const call = unary(client, IDevice.method.endSession, {}, { ...soon(), deadlineMs: 100_000 * 3_600_000 })
    expect(await codeOf(call)).toBe(0)
  })

  it('says which address is taken', async () => {
    device = await startDevice()
    const failed = device.server.listen(device.address)
    await expect(failed).rejects.toMatchObject({ code: 'E_ADDRESS_IN_USE' })
    await expect(failed).rejects.toThrow(`127.0.0.1:${device.address.port}`)
  })

  it('shuts down in bounded time with a call that never ends', async () => {
    device = await startDevice()
    device.port.onRun = () => new Promise(() => {})
    const { client } = await device.channel()
    const hanging = unary(client, IDevice.method.runSession, { peerAddress: 'h:1' }, soon())
    const failed = codeOf(hanging)
    await new Promise<void>((resolve) => {
      const look = setInterval(() => {
        if (device?.port.calls.length !== 1) return
        clearInterval(look)
        resolve()
      }, 5)
    })
    const startedMs = performance.now()
    await device.server.shutdown(100)
    expect(performance.now() - startedMs).toBeLessThan(2_000)
    expect(await failed).not.toBe(0)
  })
})

it('shows the link status five hundred times and forgets each caller', async () => {
  device = await startDevice()
  const { port } = device
  let watchers = 0
  const subscribe = port.linkStatus.subscribe.bind(port.linkStatus)
  port.linkStatus.subscribe = (listener) => {
    watchers += 1
    const unsubscribe = subscribe(listener)
    return () => {
      watchers -= 1
      unsubscribe()
    }
  }
  const { client } = await device.channel()
  let seen = 0
  for (let round = 0; round < 10; round += 1) {
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        for await (const _ of serverStream(client, IDevice.method.getLinkStatus, {}, soon())) {
          seen += 1
          break
        }
      }),
    )
  }
  expect(seen).toBe(500)
  while (watchers > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  expect(device.server.counts()).toMatchObject({ open: 1, requestBytesInFlight: 0 })
})
