import * as http2 from 'node:http2'
import type { Duplex } from 'node:stream'
import type { Server } from '@grpc/grpc-js'
import type { Clock } from '../base/clock.js'
import type { Logger } from '../observe/log.js'
import { DEFAULT_ABSENCE_BOUNDS, endWhenAbsent, type AbsenceBounds } from './absent-callers.js'

/** Window of an HTTP/2 stream and connection of a caller that we know, bytes. */
export const WIDE_WINDOW_BYTES = 4 * 1024 * 1024
/** The same of the few strangers that get more than HTTP/2's 65,535: as much as an SSH connection has on the way. */
export const STRANGER_WINDOW_BYTES = 2 * 1024 * 1024

export interface Http2Bounds {
  /** Open streams a connection: of callers that we know, of strangers. */
  readonly streams: { readonly known: number; readonly stranger: number }
  /** Bytes that all requests which have not arrived whole may hold together. */
  readonly bytesInFlight: { readonly known: number; readonly stranger: number }
  /** Bytes of one such request of a stranger. */
  readonly strangerRequestBytes: number
  /**
   * Strangers' connections at a time that have a wide window, first come: where the tunnel hides who calls, the other
   * device is a stranger until its first call. However many come, these windows hold no more than this many times
   * `STRANGER_WINDOW_BYTES`.
   */
  readonly wideStrangers: number
  readonly absence: AbsenceBounds
}

export const DEFAULT_HTTP2_BOUNDS: Http2Bounds = {
  streams: { known: 100, stranger: 16 },
  bytesInFlight: { known: 128 * 1024 * 1024, stranger: 16 * 1024 * 1024 },
  strangerRequestBytes: 1_200_000,
  wideStrangers: 8,
  absence: DEFAULT_ABSENCE_BOUNDS,
}

/** In force while grpc-js takes one connection over. */
export interface ConnectionTraits {
  readonly known: boolean
  /** Asked once the connection stands (after a TLS handshake): has its certificate made it known? */
  readonly becameKnown: (session: http2.ServerHttp2Session) => boolean
  /** Told of the number of open streams whenever it changes. */
  readonly onStreams: (open: number) => void
  /** The connection, whose end gives its share of what strangers may have back. */
  readonly stream: Pick<Duplex, 'once'>
}

/** Counts the bytes of a request that has not arrived whole. */
export interface RequestMeter {
  /** A whole message arrived. */
  readonly release: () => void
}

/** A caller that has its answer and still sends is cut off after this time: no call outlasts its answer. */
const LINGER_MS = 1_000
/** Longest time-out that a timer can hold; grpc-js makes nonsense of longer ones. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1
const TIMEOUT_UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000 }

export interface Http2Limits {
  /**
   * Runs `take`, which hands exactly one connection to grpc-js, with these traits in force. What it returns is called
   * once a call has shown that the connection is of somebody whom we know.
   */
  withTraits(traits: ConnectionTraits, take: () => void): () => void
  /** The meter of the stream whose call grpc-js makes at this moment. */
  currentMeter(): RequestMeter
  /** False where grpc-js has no place for windows and bounds of ours: all works, slower and with its own bounds. */
  readonly active: boolean
  bytesInFlight(): number
}

/** The parts of grpc-js's server that it does not publish. */
interface ServerInternals {
  readonly createHttp2Server: (credentials: unknown) => http2.Http2Server
  readonly commonServerOptions: { settings?: http2.Settings }
}

function internalsOf(server: Server): ServerInternals | undefined {
  const create: unknown = Reflect.get(server, 'createHttp2Server')
  const options: unknown = Reflect.get(server, 'commonServerOptions')
  if (typeof create !== 'function' || typeof options !== 'object' || options === null) return undefined
  return {
    createHttp2Server: (credentials) => create.call(server, credentials) as http2.Http2Server,
    commonServerOptions: options,
  }
}

/**
 * Until its stack is asked for, an error holds the objects of every frame: here the native session, which holds the settings
 * that a stranger never acknowledged, which hold all of the connection and, through the session, the error.
 */
function forgetFrames(error: Error): void {
  void error.stack
}

const noMeter: RequestMeter = { release: () => {} }

/**
 * grpc-js's server ignores the window options (with 64 KiB windows uploads through a tunnel run 40 to 70 times slower)
 * and bounds no request bytes. Both are set where it makes an HTTP/2 server, which it does once a connection here.
 */
export function limitHttp2(server: Server, bounds: Http2Bounds, clock: Pick<Clock, 'after'>, log: Logger): Http2Limits {
  const internals = internalsOf(server)
  const inFlight = { known: 0, stranger: 0 }
  let traits: ConnectionTraits | undefined
  let meter = noMeter
  let wideStrangers = 0
  let trustPresent = (): void => {}

  const measure = (
    stream: http2.ServerHttp2Stream,
    isKnown: () => boolean,
  ): RequestMeter & { readonly start: () => void } => {
    let held = 0
    let heldAs: 'known' | 'stranger' = 'stranger'
    const release = (): void => {
      inFlight[heldAs] -= held
      held = 0
    }
    stream.once('end', release)
    stream.once('close', release)
    stream.once('finish', () => {
      if (stream.readableEnded || stream.destroyed) return
      const timer = clock.after(LINGER_MS, () => stream.close(http2.constants.NGHTTP2_NO_ERROR))
      stream.once('close', () => timer.cancel())
    })
    const start = (): void => {
      stream.on('data', (chunk: Buffer) => {
        const kind = isKnown() ? 'known' : 'stranger'
        const bytes = held + chunk.length
        release()
        heldAs = kind
        held = bytes
        inFlight[kind] += bytes
        if (
          inFlight[kind] > bounds.bytesInFlight[kind] ||
          (kind === 'stranger' && bytes > bounds.strangerRequestBytes)
        ) {
          release()
          stream.close(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM)
        }
      })
    }
    return { release, start }
  }

  /** A share of the wide windows that strangers may have, to be given back; undefined where all are taken. */
  const takeShare = (stream: ConnectionTraits['stream']): (() => void) | undefined => {
    if (wideStrangers >= bounds.wideStrangers) return undefined
    wideStrangers += 1
    let isHeld = true
    const giveBack = (): void => {
      if (isHeld) wideStrangers -= 1
      isHeld = false
    }
    stream.once('close', giveBack)
    return giveBack
  }

  /** Returns what is to be called once the caller is known. */
  const prepare = (
    http2Server: http2.Http2Server,
    { known, becameKnown, onStreams }: ConnectionTraits,
    giveBack: (() => void) | undefined,
  ): (() => void) => {
    let knows = known
    let open = 0
    let present: http2.ServerHttp2Session | undefined
    const trust = (): void => {
      if (knows) return
      knows = true
      giveBack?.()
      if (present === undefined || present.destroyed) return
      // This waits for something to be sent, as the settings are.
      present.setLocalWindowSize(WIDE_WINDOW_BYTES)
      present.settings({ initialWindowSize: WIDE_WINDOW_BYTES, maxConcurrentStreams: bounds.streams.known })
    }
    http2Server.on('session', (session) => {
      present = session
      session.once('error', forgetFrames)
      endWhenAbsent(session, clock, bounds.absence, () => open)
      if (knows) session.setLocalWindowSize(WIDE_WINDOW_BYTES)
      else if (becameKnown(session)) trust()
      else if (giveBack !== undefined) session.setLocalWindowSize(STRANGER_WINDOW_BYTES)
    })
    let started: (() => void) | undefined
    http2Server.prependListener('stream', (stream, headers) => {
      onStreams((open += 1))
      stream.once('close', () => onStreams((open -= 1)))
      if (timeoutMs(headers['grpc-timeout']) > MAX_TIMEOUT_MS) delete headers['grpc-timeout']
      const measured = measure(stream, () => knows)
      meter = measured
      started = measured.start
    })
    // After grpc-js's own listener, which pauses the stream: ours must not set it flowing.
    http2Server.on('stream', () => {
      started?.()
      meter = noMeter
    })
    return trust
  }

  if (internals === undefined) {
    log.warn('this version of grpc-js lets nobody set HTTP/2 windows: uploads through the tunnel will be slow')
  } else {
    const { createHttp2Server, commonServerOptions } = internals
    Reflect.set(server, 'createHttp2Server', (credentials: unknown): http2.Http2Server => {
      const present = traits
      const known = present?.known ?? false
      const share = present === undefined || known ? undefined : takeShare(present.stream)
      commonServerOptions.settings = {
        maxConcurrentStreams: known ? bounds.streams.known : bounds.streams.stranger,
        ...(known ? { initialWindowSize: WIDE_WINDOW_BYTES } : {}),
        ...(share === undefined ? {} : { initialWindowSize: STRANGER_WINDOW_BYTES }),
      }
      const http2Server = createHttp2Server(credentials)
      if (present !== undefined) trustPresent = prepare(http2Server, present, share)
      return http2Server
    })
  }

  return {
    active: internals !== undefined,
    bytesInFlight: () => inFlight.known + inFlight.stranger,
    currentMeter: () => meter,
    withTraits(next, take) {
      traits = next
      trustPresent = () => {}
      try {
        take()
        return trustPresent
      } finally {
        traits = undefined
      }
    },
  }
}

/** The `grpc-timeout` header in ms, rounded down; 0 for what is none or short. */
function timeoutMs(header: string | string[] | undefined): number {
  const [, digits, unit = ''] = /^(\d{1,8})([HMS])$/.exec(typeof header === 'string' ? header : '') ?? []
  return digits === undefined ? 0 : Number(digits) * (TIMEOUT_UNITS_MS[unit] ?? 0)
}
