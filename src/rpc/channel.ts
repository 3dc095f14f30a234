import { isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import { type ChannelCredentials, type ChannelOptions, Client, credentials } from '@grpc/grpc-js'
import { formatHostPort, parseHostPort, type HostPort } from '../base/host-port.js'
import { WIDE_WINDOW_BYTES } from './http2-limits.js'
import { openRelay } from './relay.js'

/** Largest answer taken: a SiteAgent with tens of thousands of devices. A larger one fails with both sizes named. */
export const MAX_ANSWER_BYTES = 16 * 1024 * 1024

export interface ChannelTarget {
  /** As users and peers write it: `host:port`, `dns:…`, `ipv4:…`, `ipv6:[…]:port`, `[…]:port`, `//host:port`. */
  readonly address: string
  /** Names the option or field in errors. */
  readonly what: string
  /** TLS; plain text where absent. */
  readonly credentials?: ChannelCredentials
  /** Opens connections through the tunnel instead of from here. */
  readonly dial?: (target: HostPort, signal: AbortSignal) => Promise<Duplex>
}

/** A client channel to a SiteAgent or a device. Connects at the first call and again whenever it must. */
export interface Channel {
  readonly client: Client
  readonly address: HostPort
  /** Why the last dial through the tunnel failed, where there was one. */
  lastDialFailure(): string | undefined
  close(): Promise<void>
}

/**
 * No keepalive pings: servers of the C core family end a connection after four of them, open calls included. Whether
 * the far end lives shows in calls with a deadline. Throws E_USAGE for an address that is none.
 */
export async function openChannel(target: ChannelTarget): Promise<Channel> {
  const address = parseHostPort(target.address, target.what)
  const { dial } = target
  const relay = dial === undefined ? undefined : await openRelay((signal) => dial(address, signal))
  const options: ChannelOptions = {
    'grpc-node.flow_control_window': WIDE_WINDOW_BYTES,
    'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
    'grpc.max_send_message_length': -1,
    // Channels end with their owner, and a broken one is tried again soon.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.initial_reconnect_backoff_ms': 200,
    'grpc.min_reconnect_backoff_ms': 200,
    'grpc.max_reconnect_backoff_ms': 5_000,
    'grpc.dns_min_time_between_resolutions_ms': 2_000,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_channelz': 0,
    // The name that a certificate is checked against, whatever the bytes travel over.
    'grpc.default_authority': formatHostPort(address),
    ...(relay === undefined ? {} : { 'grpc.ssl_target_name_override': address.host }),
  }
  const client = new Client(
    relay?.target ?? grpcTarget(address),
    target.credentials ?? credentials.createInsecure(),
    options,
  )
  return {
    client,
    address,
    lastDialFailure: () => relay?.lastFailure(),
    async close() {
      client.close()
      await relay?.close()
    },
  }
}

/** The address as grpc-js wants it. */
export function grpcTarget(address: HostPort): string {
  const family = isIP(address.host)
  if (family === 4) return `ipv4:${formatHostPort(address)}`
  if (family === 6) return `ipv6:${formatHostPort(address)}`
  return `dns:///${formatHostPort(address)}`
}
