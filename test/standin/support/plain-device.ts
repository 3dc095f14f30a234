import { status, Server } from '@grpc/grpc-js'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { addServerStream, addUnary, rpcError } from '../../../src/rpc/bridge.js'
import { IDevice, LinkStatus_State } from '../../../src/rpc/gen/cqp/remote/device_pb.js'
import {
  IReporting,
  type ReportingFilter,
  type SiteAgentReportSchema,
} from '../../../src/rpc/gen/cqp/remote/reporting_pb.js'
import { bind } from '../../../src/standin/wire.js'
import { EventLog } from '../../../src/standin/event-log.js'

export type DeviceCall =
  | { call: 'WaitForSession'; initialKey: Uint8Array }
  | { call: 'WaitForSession ended' }
  | { call: 'GetStatistics'; filter: ReportingFilter }
  | { call: 'GetStatistics ended' }
  | { call: 'RunSession'; peerAddress: string; initialKeyId: bigint }
  | { call: 'EndSession' }

/** A device that writes down what it is called with and sends what it is told to. */
export interface PlainDevice {
  readonly address: string
  readonly calls: EventLog<DeviceCall>
  /** What RunSession answers; 0 for OK. */
  runStatus: status
  /** EndSession waits for this. */
  endSessionAfter: Promise<void>
  /** What EndSession answers; 0 for OK. */
  endStatus: status
  /** True while somebody waits for its keys; what GetLinkStatus tells. */
  readonly running: boolean
  /** Sends one RawKeys message on every open WaitForSession. */
  send(keys: readonly Uint8Array[]): Promise<void>
  /** Sends one report on every open GetStatistics. */
  report(report: MessageInitShape<typeof SiteAgentReportSchema>): Promise<void>
  /** Ends every open WaitForSession. */
  endStreams(code: status): void
  readonly openStreams: number
  close(): void
}

interface Open {
  write(keys: readonly Uint8Array[]): Promise<unknown>
  end(code: status): void
}

export interface PlainDeviceOptions {
  /** As in an address; default 127.0.0.1. */
  readonly host?: string
  /** False: it serves no statistics, GetStatistics is UNIMPLEMENTED. */
  readonly statistics?: boolean
}

export async function startPlainDevice(
  port = 0,
  { host = '127.0.0.1', statistics = true }: PlainDeviceOptions = {},
): Promise<PlainDevice> {
  const server = new Server({ 'grpc.max_send_message_length': -1 })
  const calls = new EventLog<DeviceCall>()
  const open = new Set<Open>()
  addServerStream(server, IDevice.method.waitForSession, async ({ initialKey }, stream) => {
    calls.emit({ call: 'WaitForSession', initialKey })
    const code = await new Promise<status>((resolve) => {
      const entry: Open = {
        write: (keyData) => stream.write({ keyData: [...keyData] }),
        end: (ended) => {
          open.delete(entry)
          resolve(ended)
        },
      }
      open.add(entry)
      stream.signal.addEventListener(
        'abort',
        () => {
          open.delete(entry)
          resolve(status.OK)
        },
        { once: true },
      )
    })
    calls.emit({ call: 'WaitForSession ended' })
    if (code !== status.OK) throw rpcError(code, 'ended by the test')
  })
  const listeners = new Set<PlainDevice['report']>()
  const serveStatistics = (): void =>
    addServerStream(server, IReporting.method.getStatistics, async (filter, stream) => {
      const send: PlainDevice['report'] = async (report) => void (await stream.write(report))
      listeners.add(send)
      calls.emit({ call: 'GetStatistics', filter })
      await new Promise<void>((resolve) => stream.signal.addEventListener('abort', () => resolve(), { once: true }))
      listeners.delete(send)
      calls.emit({ call: 'GetStatistics ended' })
    })
  if (statistics) serveStatistics()
  addUnary(server, IDevice.method.runSession, ({ peerAddress, details }) => {
    calls.emit({ call: 'RunSession', peerAddress, initialKeyId: details?.initialKeyId ?? 0n })
    if (device.runStatus !== status.OK) throw rpcError(device.runStatus, 'refused by the test')
    return {}
  })
  addServerStream(server, IDevice.method.getLinkStatus, async (_request, stream) => {
    await stream.write({ state: device.running ? LinkStatus_State.SessionStarted : LinkStatus_State.Inactive })
  })
  addUnary(server, IDevice.method.endSession, async () => {
    calls.emit({ call: 'EndSession' })
    await device.endSessionAfter
    if (device.endStatus !== status.OK) throw rpcError(device.endStatus, 'refused by the test')
    return {}
  })
  const bound = await bind(server, `${host}:${port}`)
  const device: PlainDevice = {
    address: `${host}:${bound}`,
    calls,
    runStatus: status.OK,
    endSessionAfter: Promise.resolve(),
    endStatus: status.OK,
    get running() {
      return open.size > 0
    },
    get openStreams() {
      return open.size
    },
    async send(keys) {
      for (const entry of open) await entry.write(keys)
    },
    async report(report) {
      for (const send of listeners) await send(report)
    },
    endStreams(code) {
      for (const entry of open) entry.end(code)
    },
    close: () => server.forceShutdown(),
  }
  return device
}

/** Distinct keys of `length` bytes, numbered. */
export function testKeys(count: number, length = 32, first = 0): Uint8Array[] {
  return Array.from({ length: count }, (_, index) => {
    const key = new Uint8Array(length)
    if (length >= 4) new DataView(key.buffer).setUint32(0, first + index + 1)
    return key
  })
}
