import { toBinary, type DescMethod } from '@bufbuild/protobuf'
import { status as Status } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Channel } from '../../src/rpc/channel.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { IReporting } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { ISession } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { Probe } from '../../src/rpc/gen/qkdgw/probe/v1/probe_pb.js'
import type { PairPort } from '../../src/rpc/pair-port.js'
import { PAIR_SERVICES } from '../../src/rpc/services/pair.js'
import { anyMessage } from './support/arbitrary.js'
import { pathOf } from './support/c-core.js'
import { startDevice, type DeviceUnderTest } from './support/device.js'

const answerAll: PairPort = {
  startDetecting: async () => {},
  stopDetecting: async () => {},
  onPhoton: async () => {},
  verifyBases: async (frames) => frames.map(({ frameId, bases }) => ({ frameId, answers: bases })),
  useKeyIds: async (batches) => {
    for await (const _ of batches);
  },
  alignmentMarkers: async () => ({ markers: new Map(), bases: new Uint8Array() }),
  discardTransmissions: async () => {},
  selectCorrectionScheme: async () => {},
  correctionScheme: async (id) => ({ id, rows: [] }),
  notifyDataParity: async () => {},
  amplifyPrivacy: async (frames) => {
    for await (const _ of frames);
  },
  releaseKeys: async () => {},
  sendInitialKey: async () => {},
  readTimeTags: async function* () {},
  readEntanglementEvents: async function* () {},
}

let device: DeviceUnderTest
let channel: Channel
beforeAll(async () => {
  device = await startDevice({}, { pair: () => answerAll })
  device.port.onStream = (stream) => stream.end(0, '')
  channel = await device.channel()
})
afterAll(() => device.close())

const methods: DescMethod[] = [IDevice, ISession, IReporting, Probe, ...PAIR_SERVICES].flatMap(
  (service) => service.methods,
)

/** Ways in which a call may end that does what it should. */
const CLEAR: ReadonlySet<number> = new Set([Status.OK, Status.INVALID_ARGUMENT, Status.RESOURCE_EXHAUSTED])

/** Sends raw bytes as the one request and tells how the call ended. */
function raw(method: DescMethod, bytes: Uint8Array): Promise<{ code: number; details: string }> {
  const asIs = (value: Buffer): Buffer => value
  const streaming = method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming'
  // A stream that would last is ended by its deadline; that is an answer too.
  const options = {
    deadline: Date.now() + (method.name.startsWith('Get') && method.methodKind === 'server_streaming' ? 50 : 5_000),
  }
  return new Promise((resolve) => {
    if (streaming) {
      const call = channel.client.makeClientStreamRequest(pathOf(method), asIs, asIs, options, () => {})
      call.on('status', resolve)
      call.write(Buffer.from(bytes))
      call.end()
      return
    }
    const call = channel.client.makeServerStreamRequest(pathOf(method), asIs, asIs, Buffer.from(bytes), options)
    call.on('error', () => {})
    call.on('status', resolve)
    call.resume()
  })
}

const lasts = (method: DescMethod): boolean => method.name === 'GetLinkStatus' || method.name === 'GetStatistics'

describe.each(methods.map((method) => [pathOf(method), method] as const))('%s', (_path, method) => {
  it('answers every message with a clear status', async () => {
    await fc.assert(
      fc.asyncProperty(anyMessage(method.input), async (message) => {
        const { code, details } = await raw(method, toBinary(method.input, message))
        if (lasts(method) && code === (Status.DEADLINE_EXCEEDED as number)) return
        expect(CLEAR.has(code), `${code} ${details}`).toBe(true)
        if (code === (Status.INVALID_ARGUMENT as number)) expect(details).toMatch(/^[a-zA-Z_.[\]0-9-]+: /)
      }),
      { numRuns: lasts(method) ? 8 : 25 },
    )
  })

  it('answers bytes that are no message with a status, and goes on', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 40 }), async (bytes) => {
        const { code } = await raw(method, bytes)
        if (lasts(method) && code === (Status.DEADLINE_EXCEEDED as number)) return
        expect(CLEAR.has(code) || code === (Status.INTERNAL as number)).toBe(true)
      }),
      { numRuns: 10 },
    )
  })
})

it('is as empty afterwards as it was before', () => {
  expect(device.server.counts()).toMatchObject({ open: 1, requestBytesInFlight: 0 })
})
