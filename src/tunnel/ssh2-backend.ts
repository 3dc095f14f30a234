/** The back end `ssh2`: SSH within this process. Originators known, no post-quantum key exchange, no certificates. */
import type { AnyAuthMethod } from 'ssh2'
import { GatewayError } from '../base/errors.js'
import { isPostQuantum } from './algorithms.js'
import { acceptedKeyTypes, checkHostKey, type HostKeyTrust } from './host-key.js'
import type { Identities } from './identities.js'
import { readKnownHosts } from './known-hosts-file.js'
import type { LinkTaker, TunnelBackend, TunnelLink } from './link.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { formatServerAddress } from './server-address.js'
import { connectTcp, resolveHost, systemLookup } from './socket.js'
import { loginWithSsh2, type Ssh2Login } from './ssh2-handshake.js'
import { Ssh2Link } from './ssh2-link.js'

const DEFAULT_MAX_CONNECTIONS = 512

/** What to log in with, read anew at each attempt where it can change (known_hosts), once where it can't (keys). */
export async function ssh2Login(options: TunnelOptions, identities: Identities): Promise<Ssh2Login> {
  const { server } = options
  const lines = await readKnownHosts(options.knownHostsFiles)
  const trust: HostKeyTrust = {
    lines,
    files: options.knownHostsFiles,
    pinned: options.pinnedFingerprints ?? [],
  }
  const methods: { name: string; method: AnyAuthMethod }[] = identities.keys.map(({ file, key }) => ({
    name: file,
    method: { type: 'publickey', username: server.user, key },
  }))
  if (identities.agent !== undefined) {
    methods.push({ name: 'ssh-agent', method: { type: 'agent', username: server.user, agent: identities.agent } })
  }
  return {
    server,
    user: server.user,
    checkHostKey: (blob) => checkHostKey(server, blob, trust),
    acceptedTypes: trust.pinned.length > 0 ? [] : acceptedKeyTypes(server, lines),
    methods,
  }
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
      const login = await ssh2Login(options, await identities())
      const lookup = options.lookup ?? systemLookup
      const resolved = await resolveHost(server.host, lookup, clock, timings.resolveTimeoutMs, signal)
      const socket = await connectTcp(server, resolved, clock, timings.connectTimeoutMs, signal)
      const address = socket.remoteAddress ?? resolved[0] ?? server.host
      const connection = await loginWithSsh2(socket, login, timings, clock, signal)
      const keyExchange = connection.negotiated.kex
      const postQuantum = isPostQuantum(keyExchange)
      if (options.requirePostQuantum === true && !postQuantum) {
        socket.destroy()
        throw new GatewayError(
          'E_NO_POST_QUANTUM',
          `the tunnel to ${formatServerAddress(server)} has the key exchange ${keyExchange}, which is not post-quantum`,
          {
            remedy: "use the back end openssh+ssh2 with the system's OpenSSH 9 or later, or do without the requirement",
          },
        )
      }
      const limits = { ...timings, maxConnections: options.maxForwardedConnections ?? DEFAULT_MAX_CONNECTIONS }
      return new Ssh2Link(connection, socket, { address, resolved, postQuantum }, taker, limits, clock)
    },
  }
}
