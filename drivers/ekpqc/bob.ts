import { withDeadline } from '../../src/base/clock.js'
import { explanationOf } from '../../src/base/errors.js'
import { wipe } from '../../src/base/wipe.js'
import { PairCallError, type PairSession } from '../../src/device/pair-contract.js'
import type { FrameBases } from '../../src/device/pair-contract.js'
import { basesText, countOf } from './lesson.js'
import { basisOnWire, bitsOfReadings, COMPARISON_FRAME, comparisonOnWire, keep, RUN_QUBITS } from './protocol.js'
import { CALL_MS, QUIESCE_MS, type Role, type RoleContext } from './role.js'

/** The last values come a moment after Alice's board is done, ms. */
const VALUES_MS = 1_500

interface Reception {
  /** 0 or 1 each. */
  bases: Uint8Array
  readings: Promise<number[]>
  reset: (reason: string) => void
  threshold: number
}

/** Measures runs in random bases and asks Alice which were hers. */
export function createBob(context: RoleContext, session: PairSession): Role {
  const { clock, random, log, options, keys, emit } = context
  const { peer } = session
  const ended = new AbortController()
  let quiescing = false
  let runId = 0n
  let reception: Reception | undefined
  let sifting: Promise<void> = Promise.resolve()

  async function verify(frame: FrameBases): Promise<Uint8Array> {
    const [answer] = await withDeadline(
      clock,
      CALL_MS,
      'VerifyBases at the peer',
      (signal) => peer.verifyBases([frame], signal),
      ended.signal,
    )
    if (answer?.frameId !== frame.frameId || answer.answers.length !== RUN_QUBITS)
      throw new Error('the answer fits another question')
    return answer.answers
  }

  async function sift(id: bigint, bases: Uint8Array, readings: readonly number[], threshold: number): Promise<void> {
    const answers = await verify({ frameId: id, bases: bases.map(basisOnWire) })
    const bits = bitsOfReadings(readings, threshold)
    context.step(id, 3, `Bob has told his bases, ${basesText(bases)}; ${countOf(answers)} of 16 are Alice's too`)
    const compared = answers.map((answer) => (answer === 1 && random.fraction() < options.compareShare ? 1 : 0))
    const same = await verify({ frameId: id | COMPARISON_FRAME, bases: comparisonOnWire(bits, compared) })
    const errors = compared.reduce((sum, flag, i) => sum + (flag === 1 && same[i] !== 1 ? 1 : 0), 0)
    context.finished({ runId: id, bases, readings, bits, answers, compared, errors })
    keys.add(id, { bits: keep(bits, answers, compared), compared: countOf(compared), errors })
    wipe(bits)
  }

  function dropped(id: bigint, error: unknown): void {
    if (ended.signal.aborted) return
    log.warn({ run: String(id), reason: explanationOf(error) }, 'the run was dropped')
  }

  return {
    services: {
      async startDetecting() {
        if (quiescing) throw new PairCallError('failedPrecondition', 'StartDetecting: the session is ending')
        const port = context.port()
        if (port === undefined) throw new PairCallError('failedPrecondition', 'the board is not there')
        if (reception !== undefined) {
          // The board still waits for the light of a run that never came.
          reception = undefined
          port.reset('a new run begins while the board waits for the one before')
          throw new PairCallError('failedPrecondition', 'the board waits for the run before and is being reset')
        }
        const bases = random.bytes(RUN_QUBITS).map((byte) => byte & 1)
        await port.board.setSequence(bases)
        context.step(runId, 1, 'Bob has drawn 16 bases (+ or x) and given them to his board')
        await new Promise<void>((resolve, reject) => {
          const readings = port.board.receive(resolve)
          readings.catch(reject)
          const threshold = options.threshold ?? port.threshold
          reception = { bases, readings, threshold, reset: (reason) => port.reset(reason) }
        })
        context.step(runId, 2, "Bob's board waits for light and measures 16 pulses (16 s)")
      },
      async stopDetecting() {
        if (reception === undefined)
          throw new PairCallError('failedPrecondition', 'StopDetecting: no run has been started')
        const { bases, readings, threshold, reset } = reception
        reception = undefined
        const id = runId
        runId += 1n
        sifting = sifting.then(async () => {
          let values: number[]
          try {
            values = await withDeadline(clock, VALUES_MS, 'the readings', () => readings, ended.signal)
          } catch (error) {
            dropped(id, error)
            if (!ended.signal.aborted) reset('no readings came of a run')
            return
          }
          emit({ type: 'figure', path: ['TransmitterGroup', 'Qubits Received'], value: RUN_QUBITS, unit: 'count' })
          await sift(id, bases, values, threshold).catch((error: unknown) => dropped(id, error))
        })
      },
    },
    start() {},
    async quiesce() {
      quiescing = true
      await withDeadline(clock, QUIESCE_MS, 'the run under way', () => sifting).catch(() => {})
    },
    end() {
      ended.abort()
      reception?.reset('the session ended while the board waited for light')
      reception = undefined
    },
  }
}
