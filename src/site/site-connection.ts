/** Calls to a SiteAgent: each with a deadline, failures as errors that name the SiteAgent and what it said. */
import { status } from '@grpc/grpc-js'
import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf'
import { GatewayError } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import { serverStream, unary, type ServerStreamCall } from '../rpc/bridge.js'
import type { Channel } from '../rpc/channel.js'
import { RpcError, statusName } from '../rpc/rpc-error.js'

/** A fresh channel to the SiteAgent: from here, with TLS, or through the tunnel, as the gateway composes it. */
export type OpenSiteChannel = () => Promise<Channel>

export interface SiteConnection {
  readonly address: HostPort
  /** One call. Rejects with E_DEADLINE, E_SITE_UNREACHABLE, E_SITE_REFUSED (the `RpcError` is its cause) or E_CANCELLED. */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<MessageShape<O>>
  /** A stream without a deadline; ends when the connection is renewed. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): Promise<ServerStreamCall<O>>
  /** Leaves a connection on which nothing comes back any more; the next call opens another. */
  renew(): void
  close(): Promise<void>
}

/** The gRPC status behind an error of a `SiteConnection`, if the SiteAgent (or the transport) gave one. */
export function statusBehind(error: unknown): status | undefined {
  const cause = error instanceof GatewayError ? error.cause : error
  return cause instanceof RpcError ? cause.code : undefined
}

export function openSiteConnection(address: HostPort, open: OpenSiteChannel): SiteConnection {
  let channel: Promise<Channel> | undefined
  let generation = new AbortController()
  const current = (): Promise<Channel> => (channel ??= open())

  const renew = (): void => {
    const old = channel
    channel = undefined
    generation.abort()
    generation = new AbortController()
    // A channel that could not even be opened has nothing to close.
    old?.then((opened) => opened.close()).catch(() => {})
  }

  return {
    address,
    async call(method, request, timeoutMs, signal) {
      const what = `${method.name} at the SiteAgent ${formatHostPort(address)}`
      const opened = await current()
      try {
        const ended = AbortSignal.any([signal, generation.signal])
        return (await unary(opened.client, method, request, { deadlineMs: timeoutMs, signal: ended })).message
      } catch (error) {
        throw explain(error, what, timeoutMs, opened.lastDialFailure())
      }
    },
    async stream(method, request, signal) {
      const { client } = await current()
      return serverStream(client, method, request, {
        deadlineMs: Infinity,
        signal: AbortSignal.any([signal, generation.signal]),
      })
    },
    renew,
    async close() {
      const old = channel
      channel = undefined
      generation.abort()
      await (await old?.catch(() => undefined))?.close()
    },
  }
}

function explain(error: unknown, what: string, timeoutMs: number, dialFailure: string | undefined): unknown {
  if (!(error instanceof RpcError)) return error
  const said = error.details === '' ? statusName(error.code) : `${statusName(error.code)}: ${error.details}`
  switch (error.code) {
    case status.DEADLINE_EXCEEDED:
      return new GatewayError('E_DEADLINE', `${what}: no answer within ${timeoutMs} ms`, { cause: error })
    case status.CANCELLED:
      return new GatewayError('E_CANCELLED', `${what}: stopped`, { cause: error })
    case status.UNAVAILABLE:
      return new GatewayError('E_SITE_UNREACHABLE', `${what}: ${dialFailure ?? plainReason(error.details)}`, {
        cause: error,
        remedy: 'check that the SiteAgent runs, and that its address and port can be reached from here',
      })
    case status.RESOURCE_EXHAUSTED:
      return tooLarge(error, what) ?? new GatewayError('E_SITE_REFUSED', `${what}: ${said}`, { cause: error })
    default:
      return new GatewayError('E_SITE_REFUSED', `${what}: ${said}`, { cause: error })
  }
}

const socketErrors: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there',
  ECONNRESET: 'the connection was reset',
  ETIMEDOUT: 'no answer to the connection',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the network cannot be reached',
  ENOTFOUND: 'the name is not known',
  EAI_AGAIN: 'the name could not be looked up now',
}

/** What gRPC says of a connection that failed, without what only concerns gRPC. */
export function plainReason(details: string): string {
  const core = /Last error: (?:Error: )?(.+?)\.? Resolution note:/.exec(details)?.[1] ?? details
  const code = /\bE[A-Z_]{3,}\b/.exec(core)?.[0] ?? ''
  const words = socketErrors[code]
  return words === undefined ? core : `${words} (${core})`
}

/** An answer above our own limit, with both sizes: it grows with use, and from one day on nothing would work. */
function tooLarge(error: RpcError, what: string): GatewayError | undefined {
  const sizes = /larger than max \((\d+) vs\.? (\d+)\)/.exec(error.details)
  if (sizes === null) return undefined
  const [, found, limit] = sizes.map(Number)
  if (found === undefined || limit === undefined) return undefined
  return new GatewayError(
    'E_SITE_REFUSED',
    `${what}: the answer has ${found} bytes, more than the ${limit} bytes taken here`,
    {
      cause: error,
      details: { foundBytes: found, limitBytes: limit },
      remedy: 'the SiteAgent lists too many devices: unregister the stale ones, or restart it',
    },
  )
}
