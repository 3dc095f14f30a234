import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf'
import type { Client, Metadata } from '@grpc/grpc-js'
import { messageOf } from '../base/errors.js'
import { clientStream, RpcError, unary } from './bridge.js'
import { IIDQWrapper } from './gen/cqp/remote/clavis_pb.js'
import { IDetector, IPhotonSim } from './gen/cqp/remote/detector_pb.js'
import { ISift } from './gen/cqp/remote/sift_pb.js'
import type { PairStatusName, WireFrameAnswers, WireFrameBases, WirePhotons } from './pair-port.js'
import { answersOf, statusNameOf, timestampOf } from './pair-wire.js'

export interface PairClientOptions {
  readonly client: Client
  /** Makes the error that the driver knows from a status and its text. */
  readonly failure: (status: PairStatusName, message: string) => Error
  /** A call without an answer ends after this time even if nobody hangs up; default 30 s. */
  readonly deadlineMs?: number
  /** Sent with every call; a gateway at the other end knows its session's peer by it. */
  readonly metadata?: () => Metadata
}

/** Calls to the device at the other site. Each rejects with what `failure` makes. */
export interface PairClient {
  startDetecting(atUnixNs: bigint, signal: AbortSignal): Promise<void>
  stopDetecting(atUnixNs: bigint, signal: AbortSignal): Promise<void>
  onPhoton(photons: WirePhotons, signal: AbortSignal): Promise<void>
  verifyBases(frames: readonly WireFrameBases[], signal: AbortSignal): Promise<readonly WireFrameAnswers[]>
  /** A stream of key numbers; `signal` lasts as long as it is wanted. */
  useKeyIds(signal: AbortSignal): { send(ids: readonly bigint[]): Promise<void>; end(): Promise<void> }
}

export function createPairClient({ client, failure, deadlineMs = 30_000, metadata }: PairClientOptions): PairClient {
  const withMetadata = (): { metadata?: Metadata } => (metadata === undefined ? {} : { metadata: metadata() })
  const translated = (error: unknown): Error =>
    failure(statusNameOf(error), error instanceof RpcError ? error.details : messageOf(error))

  async function call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): Promise<MessageShape<O>> {
    try {
      return (await unary(client, method, request, { deadlineMs, signal, ...withMetadata() })).message
    } catch (error) {
      throw translated(error)
    }
  }

  return {
    async startDetecting(atUnixNs, signal) {
      await call(IDetector.method.startDetecting, timestampOf(atUnixNs), signal)
    },
    async stopDetecting(atUnixNs, signal) {
      await call(IDetector.method.stopDetecting, timestampOf(atUnixNs), signal)
    },
    async onPhoton({ periodPs, qubits }, signal) {
      const request = { periodPicoseconds: periodPs, values: { qubits: Array.from(qubits) } }
      await call(IPhotonSim.method.onPhoton, request, signal)
    },
    async verifyBases(frames, signal) {
      const basis = Object.fromEntries(
        frames.map(({ frameId, bases }) => [
          String(frameId),
          { indexedBasis: Array.from(bases, (value, index) => ({ index: BigInt(index), basis: value })) },
        ]),
      )
      return answersOf(await call(ISift.method.verifyBases, { basis }, signal))
    },
    useKeyIds(signal) {
      const stream = clientStream(client, IIDQWrapper.method.useKeyID, {
        deadlineMs: Infinity,
        signal,
        ...withMetadata(),
      })
      const fail = async (): Promise<never> => {
        const { code, details } = await stream.status
        throw translated(new RpcError(code, details))
      }
      return {
        async send(ids) {
          if ((await stream.write({ keyId: [...ids] })) === 'ended') await fail()
        },
        async end() {
          stream.end()
          await stream.result.catch((error: unknown) => {
            throw translated(error)
          })
        },
      }
    },
  }
}
