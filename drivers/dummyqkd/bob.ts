import { type Timer, withDeadline } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import { wipe } from '../../src/base/wipe.js'
import {
  type FrameAnswers,
  isRefusal,
  type KeyOrdering,
  PairCallError,
  type PairSession,
  type Photons,
} from '../../src/device/pair-contract.js'
import { basesOf, measureInRandomBases, packSifted } from './protocol.js'
import { CALL_MS, keysOf, QUIESCE_MS, reportBlock, SILENT_MS, type Role, type RoleContext } from './role.js'

const MOST_QUBITS = 1_000_000
/** Frames that wait while the peer is slow to answer. */
const MOST_WAITING = 16

interface Frame {
  readonly frameId: bigint
  readonly qubits: Uint8Array
}

/** Takes photons in, measures them and asks the sender which bases were right. */
export function createBob(context: RoleContext, session: PairSession): Role {
  const { clock, random, log, options, delivery, emit } = context
  const { peer } = session
  const ended = new AbortController()
  const waiting: Frame[] = []
  let ordering: KeyOrdering | undefined
  let quiescing = false
  let frameId = 0n
  /** The frame being received; its photons once they came. */
  let detecting: { startMs: number; photons: Uint8Array | undefined } | undefined
  let sifting: Promise<void> | undefined
  let silence: Timer | undefined
  let longestFrameMs = 0
  let closing = false

  /** A sender that is gone does not say so: frames simply stay out. */
  function watch(): void {
    silence?.cancel()
    const afterMs = Math.max(SILENT_MS, 2 * longestFrameMs)
    silence = clock.after(afterMs, () => {
      context.silent(`the peer has sent no photons for ${Math.round(afterMs / 1_000)} s`)
    })
  }

  function lose(frame: Frame, reason: 'overflow' | 'invalid', why: string): void {
    log.warn({ frame: String(frame.frameId), reason: why }, 'a frame was dropped')
    emit({ type: 'discarded', reason, count: keysOf(frame.qubits.length, options.keyBytes) })
    wipe(frame.qubits)
  }

  const ask = (frame: Frame): Promise<readonly FrameAnswers[]> =>
    withDeadline(
      clock,
      CALL_MS,
      'VerifyBases at the peer',
      (signal) => peer.verifyBases([{ frameId: frame.frameId, bases: basesOf(frame.qubits) }], signal),
      ended.signal,
    )

  /** The answers, or undefined where the peer refused the frame. */
  async function answersFor(frame: Frame): Promise<Uint8Array | undefined> {
    let answered: readonly FrameAnswers[]
    try {
      answered = await ask(frame)
    } catch (error) {
      if (isRefusal(error)) {
        lose(frame, 'invalid', messageOf(error))
        return undefined
      }
      if (ended.signal.aborted || closing) throw error
      if (ordering === 'byId') {
        lose(frame, 'invalid', `no answer: ${messageOf(error)}`)
        return undefined
      }
      // The peer may have delivered the frame, and then everything after it depends on our having it too.
      log.warn(
        { frame: String(frame.frameId), reason: messageOf(error) },
        'no answer about the bases; asking once more',
      )
      answered = await ask(frame)
    }
    const [only] = answered
    if (answered.length !== 1 || only?.frameId !== frame.frameId || only.answers.length !== frame.qubits.length) {
      throw new Error(`the answer fits another question (${answered.length} frames)`)
    }
    return only.answers
  }

  async function sift(frame: Frame): Promise<void> {
    const answers = await answersFor(frame)
    if (answers === undefined || ended.signal.aborted) return
    const answeredMs = clock.monotonicMs()
    const packed = packSifted([{ qubits: frame.qubits, answers }])
    wipe(frame.qubits)
    const bytes = packed.length
    const packedMs = clock.monotonicMs()
    delivery.deliver(frame.frameId, packed)
    const deliveredMs = clock.monotonicMs()
    reportBlock(context, deliveredMs - packedMs, bytes, deliveredMs - answeredMs)
    context.produced()
  }

  async function siftAll(): Promise<void> {
    for (let frame = waiting.shift(); frame !== undefined; frame = waiting.shift()) {
      try {
        await sift(frame)
      } catch (error) {
        wipe(frame.qubits)
        if (ended.signal.aborted) return
        if (ordering === 'byId') {
          lose(frame, 'invalid', messageOf(error))
          continue
        }
        context.inDoubt(frame.frameId)
        session.fail(
          new GatewayError(
            'E_LINK_MISMATCH',
            `frame ${frame.frameId}: the peer may have delivered its keys, and we could not (${messageOf(error)})`,
            { remedy: "compare both sites' keys before using any that come after", cause: error },
          ),
        )
        return
      }
    }
  }

  function siftOn(): void {
    if (ordering === undefined || sifting !== undefined || waiting.length === 0) return
    sifting = siftAll().finally(() => {
      sifting = undefined
      if (!ended.signal.aborted) siftOn()
    })
  }

  function noFrame(call: string): PairCallError {
    return new PairCallError('failedPrecondition', `${call}: no frame has been started`)
  }

  return {
    services: {
      async startDetecting() {
        if (quiescing) throw new PairCallError('failedPrecondition', 'StartDetecting: the session is ending')
        watch()
        wipe(detecting?.photons)
        detecting = { startMs: clock.monotonicMs(), photons: undefined }
      },
      async onPhoton({ qubits }: Photons) {
        if (detecting === undefined) throw noFrame('OnPhoton')
        if (qubits.length > MOST_QUBITS) {
          throw new PairCallError('resourceExhausted', `values: ${qubits.length} qubits, at most ${MOST_QUBITS}`)
        }
        const wrong = qubits.findIndex((qubit) => qubit > 6)
        if (wrong >= 0) throw new PairCallError('invalidArgument', `values: qubit ${wrong} is none of BB84`)
        wipe(detecting.photons)
        detecting.photons = qubits
      },
      async stopDetecting() {
        if (detecting === undefined) throw noFrame('StopDetecting')
        const { startMs, photons = new Uint8Array(0) } = detecting
        detecting = undefined
        const id = frameId
        frameId += 1n
        const frameMs = clock.monotonicMs() - startMs
        longestFrameMs = Math.max(longestFrameMs, frameMs)
        watch()
        const came = photons.length
        emit({ type: 'figure', path: ['TransmitterGroup', 'Qubits Received'], value: came, unit: 'count', whole: true })
        emit({ type: 'figure', path: ['TransmitterGroup', 'Frame Time'], value: frameMs, unit: 'ms' })
        if (photons.length === 0) return
        const measured =
          options.bases === 'known'
            ? Uint8Array.from(photons)
            : measureInRandomBases(photons, random.bytes(Math.ceil(photons.length / 4)))
        wipe(photons)
        waiting.push({ frameId: id, qubits: measured })
        const oldest = waiting.length > MOST_WAITING ? waiting.shift() : undefined
        if (oldest !== undefined) lose(oldest, 'overflow', 'the peer answers more slowly than frames come')
        siftOn()
      },
    },
    start(next) {
      ordering = next
      watch()
      siftOn()
    },
    async quiesce() {
      quiescing = true
      await withDeadline(clock, QUIESCE_MS, 'the last frame', async () => {
        while (sifting !== undefined) await sifting
      }).catch((error: unknown) => {
        log.warn({ reason: messageOf(error) }, 'the last frame was given up')
      })
    },
    async end() {
      quiescing = true
      closing = true
      silence?.cancel()
      wipe(detecting?.photons)
      detecting = undefined
      for (const { qubits } of waiting.splice(0)) wipe(qubits)
      // By arrival the peer may have given the frame out already: its answer is worth waiting for.
      if (ordering === 'byArrival') await sifting
      ended.abort()
    },
  }
}
