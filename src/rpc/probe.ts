import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { create } from '@bufbuild/protobuf'
import type { ChannelCredentials, Server } from '@grpc/grpc-js'
import type { Clock } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { Random } from '../base/random.js'
import { addUnary, unary, type HandlerOptions } from './bridge.js'
import { openChannel } from './channel.js'
import { invalid } from './checks.js'
import { callFacts } from './guard.js'
import { EchoReplySchema, Probe as ProbeService } from './gen/qkdgw/probe/v1/probe_pb.js'

const NONCE_BYTES = 32
export const MAX_NONCE_BYTES = 64
/** Most padding of one Echo, each way. */
export const MAX_PADDING_BYTES = 1_048_576

export interface ProbeOptions {
  readonly random: Random
  readonly clock: Clock
  /** Version of this gateway. */
  readonly version: string
  /** TLS of our own server as its callers see it, where it has any. */
  readonly credentials?: ChannelCredentials
}

export interface ProbeRequest {
  readonly target: HostPort
  /** Spoken over where it is given, and closed afterwards; a connection of its own otherwise. */
  readonly stream?: Duplex
  /** Bytes of padding each way, to find a path that loses large packets; 0 for the ordinary probe. */
  readonly paddingBytes: number
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/** `originator`: where the call came in from through the tunnel; undefined on the local port or where it is hidden. */
export type ProbeResult =
  | { result: 'ourselves'; roundTripMs: number; originator?: HostPort }
  | { result: 'stranger' | 'unreachable'; reason: string }

/** Recognises this very process at the other end of a call: its secret is made here and never leaves. */
export interface Probe {
  /** Never rejects. What the tunnel asks for as its `ProbeSelf`. */
  readonly probeSelf: (request: ProbeRequest) => Promise<ProbeResult>
  addTo(server: Server, handling: HandlerOptions): void
}

export function createProbe(options: ProbeOptions): Probe {
  const { random, clock, version } = options
  const secret = random.bytes(32)
  const proofOf = (nonce: Uint8Array): Buffer => createHmac('sha256', secret).update(nonce).digest()
  /** Our own nonces under way, and where each came in from: both ends of such a call are this process. */
  const underWay = new Map<string, HostPort | undefined>()
  const nameOf = (nonce: Uint8Array): string => Buffer.from(nonce).toString('hex')

  return {
    addTo(server, handling) {
      addUnary(
        server,
        ProbeService.method.echo,
        ({ nonce, replySize, padding }, context) => {
          if (nonce.length === 0 || nonce.length > MAX_NONCE_BYTES) {
            throw invalid('nonce', `${nonce.length} bytes, expected 1 to ${MAX_NONCE_BYTES}`)
          }
          if (replySize > MAX_PADDING_BYTES)
            throw invalid('reply_size', `${replySize} bytes, at most ${MAX_PADDING_BYTES}`)
          if (padding.length > MAX_PADDING_BYTES) {
            throw invalid('padding', `${padding.length} bytes, at most ${MAX_PADDING_BYTES}`)
          }
          if (underWay.has(nameOf(nonce))) {
            const { address, port, via } = callFacts(context.call).originator
            if (via === 'tunnel') underWay.set(nameOf(nonce), { host: address, port })
          }
          return create(EchoReplySchema, {
            nonce,
            proof: proofOf(nonce),
            padding: new Uint8Array(replySize),
            version,
            wallTimeMs: BigInt(Math.trunc(clock.nowMs())),
          })
        },
        handling,
      )
    },
    probeSelf: async ({ target, stream, paddingBytes, timeoutMs, signal }) => {
      const nonce = random.bytes(NONCE_BYTES)
      const size = Math.min(paddingBytes, MAX_PADDING_BYTES)
      const where = formatHostPort(target)
      const channel = await openChannel({
        address: where,
        what: 'probe target',
        ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
        ...(stream === undefined ? {} : { dial: onceOnly(stream) }),
      })
      const startedMs = clock.monotonicMs()
      underWay.set(nameOf(nonce), undefined)
      try {
        const { message } = await unary(
          channel.client,
          ProbeService.method.echo,
          { nonce, replySize: size, padding: new Uint8Array(size) },
          { deadlineMs: timeoutMs, signal },
        )
        const roundTripMs = clock.monotonicMs() - startedMs
        const expected = proofOf(nonce)
        if (message.proof.length !== expected.length || !timingSafeEqual(message.proof, expected)) {
          return {
            result: 'stranger',
            reason: `${where} leads to another gateway (version ${quoted(message.version)})`,
          }
        }
        if (message.padding.length !== size) {
          return { result: 'unreachable', reason: `${where} sent back ${message.padding.length} of ${size} bytes` }
        }
        const originator = underWay.get(nameOf(nonce))
        return { result: 'ourselves', roundTripMs, ...(originator === undefined ? {} : { originator }) }
      } catch (error) {
        return failed(where, error)
      } finally {
        underWay.delete(nameOf(nonce))
        await channel.close()
        stream?.destroy()
      }
    },
  }
}

/** A stream serves one connection; a second dial would speak into the middle of it. */
function onceOnly(stream: Duplex): () => Promise<Duplex> {
  let used = false
  return () => {
    if (used) return Promise.reject(new Error('the connection ended'))
    used = true
    return Promise.resolve(stream)
  }
}

function failed(where: string, error: unknown): { result: 'stranger' | 'unreachable'; reason: string } {
  const code: unknown = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  // Somebody answered gRPC, but not with an Echo.
  if (code === 12) return { result: 'stranger', reason: `${where} is a gRPC server, but not this gateway` }
  return { result: 'unreachable', reason: `${where}: ${messageOf(error)}` }
}

/** Text of a stranger, fit for one line. */
function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 40))
}
