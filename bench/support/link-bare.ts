/**
 * The least that any gateway in this language must do between two SiteAgents, a process: bare gRPC without a link, to
 * measure the skew against. The left one gives a batch to its SiteAgent, and tells the right one when the report comes
 * that it was taken in; the right one then gives its SiteAgent a batch of the same size.
 */
import * as grpc from '@grpc/grpc-js'
import { create, toBinary } from '@bufbuild/protobuf'
import { EmptySchema } from '@bufbuild/protobuf/wkt'
import { IDevice, RawKeysSchema } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { IReporting, ReportingFilterSchema } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { bind, dial } from '../../src/standin/wire.js'
import { serveRequests } from './bench-child.js'

export type BareRequest =
  /** `peer`: the left one, for the right one; reached there whatever address a SiteAgent tells. */
  | { readonly do: 'start'; readonly siteAgent: string; readonly keys: number; readonly peer?: string }
  /** Of the left one: `bursts` batches, each after a pause. */
  | { readonly do: 'bursts'; readonly bursts: number; readonly everyMs: number }

const keyBytes = 32
const asIs = (bytes: Buffer): Buffer => bytes
const method = (path: string, streams: { readonly request: boolean }): grpc.MethodDefinition<Buffer, Buffer> => ({
  path,
  requestStream: streams.request,
  responseStream: true,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
})
const waitForSession = method(`/${IDevice.typeName}/${IDevice.method.waitForSession.name}`, { request: false })
const takenIn = method('/bare/TakenIn', { request: true })
const empty = Buffer.from(toBinary(EmptySchema, create(EmptySchema)))

let batch = Buffer.alloc(0)
let toSite: ((batch: Buffer) => void) | undefined
let toPeer: ((message: Buffer) => void) | undefined

const give = (): void => toSite?.(batch)

function serve(): grpc.Server {
  const server = new grpc.Server()
  server.addService(
    { waitForSession, takenIn },
    {
      waitForSession: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
        toSite = (message) => void call.write(message)
      },
      takenIn: (call: grpc.ServerDuplexStream<Buffer, Buffer>) => {
        toPeer = (message) => void call.write(message)
        call.resume()
      },
    },
  )
  return server
}

function read(call: grpc.ClientReadableStream<Buffer>, onMessage: () => void): void {
  call.on('data', onMessage)
  // The parent kills all parts at once.
  call.on('error', () => {})
}

/** A write makes grpc-js send the head of the call, without which the other side knows of none. */
const hello = Buffer.from([0])

async function start({ siteAgent, keys, peer }: BareRequest & { readonly do: 'start' }): Promise<string> {
  const keyData = Array.from({ length: keys }, () => new Uint8Array(keyBytes).fill(0x5a))
  batch = Buffer.from(toBinary(RawKeysSchema, create(RawKeysSchema, { keyData })))
  const server = serve()
  const port = await bind(server, '127.0.0.1:0')
  if (peer === undefined) {
    const filter = create(ReportingFilterSchema, { filters: [{ fullname: ['Key Generation', 'Key Generated'] }] })
    const request = Buffer.from(toBinary(ReportingFilterSchema, filter))
    const path = `/${IReporting.typeName}/${IReporting.method.getStatistics.name}`
    read(dial(siteAgent).makeServerStreamRequest(path, asIs, asIs, request), () => toPeer?.(empty))
  } else {
    const call = dial(peer).makeBidiStreamRequest(takenIn.path, asIs, asIs)
    read(call, give)
    call.write(hello)
  }
  return `127.0.0.1:${port}`
}

serveRequests<BareRequest>(async (request) => {
  switch (request.do) {
    case 'start':
      return start(request)
    case 'bursts':
      for (let burst = 0; burst < request.bursts; burst += 1) {
        await new Promise((resolve) => setTimeout(resolve, request.everyMs))
        give()
      }
      return undefined
  }
})
