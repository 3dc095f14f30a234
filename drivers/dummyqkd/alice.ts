import { createBackoff } from '../../src/base/backoff.js'
import { sleep, withDeadline } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import { wipe } from '../../src/base/wipe.js'
import {
  type FrameAnswers,
  type FrameBases,
  isRefusal,
  PairCallError,
  type PairSession,
} from '../../src/device/pair-contract.js'
import { createFrameStore } from './frame-store.js'
import { compareBases, packSifted, qubitsFromRandom, type SiftedFrame } from './protocol.js'
import { CALL_MS, keysOf, QUIESCE_MS, reportBlock, type Role, type RoleContext } from './role.js'

const KEPT_FRAMES = 64
const MOST_FRAMES_A_CALL = 64
/** Tries to begin one frame before the session is given up. */
const FRAME_TRIES = 5

/** Sends frames of simulated photons and answers the receiver's questions about bases. */
export function createAlice(context: RoleContext, session: PairSession): Role {
  const { clock, random, log, options, delivery, emit } = context
  const { peer } = session
  const ended = new AbortController()
  const quiescing = new AbortController()
  const frames = createFrameStore(clock, KEPT_FRAMES)
  const pause = createBackoff({ firstMs: 100, maxMs: 1_000 }, random)
  let transmitting: Promise<void> = Promise.resolve()

  const call = <T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    withDeadline(clock, CALL_MS, `${what} at the peer`, work, ended.signal)

  /** Begins a frame and sends its photons, again where that fails: until the frame's end the peer counts nothing. */
  async function begin(qubits: Uint8Array): Promise<void> {
    const periodPs = (BigInt(options.frameMs) * 1_000_000_000n) / BigInt(qubits.length)
    for (;;) {
      try {
        await call('StartDetecting', (signal) => peer.startDetecting(0n, signal))
        await call('OnPhoton', (signal) => peer.onPhoton({ periodPs, qubits }, signal))
        pause.reset()
        return
      } catch (error) {
        if (ended.signal.aborted || quiescing.signal.aborted || pause.tries >= FRAME_TRIES - 1) throw error
        const delayMs = pause.nextMs()
        log.warn({ reason: messageOf(error), delayMs }, 'the frame could not be begun; trying again')
        await sleep(clock, delayMs, ended.signal)
      }
    }
  }

  async function transmitFrame(frameId: bigint): Promise<void> {
    const startMs = clock.monotonicMs()
    const random2 = random.bytes(Math.ceil(options.qubits / 4))
    const qubits = qubitsFromRandom(random2, options.qubits)
    wipe(random2)
    let kept = false
    try {
      await begin(qubits)
      const restMs = Math.max(0, options.frameMs - (clock.monotonicMs() - startMs))
      await sleep(clock, restMs, AbortSignal.any([ended.signal, quiescing.signal])).catch(() => {})
      emit({
        type: 'figure',
        path: ['TransmitterGroup', 'Time Taken'],
        value: clock.monotonicMs() - startMs,
        unit: 'ms',
      })
      const sent = qubits.length
      emit({
        type: 'figure',
        path: ['TransmitterGroup', 'Qubits Transmitted'],
        value: sent,
        unit: 'count',
        whole: true,
      })
      await call('StopDetecting', (signal) => peer.stopDetecting(0n, signal)).catch((error: unknown) => {
        if (isRefusal(error)) throw error
        throw new GatewayError(
          'E_PEER_UNREACHABLE',
          `frame ${frameId}: it is unknown whether the peer counted it (${messageOf(error)}), and both sides must count alike`,
          { remedy: 'start the session again', cause: error },
        )
      })
      const lost = frames.add(frameId, qubits)
      kept = true
      if (lost !== undefined) emit({ type: 'discarded', reason: 'overflow', count: keysOf(lost, options.keyBytes) })
      emit({
        type: 'figure',
        path: ['TransmitterGroup', 'Frame Time'],
        value: clock.monotonicMs() - startMs,
        unit: 'ms',
      })
    } finally {
      if (!kept) wipe(qubits)
    }
  }

  async function transmit(): Promise<void> {
    let frameId = 0n
    let refused = 0
    while (!quiescing.signal.aborted && !ended.signal.aborted) {
      try {
        await transmitFrame(frameId)
        frameId += 1n
        refused = 0
      } catch (error) {
        if (ended.signal.aborted || quiescing.signal.aborted) return
        refused += 1
        if (!isRefusal(error) || refused >= FRAME_TRIES || pause.tries >= FRAME_TRIES - 1) {
          session.fail(error instanceof Error ? error : new Error(String(error)))
          return
        }
        log.warn({ frame: String(frameId), reason: messageOf(error) }, 'the peer refused the frame; sending another')
        await sleep(clock, pause.nextMs(), ended.signal).catch(() => {})
      }
    }
  }

  function check(bases: readonly FrameBases[]): void {
    if (bases.length > MOST_FRAMES_A_CALL) {
      throw new PairCallError(
        'resourceExhausted',
        `basis: ${bases.length} frames, at most ${MOST_FRAMES_A_CALL} a call`,
      )
    }
    if (new Set(bases.map(({ frameId }) => frameId)).size < bases.length) {
      throw new PairCallError('invalidArgument', 'basis: a frame is named twice')
    }
  }

  async function verifyBases(asked: readonly FrameBases[], signal: AbortSignal): Promise<readonly FrameAnswers[]> {
    check(asked)
    const untilMs = clock.monotonicMs() + options.frameWaitMs
    for (const { frameId } of asked) {
      const leftMs = Math.max(0, untilMs - clock.monotonicMs())
      if (!(await frames.until(frameId, leftMs, AbortSignal.any([signal, ended.signal])))) {
        throw new PairCallError('aborted', 'Sift: No data available')
      }
    }
    const startMs = clock.monotonicMs()
    // From here on nothing waits: two calls for one frame cannot both get it.
    for (const { frameId, bases } of asked) {
      const qubits = frames.get(frameId)
      if (qubits === undefined) throw new PairCallError('aborted', 'Sift: No data available')
      if (bases.length > qubits.length) {
        throw new PairCallError(
          'invalidArgument',
          `basis of frame ${frameId}: ${bases.length} entries for a frame of ${qubits.length} qubits`,
        )
      }
    }
    const sifted: SiftedFrame[] = []
    const answers: FrameAnswers[] = []
    for (const { frameId, bases } of asked) {
      const qubits = frames.take(frameId) ?? new Uint8Array(0)
      const frameAnswers = compareBases(qubits, bases)
      sifted.push({ qubits, answers: frameAnswers })
      answers.push({ frameId, answers: frameAnswers })
    }
    const comparedMs = clock.monotonicMs()
    emit({ type: 'figure', path: ['Sifting', 'Comparison Time'], value: comparedMs - startMs, unit: 'count' })
    const packed = packSifted(sifted)
    for (const { qubits } of sifted) wipe(qubits)
    const bytes = packed.length
    const packedMs = clock.monotonicMs()
    // Upstream's Alice, too, gives her keys out before she answers.
    delivery.deliver(asked[0]?.frameId ?? 0n, packed)
    const deliveredMs = clock.monotonicMs()
    reportBlock(context, deliveredMs - packedMs, bytes, deliveredMs - comparedMs)
    context.produced()
    return answers
  }

  return {
    services: { verifyBases },
    start() {
      transmitting = transmit()
    },
    async quiesce() {
      quiescing.abort()
      await withDeadline(clock, QUIESCE_MS, 'the last frame', () => transmitting).catch((error: unknown) => {
        log.warn({ reason: messageOf(error) }, 'the last frame was given up')
      })
    },
    async end() {
      ended.abort()
      frames.clear()
    },
  }
}
