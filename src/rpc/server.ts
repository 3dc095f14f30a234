import { createServer, type Server as NetServer } from 'node:net'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { experimental, Server, ServerCredentials } from '@grpc/grpc-js'
import type { Clock } from '../base/clock.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { Logger } from '../observe/log.js'
import { plainAddress, type AccessPolicy } from './access.js'
import type { HandlerOptions } from './bridge.js'
import {
  createConnections,
  DEFAULT_CONNECTION_BOUNDS,
  type ConnectionBounds,
  type ConnectionCounts,
} from './connections.js'
import type { Originator } from './device-port.js'
import { createGuard, subjectOf } from './guard.js'
import { DEFAULT_HTTP2_BOUNDS, limitHttp2, type Http2Bounds } from './http2-limits.js'
import { createRefusals, type RefusalCounts } from './refusals.js'

/** Largest request; what C++ devices accept between each other. Towards SiteAgents everything stays below 4 MiB. */
export const MAX_REQUEST_BYTES = 8 * 1024 * 1024

export interface DeviceServerOptions {
  readonly policy: AccessPolicy
  readonly clock: Clock
  readonly log: Logger
  /** Present: TLS on every connection, the tunnel's too. */
  readonly credentials?: ServerCredentials
  readonly connectionBounds?: Partial<ConnectionBounds>
  readonly http2Bounds?: Partial<Http2Bounds>
}

export interface DeviceServerCounts extends ConnectionCounts {
  readonly requestBytesInFlight: number
  readonly refusals: RefusalCounts
}

/** The gRPC server of a device: one local port or several, connections of the tunnel, and the access policy before all. */
export interface DeviceServer {
  /**
   * Binds a port (0 takes a free one) and resolves with what was bound. Rejects with E_ADDRESS_IN_USE, or E_CONFIG for
   * an address that this machine does not have or may not bind.
   */
  listen(at: HostPort): Promise<HostPort>
  /** Takes over a connection of the tunnel; `undefined` where its back end hides who it is from. */
  inject(stream: Duplex, originator: HostPort | undefined): void
  /** Lets a part register its services with the `add…` functions of the bridge. */
  addServices(register: (server: Server, options: HandlerOptions) => void): void
  counts(): DeviceServerCounts
  /** Stops listening, lets open calls end for `timeoutMs`, then cuts them. Always resolves. */
  shutdown(timeoutMs: number): Promise<void>
}

export function createDeviceServer(options: DeviceServerOptions): DeviceServer {
  const { policy, clock, log } = options
  const credentials = options.credentials ?? ServerCredentials.createInsecure()
  const server = new Server({
    'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
    // Its books of every connection and stream cost memory and tell nobody anything here.
    'grpc.enable_channelz': 0,
  })
  const limits = limitHttp2(server, { ...DEFAULT_HTTP2_BOUNDS, ...options.http2Bounds }, clock, log)
  const connections = createConnections({ ...DEFAULT_CONNECTION_BOUNDS, ...options.connectionBounds }, clock)
  const refusals = createRefusals(clock, log)
  const listeners = new Set<NetServer>()
  const injectors = new Set<{ destroy(): void }>()
  // Lives as long as the server: credentials that follow files stand still while no server listens to them.
  injectors.add(server.createConnectionInjector(credentials))
  let stopping = false

  const accept = (stream: Duplex, originator: Originator): void => {
    // An error ends in 'close', which is all that matters; without a listener it would end the process.
    stream.on('error', (error) => log.debug({ err: error, originator }, 'a connection failed'))
    if (stopping) {
      stream.destroy()
      return
    }
    const connection = connections.admit(stream, originator, policy.isKnown(originator))
    if (connection === undefined) return
    let trust = (): void => {}
    // One injector a connection: its interceptor is what ties calls to the connection they came on.
    const guard = createGuard({
      policy,
      connection,
      onRefused: (path, from, verdict) => refusals.record(path, from, verdict),
      onAnswered: () => (connection.lastUseMs = clock.monotonicMs()),
      onKnown: () => trust(),
      meter: () => limits.currentMeter(),
    })
    trust = limits.withTraits(
      {
        known: connection.known,
        stream,
        becameKnown(session) {
          const certificate =
            session.socket instanceof TLSSocket && session.socket.authorized
              ? subjectOf(session.socket.getPeerCertificate())
              : undefined
          if (certificate === undefined) return connection.known
          connection.originator = { ...originator, certificate }
          connection.known = policy.isKnown(connection.originator)
          return connection.known
        },
        onStreams: (open) => (connection.openStreams = open),
      },
      () => {
        const injector = server.createConnectionInjector(
          experimental.createServerCredentialsWithInterceptors(credentials, [guard]),
        )
        injectors.add(injector)
        stream.once('close', () => {
          injectors.delete(injector)
          injector.destroy()
        })
        injector.injectConnection(stream)
      },
    )
    // A peer that ended its half of the stream calls no more; some streams stay half open for ever.
    stream.once('end', () => setImmediate(() => stream.destroy()))
  }

  return {
    listen(at) {
      return new Promise((resolve, reject) => {
        const listener = createServer({ noDelay: true }, (socket) => {
          accept(socket, {
            address: plainAddress(socket.remoteAddress ?? 'unknown'),
            port: socket.remotePort ?? 0,
            via: 'local',
          })
        })
        listener.once('error', (error) => reject(listenError(at, error)))
        listener.listen({ host: at.host, port: at.port, exclusive: true }, () => {
          listeners.add(listener)
          listener.removeAllListeners('error')
          listener.on('error', (error) => log.error({ err: error }, 'the local port failed to take a connection'))
          const bound = listener.address()
          const port = typeof bound === 'object' && bound !== null ? bound.port : at.port
          resolve({ host: at.host, port })
        })
      })
    },
    inject(stream, originator) {
      accept(
        stream,
        originator === undefined
          ? { address: 'unknown', port: 0, via: 'hidden' }
          : { address: plainAddress(originator.host), port: originator.port, via: 'tunnel' },
      )
    },
    addServices(register) {
      register(server, {
        onInternalError: (error, path) => log.error({ err: error, method: path }, 'a call failed inside the gateway'),
      })
    },
    counts: () => ({
      ...connections.counts(),
      requestBytesInFlight: limits.bytesInFlight(),
      refusals: refusals.counts(),
    }),
    async shutdown(timeoutMs) {
      stopping = true
      for (const listener of listeners) listener.close()
      listeners.clear()
      await new Promise<void>((resolve) => {
        const timer = clock.after(timeoutMs, resolve)
        server.tryShutdown(() => {
          timer.cancel()
          resolve()
        })
      })
      server.forceShutdown()
      connections.destroyAll()
      for (const injector of injectors) injector.destroy()
      injectors.clear()
    },
  }
}

function listenError(at: HostPort, error: unknown): GatewayError {
  const address = formatHostPort(at)
  if (codeOf(error) === 'EADDRINUSE') {
    return new GatewayError('E_ADDRESS_IN_USE', `${address} is taken by another program`, {
      remedy: `stop that program (ss -ltnp | grep ":${at.port} " names it) or choose another port with --listen`,
      details: { host: at.host, port: at.port },
      cause: error,
    })
  }
  return new GatewayError('E_CONFIG', `cannot listen on ${address}: ${messageOf(error)}`, {
    remedy: 'name an address of this machine with --listen host:port; ports below 1024 need privileges',
    details: { host: at.host, port: at.port },
    cause: error,
  })
}
