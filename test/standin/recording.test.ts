import { create } from '@bufbuild/protobuf'
import { Server } from '@grpc/grpc-js'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { addUnary } from '../../src/rpc/bridge.js'
import { SiteAgentReportSchema } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { ISiteAgent, PhysicalPathSchema } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { startCppSiteAgent } from '../../src/standin/cpp-site-agent.js'
import { startDummyDevice } from '../../src/standin/dummy-device.js'
import { KeyStoreFigures } from '../../src/standin/report-server.js'
import { bind, callUnary, dial } from '../../src/standin/wire.js'
import { loadRecording, recordedAddresses } from './recording/recording.js'
import { treeOf, type Tree } from './recording/text-form.js'
import { startSeatPlayer } from './recording/seat-player.js'
import { compareTraces, recordedTrace } from './recording/trace.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const events = loadRecording()
const frames = 2

describe('the recording', () => {
  test('is read whole: every party, every kind, every status', () => {
    expect(events).toHaveLength(318)
    expect(new Set(events.map(({ from }) => from))).toEqual(new Set(['SiteA', 'SiteB', 'Alice', 'Bob', 'Operator']))
    const run = events.find(({ method, kind }) => method === 'IDevice/RunSession' && kind === 'MSG')
    expect(run).toMatchObject({
      from: 'SiteB',
      to: 'Bob',
      fields: { details: [{}], peerAddress: ['127.0.0.1:17011'] },
    })
  })

  test('shows what a device sends in a session of so many frames', () => {
    const alice = recordedTrace(events, 'Alice', frames)
    expect(alice.toSite.map(({ method }) => method)).toEqual([
      'ISiteAgent/RegisterDevice',
      'ISiteAgent/UnregisterDevice',
    ])
    expect(alice.toPeer.map(({ method }) => method.split('/')[1])).toEqual([
      ...['StartDetecting', 'OnPhoton', 'StopDetecting', 'StartDetecting', 'OnPhoton', 'StopDetecting'],
      ...['StartDetecting', 'OnPhoton', 'StopDetecting', 'SessionEnding'],
    ])
    expect(alice.keys.map(({ summary }) => summary)).toEqual(Array(2).fill('RawKeys: 781 keys, sizes [16]'))
  })
})

/** The protocol gives a frame of 100,000 qubits 500 ms, which a machine that runs other tests as well may miss. */
const frameWaitMs = 20_000

describe('played against the stand-in of the Dummy', { timeout: 240_000 }, () => {
  test.each(['Alice', 'Bob'] as const)('in the seat of %s, it sends what the C++ device sent', async (seat) => {
    const player = await startSeatPlayer(seat)
    cleanups.push(() => player.close())
    const device = await startDummyDevice({
      side: seat === 'Alice' ? 'alice' : 'bob',
      siteAgent: player.siteAgentAddress,
      frameMs: seat === 'Alice' ? 2_000 : 300,
      frameWaitMs,
      faults: { endSessionHangs: false },
    })
    cleanups.push(() => device.close())
    const found = await player.play(frames, () => device.close())
    expect(compareTraces(recordedTrace(events, seat, frames), found)).toEqual([])
  })

  test('what a device sends otherwise is found and named, field by field', async () => {
    const player = await startSeatPlayer('Bob')
    cleanups.push(() => player.close())
    const device = await startDummyDevice({
      side: 'bob',
      id: 'another',
      bytesPerKey: 32,
      siteAgent: player.siteAgentAddress,
    })
    cleanups.push(() => device.close())
    const found = await player.play(frames, () => device.close())
    expect(compareTraces(recordedTrace(events, 'Bob', frames), found)).toEqual([
      {
        where: 'to the site: ISiteAgent/RegisterDevice.config.id',
        recorded: '"dummyqkd__0__16_bob"',
        found: '"another"',
      },
      { where: 'to the site: ISiteAgent/UnregisterDevice.id', recorded: '"dummyqkd__0__16_bob"', found: '"another"' },
      {
        where: 'keys: IDevice/WaitForSession summary',
        recorded: 'RawKeys: 781 keys, sizes [16]',
        found: 'RawKeys: 390 keys, sizes [32]',
      },
      ...Array.from({ length: 2 }, () => ({
        where: 'keys: IDevice/WaitForSession summary',
        recorded: 'RawKeys: 781 keys, sizes [16]',
        found: expect.stringMatching(/RawKeys: 39[01] keys, sizes \[32\]/) as string,
      })),
    ])
  })
})

describe('the stand-in of a C++ SiteAgent', () => {
  test('passes StartNode on as the recorded one does: the address of device A filled in, empty parameters', async () => {
    const siteB = new Server()
    const seen: Tree[] = []
    addUnary(siteB, ISiteAgent.method.startNode, (path) => {
      seen.push(treeOf(PhysicalPathSchema, path))
      return {}
    })
    const addressB = `127.0.0.1:${await bind(siteB, '127.0.0.1:0')}`
    cleanups.push(() => siteB.forceShutdown())
    const siteA = await startCppSiteAgent({ name: 'SiteA', connectWaitMs: 100 })
    cleanups.push(() => siteA.close())
    const client = dial(siteA.address)
    cleanups.push(() => client.close())
    const config = { id: 'dummyqkd__0__16_alice', kind: 'dummyqkd' }
    await callUnary(client, ISiteAgent.method.registerDevice, { config, bindAddress: recordedAddresses.Alice })
    const path = pathOf(
      { site: siteA.url, deviceId: 'dummyqkd__0__16_alice' },
      { site: addressB, deviceId: 'dummyqkd__0__16_bob' },
    )
    await callUnary(client, ISiteAgent.method.startNode, path)
    const recorded = events.find(
      ({ from, method, kind }) => from === 'SiteA' && method === 'ISiteAgent/StartNode' && kind === 'MSG',
    )
    const renamed = JSON.stringify(seen[0])
      .replace(siteA.url, recordedAddresses.SiteA)
      .replace(addressB, recordedAddresses.SiteB)
    expect(JSON.parse(renamed)).toEqual(recorded?.fields)
  })

  test('reports a batch with the figures, ids, units and parameters of the recorded one', async () => {
    const clock = systemClock
    const reports: Tree[] = []
    const figures = new KeyStoreFigures(0n, { siteFrom: recordedAddresses.SiteA, siteName: 'SiteA' }, clock, (report) =>
      reports.push(treeOf(SiteAgentReportSchema, create(SiteAgentReportSchema, report))),
    )
    figures.received(781, 6810, 0)
    const recorded = events.filter(({ from, fields }) => from === 'SiteA' && fields?.['path']?.[0] === 'Key Generation')
    expect(recorded).toHaveLength(3)
    const shape = ({ path, id, unit, parameters }: Tree): unknown => ({ path, id, unit, parameters })
    expect(reports.map(shape)).toEqual(recorded.map(({ fields }) => shape(fields ?? {})))
  })
})
