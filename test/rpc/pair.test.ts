import { status as Status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { PairCallError, type PairPeer, type PairServices } from '../../src/device/pair-contract.js'
import { clientStream, RpcError, serverStream, unary } from '../../src/rpc/bridge.js'
import type { Channel } from '../../src/rpc/channel.js'
import { IAlignment } from '../../src/rpc/gen/cqp/remote/alignment_pb.js'
import { ISync } from '../../src/rpc/gen/cqp/remote/clavis_pb.js'
import { IDetector, IPhotonSim } from '../../src/rpc/gen/cqp/remote/detector_pb.js'
import { IErrorCorrect } from '../../src/rpc/gen/cqp/remote/error_correction_pb.js'
import { IPrivacyAmplify } from '../../src/rpc/gen/cqp/remote/privacy_pb.js'
import { ISift } from '../../src/rpc/gen/cqp/remote/sift_pb.js'
import { IEntaglementEvent, ITimeTagService } from '../../src/rpc/gen/cqp/remote/time_tags_pb.js'
import { createPairClient } from '../../src/rpc/pair-client.js'
import type { PairPort } from '../../src/rpc/pair-port.js'
import { timestampOf, unixNs } from '../../src/rpc/pair-wire.js'
import { soon, startDevice, type DeviceUnderTest } from './support/device.js'

let device: DeviceUnderTest | undefined
afterEach(async () => {
  await device?.close()
  device = undefined
})

async function start(port: PairPort | undefined): Promise<Channel> {
  device = await startDevice({}, { pair: () => port })
  return device.channel()
}

/** As a gateway composes it: what drivers are given and what they give fit without a cast. */
const peerOf = ({ client }: Channel): PairPeer =>
  createPairClient({ client, failure: (status, message) => new PairCallError(status, message) })

const { signal } = new AbortController()

describe('two devices', () => {
  it('carry photons, bases and answers of a whole frame to each other unchanged', async () => {
    const heard: unknown[] = []
    const services: PairServices = {
      startDetecting: async (atUnixNs) => void heard.push(['start', atUnixNs]),
      stopDetecting: async (atUnixNs) => void heard.push(['stop', atUnixNs]),
      onPhoton: async ({ periodPs, qubits }) => void heard.push(['photons', periodPs, qubits]),
      verifyBases: async (frames) =>
        frames.map(({ frameId, bases }) => ({ frameId, answers: bases.map((basis) => (basis === 2 ? 1 : 0)) })),
    }
    const peer = peerOf(await start(services))
    const qubits = Uint8Array.from({ length: 100_000 }, (_, k) => k % 7)
    await peer.startDetecting(1_795_488_664_269_896_930n, signal)
    await peer.onPhoton({ periodPs: 10_000_000n, qubits }, signal)
    await peer.stopDetecting(0n, signal)
    expect(heard).toEqual([
      ['start', 1_795_488_664_269_896_930n],
      ['photons', 10_000_000n, qubits],
      ['stop', 0n],
    ])
    const bases = Uint8Array.from({ length: 100_000 }, (_, k) => (k % 3) * 2)
    const answers = await peer.verifyBases(
      [
        { frameId: 2n ** 64n - 1n, bases: new Uint8Array([2]) },
        { frameId: 0n, bases },
      ],
      signal,
    )
    expect(answers.map(({ frameId }) => frameId)).toEqual([0n, 2n ** 64n - 1n])
    expect(answers[0]?.answers).toEqual(Uint8Array.from({ length: 100_000 }, (_, k) => (k % 3 === 1 ? 1 : 0)))
  })

  it('stream key numbers until one side has enough', async () => {
    const taken: bigint[][] = []
    let enough = false
    const peer = peerOf(
      await start({
        useKeyIds: async (batches) => {
          for await (const batch of batches) {
            taken.push([...batch])
            if (enough) throw new PairCallError('notFound', 'key 9 is gone')
          }
        },
      }),
    )
    const stream = peer.useKeyIds(signal)
    await stream.send([1n, 2n])
    await stream.send([2n ** 64n - 1n])
    await stream.end()
    expect(taken).toEqual([[1n, 2n], [2n ** 64n - 1n]])
    enough = true
    const refused = peer.useKeyIds(signal)
    await refused.send([9n])
    await expect(refused.end()).rejects.toMatchObject({ status: 'notFound', message: 'key 9 is gone' })
  })

  it('show each other the statuses of their drivers, and nothing of what else went wrong', async () => {
    const peer = peerOf(
      await start({
        startDetecting: () => Promise.reject(new PairCallError('aborted', 'Sift: no data')),
        stopDetecting: () => Promise.reject(new Error('secret path /etc/x')),
      }),
    )
    await expect(peer.startDetecting(0n, signal)).rejects.toMatchObject({ status: 'aborted', message: 'Sift: no data' })
    await expect(peer.stopDetecting(0n, signal)).rejects.toMatchObject({
      status: 'internal',
      message: 'internal error',
    })
    await expect(peer.onPhoton({ periodPs: 0n, qubits: new Uint8Array() }, signal)).rejects.toMatchObject({
      status: 'unimplemented',
      message: 'this device has no onPhoton',
    })
  })

  it('are told when no session runs', async () => {
    const { client } = await start(undefined)
    const call = unary(client, IDetector.method.startDetecting, {}, soon())
    await expect(call).rejects.toMatchObject({ code: Status.FAILED_PRECONDITION, details: 'no session runs' })
  })

  it('are not disturbed by a stranger', async () => {
    await start({ startDetecting: () => Promise.reject(new Error('reached the port')) })
    const stranger = await device?.throughTunnel({ host: '203.0.113.9', port: 1 })
    if (stranger === undefined) throw new Error('no device')
    const call = unary(stranger.client, IDetector.method.startDetecting, {}, soon())
    await expect(call).rejects.toMatchObject({ code: Status.PERMISSION_DENIED })
  })

  it('line frames up, choose schemes, amplify, release keys', async () => {
    const heard: unknown[] = []
    const hear = async (...facts: unknown[]): Promise<void> => void heard.push(facts.slice(0, -1))
    const { client } = await start({
      alignmentMarkers: async ({ frameId, count, allBases }) => ({
        markers: new Map([[frameId, Number(count) % 7]]),
        bases: allBases ? new Uint8Array([0, 2, 4]) : new Uint8Array(),
      }),
      discardTransmissions: hear,
      selectCorrectionScheme: hear,
      correctionScheme: async (id) => ({ id, rows: [new Uint8Array([1, 0]), new Uint8Array([0, 1])] }),
      notifyDataParity: hear,
      releaseKeys: hear,
      sendInitialKey: hear,
      amplifyPrivacy: async (frames) => {
        for await (const frame of frames) heard.push(frame)
      },
    })
    const markers = await unary(
      client,
      IAlignment.method.getAlignmentMarkers,
      { frameId: 5n, numOfMarkers: 3n, sendAllBasis: true },
      soon(),
    )
    expect(markers.message).toMatchObject({ markers: { '5': 3 }, basis: [0, 2, 4] })
    await unary(
      client,
      IAlignment.method.discardTransmissions,
      { frameId: 1n, slotIds: [3n], securityParameter: 0.5 },
      soon(),
    )
    await unary(client, IErrorCorrect.method.selectCorrectionScheme, { id: 'ldpc' }, soon())
    const scheme = await unary(client, IErrorCorrect.method.getCorrectionScheme, { id: 'ldpc' }, soon())
    expect(scheme.message.rows.map(({ col }) => col)).toEqual([
      [true, false],
      [false, true],
    ])
    await unary(
      client,
      IErrorCorrect.method.notifyDataParity,
      { parity: new Uint8Array([1]), hash: new Uint8Array([2]) },
      soon(),
    )
    const uuid = '123e4567-e89b-12d3-a456-426614174000'
    await unary(client, ISync.method.releaseKeys, { id: [Buffer.from(uuid)] }, soon())
    await unary(client, ISync.method.sendInitialKey, {}, soon())
    const amplify = clientStream(client, IPrivacyAmplify.method.amplifyPrivacy, soon())
    await amplify.write({ frameId: 1n, leakProbability: 0.25, hashFunction: 'toeplitz' })
    amplify.end()
    await amplify.result
    expect(heard).toEqual([
      [{ frameId: 1n, slotIds: [3n], securityParameter: 0.5 }],
      ['ldpc'],
      [new Uint8Array([1]), new Uint8Array([2])],
      [[uuid]],
      [],
      { frameId: 1n, leakProbability: 0.25, hashFunction: 'toeplitz' },
    ])
  })

  it('read time tags and events for as long as they want to', async () => {
    let ended = 0
    async function* forEver<T>(value: T, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
      try {
        while (!signal.aborted) yield value
      } finally {
        ended += 1
      }
    }
    const { client } = await start({
      readTimeTags: (channels, signal) =>
        forEver(
          channels.map((channel) => ({ channel, timePs: 2n ** 63n + 1n })),
          signal,
        ),
      readEntanglementEvents: (signal) => forEver([1n, 2n], signal),
    })
    const tags = serverStream(client, ITimeTagService.method.readTimeTags, { channels: [4, 7] }, soon())
    for await (const { tags: list } of tags) {
      expect(list).toMatchObject([
        { channel: 4, timePointPs: 2n ** 63n + 1n },
        { channel: 7, timePointPs: 2n ** 63n + 1n },
      ])
      break
    }
    for await (const { timePointPs } of serverStream(
      client,
      IEntaglementEvent.method.readEntaglementEvents,
      {},
      soon(),
    )) {
      expect(timePointPs).toEqual([1n, 2n])
      break
    }
    while (ended < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  })
})

describe('what has no meaning is refused by name:', () => {
  const everything: PairPort = {
    startDetecting: () => Promise.resolve(),
    onPhoton: () => Promise.resolve(),
    verifyBases: () => Promise.resolve([]),
    releaseKeys: () => Promise.resolve(),
    amplifyPrivacy: async (frames) => {
      for await (const _ of frames);
    },
  }
  const call = {
    'a time with too many nanoseconds': (c: Channel) =>
      unary(c.client, IDetector.method.startDetecting, { nanos: 1_000_000_000 }, soon()),
    'a qubit that is none': (c: Channel) =>
      unary(c.client, IPhotonSim.method.onPhoton, { values: { qubits: [0, Number(7)] } }, soon()),
    'a basis that is none': (c: Channel) =>
      unary(c.client, ISift.method.verifyBases, { basis: { '3': { indexedBasis: [{ basis: Number(1) }] } } }, soon()),
    'a list of bases with a gap': (c: Channel) =>
      unary(
        c.client,
        ISift.method.verifyBases,
        { basis: { '3': { indexedBasis: [{ index: 0n }, { index: 2n }] } } },
        soon(),
      ),
    'a crowd of frames': (c: Channel) =>
      unary(
        c.client,
        ISift.method.verifyBases,
        { basis: Object.fromEntries(Array.from({ length: 1_001 }, (_, n) => [String(n), {}])) },
        soon(),
      ),
    'a key id that is no UUID': (c: Channel) =>
      unary(c.client, ISync.method.releaseKeys, { id: [new Uint8Array(35)] }, soon()),
  }
  it.each([
    ['a time with too many nanoseconds', 'nanos: 1000000000'],
    ['a qubit that is none', 'values.qubits[1]: 7'],
    ['a basis that is none', 'basis[3].indexedBasis[0]: 1'],
    ['a list of bases with a gap', 'basis[3].indexedBasis[1].index: 2, expected 1'],
    ['a crowd of frames', 'basis: 1001 frames'],
    ['a key id that is no UUID', 'id[0]: 35 bytes'],
  ] as const)('%s', async (name, text) => {
    const channel = await start(everything)
    const failure: unknown = await call[name](channel).catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(RpcError)
    expect(failure).toMatchObject({ code: Status.INVALID_ARGUMENT })
    expect((failure as RpcError).details).toContain(text)
  })

  it('a probability above one', async () => {
    const { client } = await start(everything)
    const amplify = clientStream(client, IPrivacyAmplify.method.amplifyPrivacy, soon())
    await amplify.write({ leakProbability: 1.5 })
    amplify.end()
    await expect(amplify.result).rejects.toMatchObject({ code: Status.INVALID_ARGUMENT })
  })
})

it('a time survives its way to a timestamp and back', () => {
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 62n), 2n ** 62n), (ns) => {
      const { seconds, nanos } = timestampOf(ns)
      expect(unixNs(seconds, nanos)).toBe(ns)
    }),
  )
})
