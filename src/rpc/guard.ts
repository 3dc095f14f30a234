import {
  type Metadata,
  type MethodDefinition,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  status as Status,
} from '@grpc/grpc-js'
import type { PeerCertificate } from 'node:tls'
import type { AccessPolicy, AccessVerdict, CallerClass } from './access.js'
import type { HandlerContext } from './bridge.js'
import type { Connection } from './connections.js'
import type { CallContext, Originator } from './device-port.js'
import type { RequestMeter } from './http2-limits.js'

/** What the server knows of a call before its handler sees it. */
export interface CallFacts {
  readonly originator: Originator
  readonly caller: CallerClass
  /** First value of each name, lower-case; binary values as base64. */
  readonly metadata: ReadonlyMap<string, string>
}

/** By the metadata object, which travels with a call from the interceptor to the handler. */
const factsOfCall = new WeakMap<Metadata, CallFacts>()

const nobody: CallFacts = {
  originator: { address: 'unknown', port: 0, via: 'hidden' },
  caller: 'anyone',
  metadata: new Map(),
}

/** Who calls. A call that did not come through the guard is taken for a stranger's. */
export function callFacts(call: { readonly metadata: Metadata }): CallFacts {
  return factsOfCall.get(call.metadata) ?? nobody
}

/** What a handler passes on to a port. */
export function callContext(context: HandlerContext<{ readonly metadata: Metadata }>): CallContext {
  const { originator, metadata } = callFacts(context.call)
  return {
    originator,
    metadata,
    signal: context.signal,
    setTrailer: (name, value) => context.trailers.set(name, value),
  }
}

/** Name on a certificate: its common name, else its first DNS name. */
export function subjectOf(certificate: PeerCertificate | undefined): string | undefined {
  const commonName: unknown = certificate?.subject?.CN
  const first: unknown = Array.isArray(commonName) ? commonName[0] : commonName
  if (typeof first === 'string' && first !== '') return first
  return /(?:^|, )DNS:([^,]+)/.exec(certificate?.subjectaltname ?? '')?.[1]
}

export interface GuardOptions {
  readonly policy: AccessPolicy
  readonly connection: Connection
  readonly onRefused: (methodPath: string, originator: Originator, verdict: AccessVerdict & { allowed: false }) => void
  readonly onAnswered: () => void
  /** A call has shown that the connection is of somebody who may do more than anyone. */
  readonly onKnown: () => void
  readonly meter: () => RequestMeter
}

/** Stands before every method of one connection: refuses before a request is read, and tells handlers who calls. */
export function createGuard(options: GuardOptions): ServerInterceptor {
  return (method, call) => new GuardedCall(method, call, options, options.meter())
}

type Listener = Parameters<ServerInterceptingCallInterface['start']>[0]

/** Passes everything straight on but what the guard decides; grpc-js's own class would queue each message. */
class GuardedCall extends ServerInterceptingCall {
  constructor(
    private readonly method: Pick<MethodDefinition<unknown, unknown>, 'path'>,
    private readonly next: ServerInterceptingCallInterface,
    private readonly options: GuardOptions,
    private readonly meter: RequestMeter,
  ) {
    super(next)
  }

  override start(listener: Listener): void {
    this.next.start({
      onReceiveMetadata: (metadata) => {
        if (this.admit(metadata)) listener.onReceiveMetadata(metadata)
      },
      onReceiveMessage: (message) => {
        this.meter.release()
        listener.onReceiveMessage(message)
      },
      onReceiveHalfClose: () => listener.onReceiveHalfClose(),
      onCancel: () => listener.onCancel(),
    })
  }

  private admit(metadata: Metadata): boolean {
    const { connection, policy, onRefused, onKnown } = this.options
    const certificate = subjectOf(this.next.getAuthContext().sslPeerCertificate)
    if (certificate !== undefined && connection.originator.certificate === undefined) {
      connection.originator = { ...connection.originator, certificate }
    }
    const { originator } = connection
    const plain = plainMetadata(metadata)
    const verdict = policy.decide(this.method.path, originator, plain)
    if (verdict.allowed) {
      if (verdict.caller !== 'anyone' && !connection.known) {
        connection.known = true
        onKnown()
      }
      factsOfCall.set(metadata, { originator, caller: verdict.caller, metadata: plain })
      return true
    }
    onRefused(this.method.path, originator, verdict)
    this.sendStatus({ code: Status.PERMISSION_DENIED, details: verdict.reason })
    return false
  }

  override sendStatus(status: Parameters<ServerInterceptingCallInterface['sendStatus']>[0]): void {
    this.options.onAnswered()
    this.next.sendStatus(status)
  }

  override sendMetadata(metadata: Metadata): void {
    this.next.sendMetadata(metadata)
  }

  override sendMessage(message: unknown, callback: () => void): void {
    this.next.sendMessage(message, callback)
  }

  override getPeer(): string {
    const { address, port } = this.options.connection.originator
    return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
  }
}

function plainMetadata(metadata: Metadata): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(metadata.getMap()).map(([name, value]) => [
      name,
      typeof value === 'string' ? value : value.toString('base64'),
    ]),
  )
}
