/** Getting the listener: who holds the port when it is refused, and which ways out there are. */
import { createBackoff } from '../base/backoff.js'
import { sleep } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { TunnelLink } from './link.js'
import type { ListenerWay, TunnelOptions, TunnelTimings } from './options.js'
import { isWildcard } from './server-address.js'

/** Who answers at a port that the server would not give us. */
export type PortHolder =
  /** Nothing listens there: the server does not permit it. */
  | 'nobody'
  /** Something accepts and says nothing, as a dead session's listener does. */
  | 'silent'
  /** Another program or gateway answers. */
  | 'stranger'
  /** This process: an earlier session of ours that is still alive. */
  | 'ourselves'
  /** The server does not permit to look. */
  | 'unknown'

export interface ListenerRequest {
  readonly link: TunnelLink
  /** The port that was last granted, if any: asked for first, so that what is registered stays true. */
  readonly previous: HostPort | undefined
  readonly options: Pick<
    TunnelOptions,
    'remoteListen' | 'controlAddress' | 'server' | 'ways' | 'portPool' | 'mayChangePort' | 'probe' | 'clock' | 'random'
  >
  readonly timings: TunnelTimings
  readonly signal: AbortSignal
  /** Told every few seconds why it waits; `isNew` where the reason is another one than before. */
  readonly onWait: (reason: string, remedy: string, isNew: boolean) => void
}

/** Looks at a port from the server's side. */
export async function whoHolds(
  link: TunnelLink,
  target: HostPort,
  probe: TunnelOptions['probe'],
  timeoutMs: number,
  clock: Pick<TunnelOptions['clock'], 'monotonicMs'>,
  signal: AbortSignal,
): Promise<PortHolder> {
  const stream = await link.dial(target, signal).catch((error: unknown) => {
    if (error instanceof GatewayError && error.code === 'E_CONNECT') {
      return error.details['dial'] === 'refused' ? ('nobody' as const) : ('unknown' as const)
    }
    if (signal.aborted) throw error
    // Accepted by nobody and refused by nobody within the deadline.
    return 'silent' as const
  })
  if (typeof stream === 'string') return stream
  const startMs = clock.monotonicMs()
  try {
    const answer = await probe({ target, stream, paddingBytes: 0, timeoutMs, signal })
    if (answer.result !== 'unreachable') return answer.result
    return clock.monotonicMs() - startMs >= timeoutMs * 0.8 ? 'silent' : 'stranger'
  } finally {
    stream.destroy()
  }
}

function explainHolder(holder: PortHolder, bind: HostPort, heldMs: number, releaseMs: number, hadIt: boolean): string {
  const port = `port ${bind.port} on the server`
  const since = `held for ${Math.round(heldMs / 1000)} s so far`
  if (holder === 'stranger') return `${port} is used by another program (something else answers there)`
  if (holder === 'ourselves') return `${port} is held by an earlier session of this process that still lives; ${since}`
  const expected =
    heldMs < releaseMs
      ? `expected to be free within ${Math.ceil((releaseMs - heldMs) / 1000)} s where sshd has ClientAliveInterval`
      : 'longer than a server with ClientAliveInterval would hold it'
  if (holder === 'unknown') {
    return `the server refuses ${port}: held by an earlier session, or not permitted (it does not let us look); ${since}`
  }
  const whose = hadIt ? 'most likely by our own earlier session' : 'most likely by an earlier session of a gateway'
  return `${port} is held, ${whose}, for ${since.replace('held for ', '')}; ${expected}`
}

function remedyFor(holder: PortHolder, bind: HostPort): string {
  if (holder === 'stranger') return 'end that program, or choose another port with --remote-listen'
  if (holder === 'unknown') {
    return `see what qkd-gw tunnel server-config prints: permitlisten for port ${bind.port}, permitopen="127.0.0.1:${bind.port}"`
  }
  return 'set ClientAliveInterval and ClientAliveCountMax on the server (qkd-gw tunnel server-config), or end the old sshd process there'
}

function notPermitted(bind: HostPort, cause: unknown): GatewayError {
  const where = `${isWildcard(bind.host) ? '' : `${bind.host}:`}${bind.port}`
  const privileged = bind.port > 0 && bind.port < 1024 ? '; ports below 1024 are for root only' : ''
  return new GatewayError(
    'E_FORWARD_REFUSED',
    cause === undefined
      ? `the server refuses to listen on ${where} and nothing answers there: it does not permit to listen, or something holds the port on another address${privileged}`
      : `the server does not permit to listen on ${where}${privileged}`,
    {
      remedy: `permit it: permitlisten="${where}" (and port-forwarding) on the key's line in authorized_keys, AllowTcpForwarding in sshd_config`,
      details: { host: bind.host, port: bind.port, kind: 'not-permitted' },
      cause,
    },
  )
}

/** Undefined where the port is held, or where the server does not say why it refuses. */
async function tryListen(link: TunnelLink, bind: HostPort): Promise<HostPort | undefined> {
  try {
    return await link.listen(bind)
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'E_FORWARD_REFUSED') throw error
    if (error.details['kind'] === 'not-permitted') throw notPermitted(bind, error)
    return undefined
  }
}

/** The listener that was registered before this process began, if it is still one that may be asked for. */
export function listenerBefore(
  options: Pick<TunnelOptions, 'lastPort' | 'remoteListen' | 'portPool' | 'ways'>,
): HostPort | undefined {
  const { lastPort, remoteListen, portPool = [], ways = [] } = options
  if (lastPort === undefined) return undefined
  const isAllowed = remoteListen.port === 0 || ways.includes('any-port') || portPool.includes(lastPort)
  return isAllowed || lastPort === remoteListen.port ? { host: remoteListen.host, port: lastPort } : undefined
}

/** Another port than the wanted one, by the ways that are allowed. */
async function otherPort(request: ListenerRequest, way: ListenerWay): Promise<HostPort | undefined> {
  const { link, options } = request
  const { host, port } = options.remoteListen
  const ports = way === 'pool' ? (options.portPool ?? []).filter((one) => one !== port) : [0]
  for (const one of ports) {
    // One that is not permitted is no reason to give up the others.
    const granted = await tryListen(link, { host, port: one }).catch((error: unknown) => {
      if (error instanceof GatewayError && error.code === 'E_FORWARD_REFUSED') return undefined
      throw error
    })
    if (granted !== undefined) return granted
  }
  return undefined
}

/** Rarely: a connection to the listener of a dead session keeps sshd from noticing that the session is dead. */
const LOOK_EVERY_MS = 30_000
const LOOK_TIMEOUT_MS = 1_500
const REPORT_EVERY_MS = 5_000

async function look(request: ListenerRequest, bind: HostPort): Promise<PortHolder> {
  const { link, options, signal } = request
  if (bind.port === 0) return 'nobody'
  const at = (target: HostPort): Promise<PortHolder> =>
    whoHolds(link, target, options.probe, LOOK_TIMEOUT_MS, options.clock, signal)
  const host = isWildcard(bind.host) || bind.host === 'localhost' ? '127.0.0.1' : bind.host
  const holder = await at({ host, port: bind.port })
  if (holder !== 'unknown') return holder
  // The proof needs a permission for the control address; one for loopback is extra. A listener on loopback only is not
  // seen from there, so that nobody answers says nothing.
  const seen = await at(controlAddressOf(options, bind))
  return seen === 'nobody' ? 'unknown' : seen
}

/**
 * Asks for the listener until it is granted. Waits while the port is held; takes another one only by the ways that the
 * options allow and only where `mayChangePort` says so. Rejects with E_FORWARD_REFUSED where the server does not
 * permit it, with what the link rejects with, or E_CANCELLED.
 */
export async function acquireListener(request: ListenerRequest): Promise<HostPort> {
  const { link, options, timings, signal, previous } = request
  let bind: HostPort = { host: options.remoteListen.host, port: previous?.port ?? options.remoteListen.port }
  const mayChange = (): boolean => options.mayChangePort?.() ?? true
  const backoff = createBackoff({ firstMs: timings.listenFirstMs, maxMs: timings.listenMaxMs }, options.random)
  const ways = options.ways ?? ((options.portPool?.length ?? 0) > 0 ? ['wait', 'pool'] : ['wait'])
  const startMs = options.clock.monotonicMs()
  const waitFirst = ways.includes('wait') ? timings.waitBeforeOtherPortMs : 0
  let holder: PortHolder | undefined
  let told: PortHolder | undefined
  let nextLookMs = 0
  let nextReportMs = 0

  const notPermittedAnyMore = (error: unknown): boolean =>
    error instanceof GatewayError &&
    error.details['kind'] === 'not-permitted' &&
    bind.port !== options.remoteListen.port

  for (;;) {
    const granted = await tryListen(link, bind).catch((error: unknown) => {
      if (!notPermittedAnyMore(error) || !mayChange()) throw error
      // A port that the server once chose: back to the one that was asked for.
      bind = options.remoteListen
      return tryListen(link, bind)
    })
    if (granted !== undefined) return granted
    const heldMs = options.clock.monotonicMs() - startMs
    // One quick second try first: after a reset the port is free within milliseconds.
    if (backoff.tries > 0 && heldMs >= nextLookMs) {
      nextLookMs = heldMs + LOOK_EVERY_MS
      holder = await look(request, bind)
      if (holder === 'nobody') {
        // It may have been let go while we looked.
        const late = await tryListen(link, bind)
        if (late !== undefined) return late
        throw notPermitted(bind, undefined)
      }
      nextReportMs = 0
    }
    if (holder !== undefined && heldMs >= nextReportMs) {
      nextReportMs = heldMs + REPORT_EVERY_MS
      const held = explainHolder(holder, bind, heldMs, timings.expectedReleaseMs, previous !== undefined)
      const hasOthers = ways.some((way) => way !== 'wait')
      const reason =
        hasOthers && !mayChange()
          ? `${held}; no other port is taken, since the SiteAgent cannot forget the registered one`
          : held
      // sshd reads authorized_keys for new connections only: what was mended meanwhile shows on a fresh one.
      if (holder === 'unknown' && heldMs > timings.expectedReleaseMs) {
        throw new GatewayError('E_FORWARD_REFUSED', reason, { remedy: remedyFor(holder, bind) })
      }
      request.onWait(reason, remedyFor(holder, bind), holder !== told)
      told = holder
    }
    if (heldMs >= waitFirst && mayChange()) {
      for (const way of ways) {
        const other = way === 'wait' ? undefined : await otherPort(request, way)
        if (other !== undefined) return other
      }
    }
    await sleep(options.clock, backoff.nextMs(), signal)
  }
}

/** Where peers dial: as configured, else the listener's own address, else the server as it was dialled. */
export function controlAddressOf(
  options: Pick<TunnelOptions, 'controlAddress' | 'server' | 'remoteListen'>,
  listener: HostPort,
): HostPort {
  const { controlAddress, remoteListen } = options
  if (controlAddress !== undefined) {
    // A port that had to be changed is changed in what is registered as well.
    const moved = listener.port !== remoteListen.port && controlAddress.port === remoteListen.port
    return { host: controlAddress.host, port: moved || controlAddress.port === 0 ? listener.port : controlAddress.port }
  }
  const host = isWildcard(listener.host) ? options.server.host : listener.host
  return { host, port: listener.port }
}

/** A listener in words. */
export function describeListener(listener: HostPort): string {
  return isWildcard(listener.host) ? `all addresses, port ${listener.port}` : formatHostPort(listener)
}
