import { fromBinary } from '@bufbuild/protobuf'
import { status as Status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import type { KeyStream } from '../../src/rpc/device-port.js'
import {
  ControlDetailsSchema,
  IDevice,
  LinkStatus_State,
  LinkStatusSchema,
  LocalSettingsSchema,
  RawKeysSchema,
} from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { IReporting, ReportingFilterSchema, SiteAgentReportSchema } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { SessionDetailsToSchema } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { hexOf, pathOf, startCCorePeer, type CCorePeer, type PeerAnswer } from './support/c-core.js'
import { startDevice, type DeviceUnderTest } from './support/device.js'

let device: DeviceUnderTest | undefined
let peer: CCorePeer | undefined
afterEach(async () => {
  await peer?.close()
  await device?.close()
  device = undefined
  peer = undefined
})

async function start(): Promise<{ device: DeviceUnderTest; peer: CCorePeer }> {
  device = await startDevice()
  peer = startCCorePeer(`127.0.0.1:${device.address.port}`)
  return { device, peer }
}

const bytesOf = (answer: PeerAnswer, index = 0): Uint8Array => Buffer.from(String(answer.messages?.[index]), 'hex')

async function eventually(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

describe('to a SiteAgent on the C core of gRPC', () => {
  it('a session of keys goes as in the field: wait, run, keys, cancel, end', async () => {
    const { device, peer } = await start()
    const streams: KeyStream[] = []
    device.port.onStream = (stream) => {
      streams.push(stream)
      void stream.send([new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)])
      void stream.send(Array.from({ length: 10_000 }, () => new Uint8Array(32).fill(3)))
    }
    const run = await peer.ask({
      kind: 'unary',
      call: pathOf(IDevice.method.runSession),
      request: hexOf(SessionDetailsToSchema, { details: {}, peerAddress: '127.0.0.1:17011' }),
    })
    expect(run).toEqual({ code: 0, messages: [''] })
    const keys = await peer.ask({
      kind: 'stream',
      call: pathOf(IDevice.method.waitForSession),
      request: hexOf(LocalSettingsSchema, { initialKey: new Uint8Array(25) }),
      take: 2,
    })
    const first = fromBinary(RawKeysSchema, bytesOf(keys))
    expect(first.keyData.map((key) => key[0])).toEqual([1, 2])
    expect(fromBinary(RawKeysSchema, bytesOf(keys, 1)).keyData).toHaveLength(10_000)
    await eventually(() => streams[0]?.signal.aborted === true)
    for (let twice = 0; twice < 2; twice += 1) {
      expect(await peer.ask({ kind: 'unary', call: pathOf(IDevice.method.endSession) })).toMatchObject({ code: 0 })
    }
    expect(device.port.calls.map(({ method }) => method)).toEqual([
      'runSession',
      'waitForSession',
      'endSession',
      'endSession',
    ])
  })

  it('a backlog of 10 MB arrives in messages that its default limit lets through', async () => {
    const { device, peer } = await start()
    const batches = 31
    device.port.onStream = (stream) => {
      void (async () => {
        const batch = Array.from({ length: 10_000 }, () => new Uint8Array(32).fill(9))
        for (let n = 0; n < batches; n += 1) await stream.send(batch)
        stream.end(0, '')
      })()
    }
    const keys = await peer.ask({ kind: 'stream', call: pathOf(IDevice.method.waitForSession), bytes: false })
    expect(keys).toEqual({ code: 0, messages: Array.from({ length: batches }, () => 340_000) })
  })

  it('link status and details read rightly', async () => {
    const { peer } = await start()
    const status = await peer.ask({ kind: 'stream', call: pathOf(IDevice.method.getLinkStatus), take: 1 })
    expect(fromBinary(LinkStatusSchema, bytesOf(status)).state).toBe(LinkStatus_State.Inactive)
    const details = await peer.ask({ kind: 'unary', call: pathOf(IDevice.method.getDetails) })
    expect(fromBinary(ControlDetailsSchema, bytesOf(details))).toMatchObject({ controlAddress: '45.55.2.5:9000' })
  })

  it('statistics come as upstream sends them', async () => {
    const { device, peer } = await start()
    const asked = peer.ask({
      kind: 'stream',
      call: pathOf(IReporting.method.getStatistics),
      request: hexOf(ReportingFilterSchema, { listIsExclude: true }),
      take: 2,
    })
    const qber = device.statistics.double(['ErrorCorrection', 'QBER'], 'percentage')
    const update = setInterval(() => qber.update(2.5), 5)
    const answer = await asked
    clearInterval(update)
    const report = fromBinary(SiteAgentReportSchema, bytesOf(answer, 1))
    expect(report).toMatchObject({ path: ['ErrorCorrection', 'QBER'], value: { case: 'asDouble' } })
    expect(report.parameters).toMatchObject({ sessionActive: 'false' })
  })

  it('health says that we serve and reflection lists and describes our services', async () => {
    const { device, peer } = await start()
    const check = { kind: 'unary', call: '/grpc.health.v1.Health/Check' } as const
    expect(await peer.ask(check)).toEqual({ code: 0, messages: ['0801'] })
    device.health.set('', false)
    expect(await peer.ask(check)).toEqual({ code: 0, messages: ['0802'] })
    // ServerReflectionRequest.list_services is field 7, file_containing_symbol field 4.
    const text = async (version: string, request: string): Promise<string> =>
      Buffer.from(
        bytesOf(
          await peer.ask({
            kind: 'bidi',
            call: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
            request,
          }),
        ),
      ).toString('latin1')
    for (const version of ['v1', 'v1alpha']) {
      const listed = await text(version, '3a012a')
      for (const name of [
        'cqp.remote.IDevice',
        'cqp.remote.ISession',
        'cqp.remote.IReporting',
        'qkdgw.probe.v1.Probe',
      ]) {
        expect(listed).toContain(name)
      }
      const symbol = Buffer.from('cqp.remote.IDevice')
      const described = await text(version, Buffer.concat([Buffer.from([0x22, symbol.length]), symbol]).toString('hex'))
      expect(described).toContain('WaitForSession')
    }
  })

  it.each([
    ['bytes that are no message', 'ffffff', Status.INTERNAL],
    ['an empty request', '', Status.INVALID_ARGUMENT],
    ['a field of the wrong type', '1201', Status.INTERNAL],
  ])('RunSession with %s gets a status and hurts nobody', async (_name, request, code) => {
    const { peer } = await start()
    const call = pathOf(IDevice.method.runSession)
    expect(await peer.ask({ kind: 'unary', call, request })).toMatchObject({ code })
    expect(await peer.ask({ kind: 'unary', call: '/cqp.remote.IDevice/Nothing' })).toMatchObject({
      code: Status.UNIMPLEMENTED,
    })
    expect(
      await peer.ask({ kind: 'unary', call: pathOf(IDevice.method.endSession), timeout: 2_000_000_000 }),
    ).toMatchObject({ code: 0 })
  })

  it('a stream whose reader is killed ends for us', async () => {
    const { device, peer } = await start()
    let opened: ((stream: KeyStream) => void) | undefined
    const stream = new Promise<KeyStream>((resolve) => (opened = resolve))
    device.port.onStream = (arrived) => opened?.(arrived)
    await peer.ask({ kind: 'stream', call: pathOf(IDevice.method.waitForSession), hold: 'keys' })
    const { signal } = await stream
    peer.kill()
    await eventually(() => signal.aborted)
    await eventually(() => device.server.counts().open === 0)
  })
})
