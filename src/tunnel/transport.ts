/** A byte stream to an SSH server: straight, through a proxy, through a jump host, or both. */
import type { Duplex } from 'node:stream'
import type { AnyAuthMethod, Client } from 'ssh2'
import { withDeadline } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import { CarriedStream, type ByteStream } from './carried-stream.js'
import { acceptedKeyTypes, checkHostKey, shownKeyOf, type HostKeyTrust } from './host-key.js'
import type { Identities } from './identities.js'
import { readKnownHosts } from './known-hosts-file.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { connectThroughProxy, parseProxy } from './proxy.js'
import type { ServerAddress } from './server-address.js'
import { connectTcp, resolveHost, systemLookup } from './socket.js'
import { loginWithSsh2, type Ssh2Login } from './ssh2-handshake.js'

export interface Transport {
  readonly stream: ByteStream
  /** IP address of the server, or its name where the last hop resolves it. */
  readonly address: string
  readonly resolved: readonly string[]
}

export type TransportOptions = Pick<
  TunnelOptions,
  'server' | 'jump' | 'proxy' | 'lookup' | 'clock' | 'knownHostsFiles' | 'pinnedFingerprints'
>

/** The first hop, through the proxy where there is one. */
export async function openSocket(
  target: HostPort,
  options: Pick<TransportOptions, 'proxy' | 'lookup' | 'clock'>,
  timings: TunnelTimings,
  signal: AbortSignal,
): Promise<Transport> {
  const { clock } = options
  const proxy = options.proxy === undefined ? undefined : parseProxy(options.proxy)
  const first = proxy ?? target
  const lookup = options.lookup ?? systemLookup
  const resolved = await resolveHost(first.host, lookup, clock, timings.resolveTimeoutMs, signal)
  const stream = await connectTcp(first, resolved, clock, timings.connectTimeoutMs, signal).catch((error: unknown) => {
    if (proxy === undefined || !(error instanceof GatewayError) || error.code !== 'E_CONNECT') throw error
    const remedy = 'check that the proxy runs there and that no firewall is in between'
    throw new GatewayError('E_CONNECT', `the proxy ${error.message}`, { remedy, details: error.details, cause: error })
  })
  if (proxy === undefined) return { stream, address: stream.remoteAddress ?? resolved[0] ?? target.host, resolved }
  await connectThroughProxy(stream, proxy, target, clock, timings.connectTimeoutMs, signal)
  return { stream, address: target.host, resolved: [] }
}

/** What to log in to `server` with; known_hosts is read anew each time. */
export async function ssh2LoginTo(
  server: ServerAddress,
  options: Pick<TransportOptions, 'knownHostsFiles'>,
  pinned: readonly string[],
  identities: Identities,
): Promise<Ssh2Login> {
  const lines = await readKnownHosts(options.knownHostsFiles)
  const trust: HostKeyTrust = { lines, files: options.knownHostsFiles, pinned }
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
    checkHostKey: (blob) => checkHostKey(server, shownKeyOf(blob), trust),
    acceptedTypes: pinned.length > 0 ? [] : acceptedKeyTypes(server, lines),
    methods,
  }
}

function forwardOut(client: Client, target: HostPort): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    client.forwardOut('127.0.0.1', 0, target.host, target.port, (error, channel) => {
      if (error === undefined || error === null) resolve(channel)
      else reject(error)
    })
  })
}

/** Where a jump host let us in and goes no further. */
export function jumpCannotReach(jump: HostPort, server: HostPort, why: string, cause?: unknown): GatewayError {
  return new GatewayError(
    'E_CONNECT',
    `the jump host ${formatHostPort(jump)} cannot reach ${formatHostPort(server)} (${why})`,
    {
      remedy: `check that the jump host permits connections to ${formatHostPort(server)}`,
      details: { host: server.host, port: server.port, step: 'jump' },
      cause,
    },
  )
}

/** The stream to speak SSH with `options.server` over. Rejects with a GatewayError and leaves nothing behind. */
export async function openTransport(
  options: TransportOptions,
  timings: TunnelTimings,
  identities: () => Promise<Identities>,
  signal: AbortSignal,
): Promise<Transport> {
  const { server, jump, clock } = options
  if (jump === undefined) return openSocket(server, options, timings, signal)
  const outer = await openSocket(jump, options, timings, signal)
  const login = await ssh2LoginTo(jump, options, [], await identities())
  const { client } = await loginWithSsh2(outer.stream, login, timings, clock, signal)
  client.on('error', () => outer.stream.destroy())
  try {
    const what = `from the jump host ${formatHostPort(jump)} to ${formatHostPort(server)}`
    const channel = await withDeadline(clock, timings.channelTimeoutMs, what, () => forwardOut(client, server), signal)
    const stream = new CarriedStream({ readable: channel, writable: channel, kill: () => outer.stream.destroy() })
    stream.on('error', () => {})
    outer.stream.once('close', () => stream.destroy())
    return { stream, address: server.host, resolved: [] }
  } catch (error) {
    outer.stream.destroy()
    if (error instanceof GatewayError) throw error
    throw jumpCannotReach(jump, server, messageOf(error), error)
  }
}
