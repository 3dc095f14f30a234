/** The two ends of a Dummy link, frame by frame. */
import { status } from '@grpc/grpc-js'
import type * as grpc from '@grpc/grpc-js'
import { sleep, type Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'
import { addUnary } from '../rpc/bridge.js'
import { IDetector, IPhotonSim } from '../rpc/gen/cqp/remote/detector_pb.js'
import { ISift } from '../rpc/gen/cqp/remote/sift_pb.js'
import { RpcError } from '../rpc/rpc-error.js'
import { basisOf, bitOf, packBits } from './dummy-key.js'
import type { DummyFaults } from './dummy-options.js'
import type { DummyStatistics } from './dummy-statistics.js'
import { callUnary } from './wire.js'

export interface RoleContext {
  readonly clock: Clock
  readonly random: Random
  readonly faults: DummyFaults
  readonly statistics: DummyStatistics
  readonly qubitsPerFrame: number
  readonly frameMs: number
  readonly frameWaitMs: number
  /** A sifted block, ready to be cut into keys. Resolves when it was published. */
  readonly onBlock: (block: Uint8Array) => Promise<void>
  readonly onFrame: (frame: bigint, outcome: 'sifted' | 'dropped') => void
}

/** One role; frames are counted anew with each session. */
export interface Role {
  register(server: grpc.Server): void
  begin(peer: grpc.Client, signal: AbortSignal): void
  /** Resolves when the frame under way is done, after the signal aborted. */
  settle(): Promise<void>
}

const periodPicoseconds = 10_000_000n

export class AliceRole implements Role {
  #emissions = new Map<bigint, Uint8Array>()
  #emitted: () => void = () => {}
  #emitting: Promise<void> = Promise.resolve()

  constructor(private readonly context: RoleContext) {}

  register(server: grpc.Server): void {
    addUnary(server, ISift.method.verifyBases, async ({ basis }) => {
      const began = this.context.clock.monotonicMs()
      const answers: Record<string, { answers: boolean[] }> = {}
      const bits: number[] = []
      for (const [frameText, list] of byFrame(basis)) {
        const emission = await this.#take(BigInt(frameText))
        const equal = list.indexedBasis.map((entry, k) => {
          const qubit = emission[k]
          const same = qubit !== undefined && basisOf(qubit) === (entry.basis as number)
          if (same) bits.push(bitOf(qubit))
          return same
        })
        answers[frameText] = { answers: equal }
        this.context.onFrame(BigInt(frameText), 'sifted')
      }
      this.context.statistics.ms('Sifting', 'Comparison Time', this.context.clock.monotonicMs() - began)
      // She delivers before she answers.
      await this.context.onBlock(packBits(bits))
      return { answers }
    })
  }

  begin(peer: grpc.Client, signal: AbortSignal): void {
    this.#emissions = new Map()
    this.#emitting = this.#emit(peer, signal)
  }

  settle(): Promise<void> {
    return this.#emitting
  }

  async #emit(peer: grpc.Client, signal: AbortSignal): Promise<void> {
    const { clock, random, qubitsPerFrame, frameMs, statistics } = this.context
    for (let frame = 0n; !signal.aborted; frame += 1n) {
      const began = clock.monotonicMs()
      const photons = random.bytes(qubitsPerFrame).map((byte) => byte & 3)
      try {
        await callUnary(peer, IDetector.method.startDetecting, {})
        await callUnary(peer, IPhotonSim.method.onPhoton, { periodPicoseconds, values: { qubits: [...photons] } })
      } catch {
        // Nobody detects; the frame is emitted all the same.
      }
      await sleep(clock, frameMs, signal).catch(() => {})
      this.#emissions.set(frame, photons)
      this.#emitted()
      statistics.ms('TransmitterGroup', 'Time Taken', clock.monotonicMs() - began)
      statistics.count('TransmitterGroup', 'Qubits Transmitted', qubitsPerFrame)
      await callUnary(peer, IDetector.method.stopDetecting, {}).catch(() => {})
      statistics.ms('TransmitterGroup', 'Frame Time', clock.monotonicMs() - began)
    }
  }

  /** A frame is there for one question, and waited for half a second. */
  async #take(frame: bigint): Promise<Uint8Array> {
    const { clock, frameWaitMs } = this.context
    const deadline = clock.monotonicMs() + frameWaitMs
    for (;;) {
      const emission = this.#emissions.get(frame)
      this.#emissions.delete(frame)
      if (emission !== undefined) return emission
      const leftMs = deadline - clock.monotonicMs()
      if (leftMs <= 0) throw new RpcError(status.ABORTED, 'Sift: No data available')
      await new Promise<void>((resolve) => {
        const timer = clock.after(leftMs, resolve)
        this.#emitted = () => {
          timer.cancel()
          resolve()
        }
      })
    }
  }
}

export class BobRole implements Role {
  #peer: grpc.Client | undefined
  #nextFrame = 0n
  #photons: readonly number[] = []
  #beganMs = 0
  #turn: Promise<void> = Promise.resolve()

  constructor(private readonly context: RoleContext) {}

  register(server: grpc.Server): void {
    addUnary(server, IDetector.method.startDetecting, () => {
      this.#photons = []
      this.#beganMs = this.context.clock.monotonicMs()
      return {}
    })
    // Of several in a frame the last one counts.
    addUnary(server, IPhotonSim.method.onPhoton, ({ values }) => {
      this.#photons = values?.qubits ?? []
      return {}
    })
    addUnary(server, IDetector.method.stopDetecting, () => {
      const { statistics, clock } = this.context
      statistics.count('TransmitterGroup', 'Qubits Received', this.#photons.length)
      statistics.ms('TransmitterGroup', 'Frame Time', clock.monotonicMs() - this.#beganMs)
      const frame = this.#nextFrame
      const photons = this.#photons
      this.#nextFrame += 1n
      this.#turn = this.#turn.then(() => this.#sift(frame, photons)).catch(() => {})
      return {}
    })
  }

  begin(peer: grpc.Client, _signal: AbortSignal): void {
    this.#peer = peer
    this.#nextFrame = 0n
  }

  /** The last frame is sifted although the session has ended. */
  settle(): Promise<void> {
    return this.#turn
  }

  async #sift(frame: bigint, photons: readonly number[]): Promise<void> {
    const { faults, onBlock, onFrame } = this.context
    if (this.#peer === undefined) return
    if (faults.loseFrames > 0) {
      faults.loseFrames -= 1
      onFrame(frame, 'dropped')
      return
    }
    const indexedBasis = photons.map((qubit, index) => ({ index: BigInt(index), basis: basisOf(qubit) }))
    try {
      const answer = await callUnary(this.#peer, ISift.method.verifyBases, {
        basis: { [String(frame)]: { indexedBasis } },
      })
      const equal = answer.answers[String(frame)]?.answers ?? []
      const bits = photons.filter((_, index) => equal[index] === true).map(bitOf)
      if (faults.corruptFrames > 0 && bits.length > 0) {
        faults.corruptFrames -= 1
        bits[0] = (bits[0] ?? 0) ^ 1
      }
      await onBlock(packBits(bits))
      onFrame(frame, 'sifted')
    } catch {
      // Refused or unreachable: that frame is dropped, the next one goes on.
      onFrame(frame, 'dropped')
    }
  }
}

/** Frames in ascending order; a map on the wire has none. */
function byFrame<T>(frames: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(frames).sort(([a], [b]) => (BigInt(a) < BigInt(b) ? -1 : 1))
}
