/** How stand-ins of SiteAgents and devices call: plain channels as the originals open them, no deadline, no keepalive. */
import { setMaxListeners } from 'node:events'
import * as grpc from '@grpc/grpc-js'
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf'
import { unary } from '../rpc/bridge.js'

/** gRPC's own default receive limit, 4 MiB, which a SiteAgent leaves alone. */
export const DEFAULT_RECEIVE_LIMIT_BYTES = 4 * 1024 * 1024

/** What a C-core client lets pile up in transport buffers before the writer stalls. */
const TRANSPORT_BUFFER_BYTES = 6 * 1024 * 1024

/** A signal that never aborts: the originals cancel nothing and wait without a deadline. */
export const never: AbortSignal = new AbortController().signal
// Calls that are never answered wait on it all the same.
setMaxListeners(0, never)

export interface DialOptions {
  readonly maxReceiveBytes?: number
  readonly credentials?: grpc.ChannelCredentials
}

/** A channel of its own to `address`, spelt in any way that gRPC takes. */
export function dial(address: string, options: DialOptions = {}): grpc.Client {
  return new grpc.Client(address, options.credentials ?? grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': options.maxReceiveBytes ?? DEFAULT_RECEIVE_LIMIT_BYTES,
    'grpc.max_send_message_length': -1,
    'grpc-node.flow_control_window': TRANSPORT_BUFFER_BYTES,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    // The originals' channels try again within a second; the default here grows to two minutes.
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 1000,
  })
}

/** Waits until the channel is connected, at most `timeoutMs`; false if it is not by then. */
export function untilConnected(client: grpc.Client, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    client.waitForReady(Date.now() + timeoutMs, (error) => resolve(error === undefined))
  })
}

/** One unary call, by default without a deadline; rejects with an `RpcError`. */
export async function callUnary<I extends DescMessage, O extends DescMessage>(
  client: grpc.Client,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  deadlineMs = Infinity,
): Promise<MessageShape<O>> {
  return (await unary(client, method, request, { deadlineMs, signal: never })).message
}

/** Binds `address` (port 0 for a free one); resolves with the bound port. */
export function bind(server: grpc.Server, address: string, credentials?: grpc.ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials ?? grpc.ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port)
      else reject(error)
    })
  })
}
