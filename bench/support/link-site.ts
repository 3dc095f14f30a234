/**
 * A SiteAgent of the bench, a process: takes keys in as fast as it can read them, counts them and reports its total, as
 * a C++ one does. It keeps none, so that what is measured is the way to it.
 */
import { Server } from '@grpc/grpc-js'
import { systemClock } from '../../src/base/clock.js'
import { addUnary, serverStream, unary } from '../../src/rpc/bridge.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { SiteAgentReport_Units } from '../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { ReportServer } from '../../src/standin/report-server.js'
import { bind, dial } from '../../src/standin/wire.js'
import { serveRequests, sharedUs } from './bench-child.js'

/** A batch as it was taken in. */
export interface TakenBatch {
  readonly atUs: number
  readonly keys: number
}

export type SiteRequest =
  | { readonly do: 'listen' }
  /** Steps 4, 6 and 7: asks the device for keys; with `peer` it has it begin the session as well. */
  | { readonly do: 'wait'; readonly device: string; readonly peer?: string }
  | { readonly do: 'batches' }
  | { readonly do: 'cpu' }

const server = new Server()
const reports = new ReportServer(systemClock)
const batches: TakenBatch[] = []
const stop = new AbortController()
let address = ''
let total = 0n

function takeIn(keys: number): void {
  batches.push({ atUs: sharedUs(), keys })
  total += BigInt(keys)
  const figures = { latest: BigInt(keys), average: 0n, total, min: 0n, max: 0n }
  reports.publish({
    path: ['Key Generation', 'Key Generated'],
    id: 1n,
    unit: SiteAgentReport_Units.Count,
    value: { case: 'asUnsigned', value: figures },
  })
}

async function wait(device: string, peer: string | undefined): Promise<void> {
  const client = dial(device)
  const call = serverStream(
    client,
    IDevice.method.waitForSession,
    { initialKey: new Uint8Array() },
    { deadlineMs: Infinity, signal: stop.signal },
  )
  void (async () => {
    for await (const { keyData } of call) takeIn(keyData.length)
  })().catch(() => {})
  if (peer === undefined) return
  const options = { deadlineMs: 20_000, signal: stop.signal }
  await unary(client, IDevice.method.runSession, { details: {}, peerAddress: peer }, options)
}

serveRequests<SiteRequest>(async (request) => {
  switch (request.do) {
    case 'listen':
      addUnary(server, ISiteAgent.method.getSiteDetails, () => ({ url: address }))
      reports.register(server)
      address = `127.0.0.1:${await bind(server, '127.0.0.1:0')}`
      return address
    case 'wait':
      return wait(request.device, request.peer)
    case 'batches':
      return batches
    case 'cpu':
      return process.cpuUsage()
  }
})
