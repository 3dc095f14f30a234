/** The back end `ssh2`: SSH within this process. Originators known, no post-quantum key exchange, no certificates. */
import { GatewayError } from '../base/errors.js'
import { isPostQuantum } from './algorithms.js'
import type { Identities } from './identities.js'
import type { LinkTaker, TunnelBackend, TunnelLink } from './link.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { formatServerAddress, type ServerAddress } from './server-address.js'
import { loginWithSsh2 } from './ssh2-handshake.js'
import { Ssh2Link } from './ssh2-link.js'
import { openTransport, ssh2LoginTo } from './transport.js'

export const DEFAULT_MAX_CONNECTIONS = 512

/** Why a connection with that key exchange is refused where a post-quantum one is required. */
export function noPostQuantum(server: ServerAddress, keyExchange: string): GatewayError {
  return new GatewayError(
    'E_NO_POST_QUANTUM',
    `the tunnel to ${formatServerAddress(server)} has the key exchange ${keyExchange}, which is not post-quantum`,
    {
      remedy: 'use the back end openssh+ssh2 with OpenSSH 9 or later on both sides, or do without the requirement',
      details: { host: server.host, port: server.port, keyExchange },
    },
  )
}

export function createSsh2Backend(
  options: TunnelOptions,
  timings: TunnelTimings,
  identities: () => Promise<Identities>,
): TunnelBackend {
  const { server, clock } = options
  return {
    name: 'ssh2',
    knowsOriginators: true,
    async connect(taker: LinkTaker, signal: AbortSignal): Promise<TunnelLink> {
      const login = await ssh2LoginTo(server, options, options.pinnedFingerprints ?? [], await identities())
      const { stream, address, resolved } = await openTransport(options, timings, identities, signal)
      const connection = await loginWithSsh2(stream, login, timings, clock, signal)
      const keyExchange = connection.negotiated.kex
      const postQuantum = isPostQuantum(keyExchange)
      if (options.requirePostQuantum === true && !postQuantum) {
        stream.destroy()
        throw noPostQuantum(server, keyExchange)
      }
      const limits = { ...timings, maxConnections: options.maxForwardedConnections ?? DEFAULT_MAX_CONNECTIONS }
      return new Ssh2Link(connection, stream, { address, resolved, postQuantum }, taker, limits, clock)
    },
  }
}
