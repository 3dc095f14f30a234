/** A device at the other end that does what the test says, call by call, and writes down what it is called with. */
import { Server } from '@grpc/grpc-js'
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf'
import { addUnary, serverStream } from '../../../src/rpc/bridge.js'
import { IDetector, IPhotonSim } from '../../../src/rpc/gen/cqp/remote/detector_pb.js'
import { IDevice } from '../../../src/rpc/gen/cqp/remote/device_pb.js'
import { ISession } from '../../../src/rpc/gen/cqp/remote/session_pb.js'
import { ISift, type BasisBySiftFrame } from '../../../src/rpc/gen/cqp/remote/sift_pb.js'
import { EventLog } from '../../../src/standin/event-log.js'
import { bind } from '../../../src/standin/wire.js'
import { after, clientOf } from './dummy-lab.js'

export type PeerMethod =
  'SessionStarting' | 'SessionEnding' | 'StartDetecting' | 'OnPhoton' | 'StopDetecting' | 'VerifyBases'

export type PeerCall =
  | { method: Exclude<PeerMethod, 'OnPhoton' | 'VerifyBases' | 'SessionStarting'> }
  | { method: 'SessionStarting'; initiatorAddress: string }
  | { method: 'OnPhoton'; periodPs: bigint; qubits: readonly number[] }
  | { method: 'VerifyBases'; basis: BasisBySiftFrame['basis'] }

export interface HandPeer {
  readonly address: string
  readonly calls: EventLog<PeerCall>
  /** Methods that never answer. */
  readonly hangs: Set<PeerMethod>
  /** What VerifyBases answers; default: every basis was right. */
  verify: (basis: BasisBySiftFrame['basis']) => Promise<Record<string, { answers: boolean[] }>>
  /** Dies as a killed process. */
  die(): void
}

export const soon = (): AbortSignal => AbortSignal.timeout(15_000)

export async function startHandPeer(): Promise<HandPeer> {
  const server = new Server({ 'grpc.max_receive_message_length': 8 * 1024 * 1024 })
  const calls = new EventLog<PeerCall>()
  const hangs = new Set<PeerMethod>()
  function serve<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    callOf: (request: MessageShape<I>) => PeerCall,
    answer: (request: MessageShape<I>) => Promise<MessageInitShape<O>>,
  ): void {
    addUnary(server, method, (request) => {
      const call = callOf(request)
      calls.emit(call)
      return hangs.has(call.method) ? new Promise<never>(() => {}) : answer(request)
    })
  }
  const done = async (): Promise<object> => ({})
  serve(
    ISession.method.sessionStarting,
    ({ initiatorAddress }) => ({ method: 'SessionStarting', initiatorAddress }),
    done,
  )
  serve(ISession.method.sessionEnding, () => ({ method: 'SessionEnding' }), done)
  serve(IDetector.method.startDetecting, () => ({ method: 'StartDetecting' }), done)
  serve(IDetector.method.stopDetecting, () => ({ method: 'StopDetecting' }), done)
  serve(
    IPhotonSim.method.onPhoton,
    ({ periodPicoseconds, values }) => ({
      method: 'OnPhoton',
      periodPs: periodPicoseconds,
      qubits: values?.qubits ?? [],
    }),
    done,
  )
  serve(
    ISift.method.verifyBases,
    ({ basis }) => ({ method: 'VerifyBases', basis }),
    async ({ basis }) => ({ answers: await peer.verify(basis) }),
  )
  const port = await bind(server, '127.0.0.1:0')
  const peer: HandPeer = {
    address: `127.0.0.1:${port}`,
    calls,
    hangs,
    verify: async (basis) =>
      Object.fromEntries(
        Object.entries(basis).map(([frame, { indexedBasis }]) => [frame, { answers: indexedBasis.map(() => true) }]),
      ),
    die: () => server.forceShutdown(),
  }
  after(() => peer.die())
  return peer
}

/** The call of one method with this index, once it came. */
export async function nthCall<M extends PeerMethod>(
  peer: HandPeer,
  method: M,
  index: number,
): Promise<Extract<PeerCall, { method: M }>> {
  let seen = -1
  const isIt = (call: PeerCall): call is Extract<PeerCall, { method: M }> => call.method === method && ++seen === index
  const found = await peer.calls.until(isIt, soon())
  if (found.method !== method) throw new Error('another call')
  return found as Extract<PeerCall, { method: M }>
}

export interface KeyReader {
  /** Keys so far as hex, and how many came with each message. */
  readonly keys: string[]
  readonly messages: number[]
  readonly ended: Promise<{ code: number; details: string }>
  untilKeys(count: number): Promise<void>
  hangUp(): void
}

/** WaitForSession as a SiteAgent calls it. */
export function waitForSession(device: { readonly address: string }): KeyReader {
  const stop = new AbortController()
  const call = serverStream(
    clientOf(device),
    IDevice.method.waitForSession,
    {},
    {
      deadlineMs: Infinity,
      signal: stop.signal,
    },
  )
  const keys: string[] = []
  const messages: number[] = []
  const arrivals = new EventLog<number>()
  const read = async (): Promise<void> => {
    for await (const { keyData } of call) {
      messages.push(keyData.length)
      keys.push(...keyData.map((key) => Buffer.from(key).toString('hex')))
      arrivals.emit(keys.length)
    }
  }
  read().catch(() => {})
  after(() => stop.abort())
  return {
    keys,
    messages,
    ended: call.status,
    async untilKeys(count) {
      await arrivals.until((total) => total >= count, soon())
    },
    hangUp: () => stop.abort(),
  }
}
