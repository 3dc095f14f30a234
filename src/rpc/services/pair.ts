import {
  create,
  type MessageInitShape,
  type DescMessage,
  type DescMethodUnary,
  type MessageShape,
} from '@bufbuild/protobuf'
import { EmptySchema } from '@bufbuild/protobuf/wkt'
import { status as Status, type Server } from '@grpc/grpc-js'
import { addClientStream, addServerStream, addUnary, rpcError, type HandlerOptions } from '../bridge.js'
import { invalid } from '../checks.js'
import { IAlignment } from '../gen/cqp/remote/alignment_pb.js'
import { IIDQWrapper, ISync } from '../gen/cqp/remote/clavis_pb.js'
import { IDetector, IPhotonSim } from '../gen/cqp/remote/detector_pb.js'
import { IErrorCorrect } from '../gen/cqp/remote/error_correction_pb.js'
import { IPrivacyAmplify } from '../gen/cqp/remote/privacy_pb.js'
import { ISift } from '../gen/cqp/remote/sift_pb.js'
import { IEntaglementEvent, ITimeTagService } from '../gen/cqp/remote/time_tags_pb.js'
import type { PairPort } from '../pair-port.js'
import { asRpcError, basesOf, keyNumbersOf, MAX_IDS, photonsOf, unixNs, uuidsOf } from '../pair-wire.js'

/** The services of this file, for health and reflection. */
export const PAIR_SERVICES = [
  IDetector,
  IPhotonSim,
  ISift,
  IIDQWrapper,
  IAlignment,
  IErrorCorrect,
  IPrivacyAmplify,
  ISync,
  ITimeTagService,
  IEntaglementEvent,
] as const

/** Answers while no session runs, or none whose peer may call. */
export type PairPortSource = () => PairPort | undefined

/** What the device at the other site calls. `port` is asked at each call; undefined is FAILED_PRECONDITION. */
export function addPairServices(server: Server, port: PairPortSource, handling: HandlerOptions): void {
  const done = create(EmptySchema)

  /** One method of the port, or the status that says why there is none. */
  function method<K extends keyof PairPort>(name: K): { port: PairPort; call: NonNullable<PairPort[K]> } {
    const present = port()
    if (present === undefined) throw rpcError(Status.FAILED_PRECONDITION, 'no session runs')
    const call = present[name]
    if (call === undefined) throw rpcError(Status.UNIMPLEMENTED, `this device has no ${name}`)
    return { port: present, call: call.bind(present) as NonNullable<PairPort[K]> }
  }

  function unary<I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodUnary<I, O>,
    serve: (request: MessageShape<I>, signal: AbortSignal) => Promise<MessageInitShape<O>>,
  ): void {
    addUnary(server, descriptor, (request, { signal }) => translated(serve(request, signal)), handling)
  }

  unary(IDetector.method.startDetecting, async ({ seconds, nanos }, signal) => {
    await method('startDetecting').call(unixNs(seconds, nanos), signal)
    return done
  })
  unary(IDetector.method.stopDetecting, async ({ seconds, nanos }, signal) => {
    await method('stopDetecting').call(unixNs(seconds, nanos), signal)
    return done
  })
  unary(IPhotonSim.method.onPhoton, async (request, signal) => {
    await method('onPhoton').call(photonsOf(request), signal)
    return done
  })
  unary(ISift.method.verifyBases, async (request, signal) => {
    const frames = await method('verifyBases').call(basesOf(request), signal)
    return {
      answers: Object.fromEntries(
        frames.map(({ frameId, answers }) => [String(frameId), { answers: Array.from(answers, (same) => same === 1) }]),
      ),
    }
  })
  addClientStream(
    server,
    IIDQWrapper.method.useKeyID,
    async (requests, { signal }) => {
      const batches = mapped(requests, ({ keyId }) => keyNumbersOf(keyId))
      await translated(method('useKeyIds').call(batches, signal))
      return done
    },
    handling,
  )

  unary(IAlignment.method.getAlignmentMarkers, async ({ frameId, numOfMarkers, sendAllBasis }, signal) => {
    const request = { frameId, count: numOfMarkers, allBases: sendAllBasis }
    const { markers, bases } = await method('alignmentMarkers').call(request, signal)
    return {
      markers: Object.fromEntries(Array.from(markers, ([slot, value]) => [String(slot), value])),
      basis: Array.from(bases),
    }
  })
  unary(IAlignment.method.discardTransmissions, async ({ frameId, slotIds, securityParameter }, signal) => {
    await method('discardTransmissions').call({ frameId, slotIds, securityParameter }, signal)
    return done
  })

  unary(IErrorCorrect.method.selectCorrectionScheme, async ({ id }, signal) => {
    await method('selectCorrectionScheme').call(id, signal)
    return done
  })
  unary(IErrorCorrect.method.getCorrectionScheme, async ({ id }, signal) => {
    const scheme = await method('correctionScheme').call(id, signal)
    return { id: scheme.id, rows: scheme.rows.map((row) => ({ col: Array.from(row, (bit) => bit === 1) })) }
  })
  unary(IErrorCorrect.method.notifyDataParity, async ({ parity, hash }, signal) => {
    await method('notifyDataParity').call(Uint8Array.from(parity), Uint8Array.from(hash), signal)
    return done
  })
  addClientStream(
    server,
    IPrivacyAmplify.method.amplifyPrivacy,
    async (requests, { signal }) => {
      const frames = mapped(requests, ({ frameId, leakProbability, hashFunction }) => {
        if (!(leakProbability >= 0 && leakProbability <= 1)) {
          throw invalid('leakProbability', `${leakProbability} is outside 0 to 1`)
        }
        return { frameId, leakProbability, hashFunction }
      })
      await translated(method('amplifyPrivacy').call(frames, signal))
      return done
    },
    handling,
  )

  unary(ISync.method.releaseKeys, async ({ id }, signal) => {
    await method('releaseKeys').call(uuidsOf(id), signal)
    return done
  })
  unary(ISync.method.sendInitialKey, async (_request, signal) => {
    await method('sendInitialKey').call(signal)
    return done
  })

  addServerStream(
    server,
    ITimeTagService.method.readTimeTags,
    async ({ channels }, context) => {
      if (channels.length > MAX_IDS) throw invalid('channels', `${channels.length} entries, at most ${MAX_IDS}`)
      for await (const tags of method('readTimeTags').call(channels, context.signal)) {
        const list = { tags: tags.map(({ channel, timePs }) => ({ channel, timePointPs: timePs })) }
        if ((await context.write(list)) === 'ended') return
      }
    },
    handling,
  )
  addServerStream(
    server,
    IEntaglementEvent.method.readEntaglementEvents,
    async (_request, context) => {
      for await (const times of method('readEntanglementEvents').call(context.signal)) {
        if ((await context.write({ timePointPs: [...times] })) === 'ended') return
      }
    },
    handling,
  )
}

/** A driver's own statuses, as they travel. */
async function translated<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    throw asRpcError(error)
  }
}

async function* mapped<A, B>(source: AsyncIterable<A>, map: (value: A) => B): AsyncGenerator<B, void, undefined> {
  for await (const value of source) yield map(value)
}
