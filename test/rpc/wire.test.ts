import { create, type DescMessage, fromBinary, fromJsonString, type MessageShape, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Clavis3FileSchema, DummyFileSchema, HandheldFileSchema } from '../../src/rpc/gen/cqp/config/device_files_pb.js'
import { Side_Type } from '../../src/rpc/gen/cqp/remote/common_pb.js'
import { FakeDetectionSchema, IDetector } from '../../src/rpc/gen/cqp/remote/detector_pb.js'
import {
  type ControlDetails,
  ControlDetailsSchema,
  IDevice,
  LinkStatus_State,
  LinkStatusSchema,
  RawKeysSchema,
} from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { EmptySchema, KeySchema, KeyTransfer } from '../../src/rpc/gen/cqp/remote/key_transfer_pb.js'
import { KeyRequestSchema, SharedKeySchema } from '../../src/rpc/gen/cqp/remote/keys_pb.js'
import { Basis_Type, type BB84_Type } from '../../src/rpc/gen/cqp/remote/qubits_pb.js'
import {
  ReportingFilterSchema,
  SiteAgentReport_Units,
  SiteAgentReportSchema,
} from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { SessionDetailsSchema, SessionDetailsToSchema } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { AnswersByFrameSchema, BasisBySiftFrameSchema } from '../../src/rpc/gen/cqp/remote/sift_pb.js'
import { SiteAgentConfigSchema } from '../../src/rpc/gen/cqp/remote/site_config_pb.js'
import { PhysicalPathSchema, SiteSchema } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { UpstreamControlDetailsSchema } from '../../src/rpc/gen/qkdgw/dialect/v1/control_details_pb.js'

const MAX_UINT64 = 2n ** 64n - 1n

function again<D extends DescMessage>(schema: D, message: MessageShape<D>): MessageShape<D> {
  return fromBinary(schema, toBinary(schema, message))
}

const bob = { id: 'dummyqkd__0__16_bob', side: Side_Type.Bob, kind: 'dummyqkd' }
const alice = { id: 'dummyqkd__0__16_alice', kind: 'dummyqkd' }

/** What this gateway registers: the control address where either numbering looks for it. */
function registration(): ControlDetails {
  return create(ControlDetailsSchema, {
    config: bob,
    bindAddress: '45.55.2.5:9000',
    controlAddress: '45.55.2.5:9000',
    siteAgentAddress: '10.0.0.1:8000',
  })
}

describe('the two numberings of ControlDetails', () => {
  it('read the same control address from one registration', () => {
    const bytes = toBinary(ControlDetailsSchema, registration())
    const fork = fromBinary(ControlDetailsSchema, bytes)
    const upstream = fromBinary(UpstreamControlDetailsSchema, bytes)
    expect(fork.controlAddress).toBe('45.55.2.5:9000')
    expect(fork.siteAgentAddress).toBe('10.0.0.1:8000')
    expect(upstream.controlAddress).toBe('45.55.2.5:9000')
    expect(upstream.config?.id).toBe(bob.id)
    expect(upstream.config?.side).toBe(Side_Type.Bob)
    expect(upstream.siteAgentAddress).toBe('45.55.2.5:9000')
  })

  it('keep what the other one wrote, so that a site gives all of it back', () => {
    const bytes = toBinary(ControlDetailsSchema, registration())
    const upstream = fromBinary(UpstreamControlDetailsSchema, bytes)
    expect(upstream.$unknown?.map((field) => field.no)).toEqual([4])
    expect(Buffer.from(toBinary(UpstreamControlDetailsSchema, upstream))).toEqual(Buffer.from(bytes))
  })

  it('show who wrote a registration by the fields that are present', () => {
    const upstream = toBinary(
      UpstreamControlDetailsSchema,
      create(UpstreamControlDetailsSchema, { config: bob, controlAddress: '127.0.0.1:17012' }),
    )
    const fork = toBinary(
      ControlDetailsSchema,
      create(ControlDetailsSchema, { config: bob, controlAddress: '127.0.0.1:17012' }),
    )
    expect(fromBinary(ControlDetailsSchema, upstream)).toMatchObject({
      bindAddress: '127.0.0.1:17012',
      controlAddress: '',
    })
    expect(fromBinary(UpstreamControlDetailsSchema, fork)).toMatchObject({
      controlAddress: '',
      siteAgentAddress: '127.0.0.1:17012',
    })
  })
})

describe('messages as C++ programs were recorded sending them', () => {
  const recorded = (config: typeof bob | typeof alice, controlAddress: string): Uint8Array =>
    toBinary(UpstreamControlDetailsSchema, create(UpstreamControlDetailsSchema, { config, controlAddress }))

  it('RegisterDevice of either device: 52 B', () => {
    const bytes = recorded(bob, '127.0.0.1:17012')
    expect(bytes.length).toBe(52)
    expect(recorded(alice, '127.0.0.1:17011').length).toBe(52)
    expect(Buffer.from(bytes).toString('latin1')).toBe(
      '\x0a\x21\x0a\x13dummyqkd__0__16_bob\x10\x01\x2a\x08dummyqkd\x12\x0f127.0.0.1:17012',
    )
  })

  it('GetSiteDetails with one device: 71 B', () => {
    const device = fromBinary(ControlDetailsSchema, recorded(alice, '127.0.0.1:17011'))
    expect(toBinary(SiteSchema, create(SiteSchema, { url: '127.0.0.1:17001', devices: [device] })).length).toBe(71)
  })

  it('StartNode from a user (84 B) and from the other site (103 B)', () => {
    const first = { site: '127.0.0.1:17001', deviceId: alice.id }
    const second = { site: '127.0.0.1:17002', deviceId: bob.id }
    const size = (path: MessageShape<typeof PhysicalPathSchema>): number => toBinary(PhysicalPathSchema, path).length
    expect(size(create(PhysicalPathSchema, { hops: [{ first, second }] }))).toBe(84)
    const told = { first: { ...first, deviceAddress: '127.0.0.1:17011' }, second, params: {} }
    expect(size(create(PhysicalPathSchema, { hops: [told] }))).toBe(103)
  })

  it('RunSession with empty details: 19 B', () => {
    const message = create(SessionDetailsToSchema, { details: {}, peerAddress: '127.0.0.1:17011' })
    expect(toBinary(SessionDetailsToSchema, message).length).toBe(19)
  })

  it('GetStatistics for everything: 2 B', () => {
    const bytes = toBinary(ReportingFilterSchema, create(ReportingFilterSchema, { listIsExclude: true }))
    expect([...bytes]).toEqual([0x10, 0x01])
  })

  it('a report with a count: 124 B', () => {
    const n = 100_000n
    const report = create(SiteAgentReportSchema, {
      path: ['TransmitterGroup', 'Qubits Transmitted'],
      id: 6n,
      parameters: { sessionActive: 'true', to: '127.0.0.1:17012' },
      unit: SiteAgentReport_Units.Count,
      updated: { seconds: 1_795_488_664n, nanos: 270_031_410 },
      value: { case: 'asUnsigned', value: { latest: n, average: n, total: n, min: n, max: n } },
    })
    expect(toBinary(SiteAgentReportSchema, report).length).toBe(124)
    expect(again(SiteAgentReportSchema, report)).toEqual(report)
  })

  it('a shared key: 19 B to ask for it, 85 B to get it', () => {
    const request = create(KeyRequestSchema, { siteTo: '127.0.0.1:17001', opt: { case: 'keyId', value: 4n } })
    const url = 'pkcs11:type%3Dsecret-key;object%3D127.0.0.1%253A17002;id%3D0x04'
    const answer = create(SharedKeySchema, { keyId: 4n, keyValue: new Uint8Array(16).fill(7), url })
    expect(toBinary(KeyRequestSchema, request).length).toBe(19)
    expect(toBinary(SharedKeySchema, answer).length).toBe(85)
  })
})

describe('sizes', () => {
  it.each([1, 16, 32, 127])('a key of %i bytes costs its length + 2', (length) => {
    const keyData = Array.from({ length: 781 }, () => new Uint8Array(length).fill(1))
    expect(toBinary(RawKeysSchema, create(RawKeysSchema, { keyData })).length).toBe(781 * (length + 2))
  })

  it('a key of 128 bytes costs one more', () => {
    expect(toBinary(RawKeysSchema, create(RawKeysSchema, { keyData: [new Uint8Array(128)] })).length).toBe(131)
  })

  it('100,000 photons: 100,013 B', () => {
    const qubits = Array.from({ length: 100_000 }, (_, i): BB84_Type => i % 4)
    const message = create(FakeDetectionSchema, { periodPicoseconds: 10_000_000n, values: { qubits } })
    expect(toBinary(FakeDetectionSchema, message).length).toBe(100_013)
  })

  it('100,000 bases: 683 kB; their answers: 100,014 B', () => {
    const indexedBasis = Array.from({ length: 100_000 }, (_, i) => ({
      index: BigInt(i),
      basis: i % 2 === 0 ? Basis_Type.Retiliniear : Basis_Type.Diagonal,
    }))
    const bases = create(BasisBySiftFrameSchema, { basis: { 9: { indexedBasis } } })
    expect(toBinary(BasisBySiftFrameSchema, bases).length).toBe(683_496)
    const answers = create(AnswersByFrameSchema, {
      answers: { 9: { answers: Array.from({ length: 100_000 }, () => true) } },
    })
    expect(toBinary(AnswersByFrameSchema, answers).length).toBe(100_014)
  })
})

describe('round trips', () => {
  it('are exact for any 64-bit number', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, MAX_UINT64), fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), (unsigned, signed) => {
        const details = create(SessionDetailsSchema, { initialKeyId: unsigned, photonsPerBurst: MAX_UINT64 })
        expect(again(SessionDetailsSchema, details)).toEqual(details)
        const status = create(LinkStatusSchema, { state: LinkStatus_State.SessionStarted, errorCode: signed })
        expect(again(LinkStatusSchema, status)).toEqual(status)
      }),
    )
    const edge = create(KeySchema, { seqID: MAX_UINT64 })
    expect(again(KeySchema, edge).seqID).toBe(18_446_744_073_709_551_615n)
  })

  it('keep keys byte for byte and in order', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 })), (keyData) => {
        const keys = again(RawKeysSchema, create(RawKeysSchema, { keyData })).keyData
        expect(keys.map((key) => [...key])).toEqual(keyData.map((key) => [...key]))
      }),
    )
  })

  it('keep fields that this contract does not know', () => {
    const known = toBinary(RawKeysSchema, create(RawKeysSchema, { keyData: [new Uint8Array([1])] }))
    const bytes = Uint8Array.from([...known, 0x9a, 0x06, 0x02, 0x68, 0x69])
    expect([...toBinary(RawKeysSchema, fromBinary(RawKeysSchema, bytes))]).toEqual([...bytes])
  })

  it('give enum values that this contract does not know as numbers', () => {
    expect(fromBinary(LinkStatusSchema, Uint8Array.from([0x08, 0x63])).state).toBe(99)
  })

  it('tell key 0 from no key asked for', () => {
    const asked = create(KeyRequestSchema, { siteTo: 'b', opt: { case: 'keyId', value: 0n } })
    expect(again(KeyRequestSchema, asked).opt).toEqual({ case: 'keyId', value: 0n })
    expect(again(KeyRequestSchema, create(KeyRequestSchema, { siteTo: 'b' })).opt.case).toBeUndefined()
  })
})

describe('names', () => {
  it('of methods and types are those of the wire', () => {
    expect(IDevice.typeName).toBe('cqp.remote.IDevice')
    expect(IDevice.methods.map((method) => `${method.name} ${method.methodKind}`)).toEqual([
      'RunSession unary',
      'WaitForSession server_streaming',
      'EndSession unary',
      'GetLinkStatus server_streaming',
      'GetDetails unary',
    ])
    expect(IDetector.method.startDetecting.output.typeName).toBe('google.protobuf.Empty')
    expect(KeyTransfer.method.onKeyFromCQP.output).toBe(EmptySchema)
    expect(EmptySchema.typeName).toBe('cqp.remote.Empty')
  })

  it('in JSON files are those that the C++ programs read', () => {
    const dummy = fromJsonString(
      DummyFileSchema,
      '{"controlParams":{"config":{"id":"x","side":"Bob","bytesPerKey":16},"controlAddress":"h:1"},"bobAddress":"h:2"}',
    )
    expect(dummy.controlParams?.config?.side).toBe(Side_Type.Bob)
    expect(fromJsonString(Clavis3FileSchema, '{"disableControl":true,"deviceAddress":"h"}').disableControl).toBe(true)
    expect(fromJsonString(HandheldFileSchema, '{"bobaddress":"h:2"}').bobaddress).toBe('h:2')
    const details = fromJsonString(SessionDetailsSchema, '{"repitionRate":5,"initialKeyId":"18446744073709551615"}')
    expect(details).toMatchObject({ repitionRate: 5, initialKeyId: MAX_UINT64 })
  })

  it("in a site's JSON file, with its Base64 key", () => {
    const site = fromJsonString(
      SiteAgentConfigSchema,
      '{"name":"A","listenPort":8000,"fallbackKey":"AQID","keyStoreCache":7,"credentials":{"useTLS":true}}',
    )
    expect([...site.fallbackKey]).toEqual([1, 2, 3])
    expect(site.limitCache).toEqual({ case: 'keyStoreCache', value: 7 })
    expect(site.credentials?.useTLS).toBe(true)
  })
})
