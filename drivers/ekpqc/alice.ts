import { createBackoff } from '../../src/base/backoff.js'
import { sleep, withDeadline } from '../../src/base/clock.js'
import { explanationOf, GatewayError, messageOf } from '../../src/base/errors.js'
import { wipe } from '../../src/base/wipe.js'
import {
  type FrameAnswers,
  type FrameBases,
  isRefusal,
  PairCallError,
  type PairSession,
} from '../../src/device/pair-contract.js'
import { basisOnWire, bitOf, COMPARISON_FRAME, comparisonOf, keep, RUN_QUBITS } from './protocol.js'
import { basesText, countOf } from './lesson.js'
import { CALL_MS, PREPARE_MS, QUIESCE_MS, type Role, type RoleContext } from './role.js'

/** A run that nobody asks about is forgotten when so many have followed. */
const KEPT_RUNS = 8
/** Failures in a row before the session is given up. */
const MOST_FAILURES = 10

/** A run whose bases were told and whose bits are still to be compared. */
interface Sifted {
  digits: Uint8Array
  bases: Uint8Array
  bits: Uint8Array
  answers: Uint8Array
}

/** Shows runs of 16 random polarisations and answers Bob's questions about bases. */
export function createAlice(context: RoleContext, session: PairSession): Role {
  const { clock, random, log, keys, emit } = context
  const { peer } = session
  const ended = new AbortController()
  const quiescing = new AbortController()
  const runs = new Map<bigint, Uint8Array>()
  const sifted = new Map<bigint, Sifted>()
  const pause = createBackoff({ firstMs: 500, maxMs: 10_000 }, random)
  let running: Promise<void> = Promise.resolve()

  const call = <T>(what: string, timeoutMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> =>
    withDeadline(clock, timeoutMs, `${what} at the peer`, work, ended.signal)

  async function transmitRun(runId: bigint): Promise<void> {
    const port = context.port()
    if (port === undefined) throw new GatewayError('E_DEVICE_ABSENT', 'the board is not there')
    const digits = random.bytes(RUN_QUBITS).map((byte) => byte & 3)
    await port.board.setSequence(digits)
    context.step(runId, 1, 'Alice has drawn 16 polarisations (H, D, V or A) and given them to her board')
    await call('StartDetecting', PREPARE_MS, (signal) => peer.startDetecting(0n, signal))
    context.step(runId, 2, "Bob's board waits for light; Alice's shows the 16 pulses (16 s)")
    await port.board.transmit()
    if (ended.signal.aborted) return wipe(digits)
    // Bob may ask about the bases before his answer to this call is here.
    runs.set(runId, digits)
    try {
      await call('StopDetecting', CALL_MS, (signal) => peer.stopDetecting(0n, signal))
    } catch (error) {
      runs.delete(runId)
      wipe(digits)
      if (isRefusal(error)) throw error
      throw new GatewayError(
        'E_PEER_UNREACHABLE',
        `run ${runId}: it is unknown whether the peer counted it (${messageOf(error)}), and both sides must count alike`,
        { remedy: 'start the session again', cause: error },
      )
    }
    for (const oldest of runs.keys()) {
      if (runs.size <= KEPT_RUNS) break
      wipe(runs.get(oldest) ?? new Uint8Array())
      runs.delete(oldest)
    }
    for (const [oldest, { digits, bits }] of sifted) {
      if (sifted.size <= KEPT_RUNS) break
      wipe(digits, bits)
      sifted.delete(oldest)
    }
    emit({ type: 'figure', path: ['TransmitterGroup', 'Qubits Transmitted'], value: RUN_QUBITS, unit: 'count' })
  }

  async function transmit(): Promise<void> {
    let runId = 0n
    while (!quiescing.signal.aborted && !ended.signal.aborted) {
      try {
        await transmitRun(runId)
        runId += 1n
        pause.reset()
      } catch (error) {
        if (ended.signal.aborted || quiescing.signal.aborted) return
        const unknown = error instanceof GatewayError && error.code === 'E_PEER_UNREACHABLE'
        if (unknown || pause.tries >= MOST_FAILURES) {
          session.fail(error instanceof Error ? error : new Error(String(error)))
          return
        }
        const delayMs = pause.nextMs()
        log.warn({ run: String(runId), reason: explanationOf(error), delayMs }, 'the run failed; trying again')
        await sleep(clock, delayMs, AbortSignal.any([ended.signal, quiescing.signal])).catch(() => {})
      }
    }
  }

  function tellBases(frameId: bigint, bases: Uint8Array): FrameAnswers {
    if (bases.length !== RUN_QUBITS) {
      throw new PairCallError('invalidArgument', `basis of run ${frameId}: ${bases.length} entries instead of 16`)
    }
    const digits = runs.get(frameId)
    if (digits === undefined) throw new PairCallError('aborted', `run ${frameId} is not here, or was sifted already`)
    runs.delete(frameId)
    const answers = Uint8Array.from(digits, (digit, i) => (basisOnWire(digit) === bases[i] ? 1 : 0))
    sifted.set(frameId, { digits, bases: bases.map((basis) => basis >> 1), bits: digits.map(bitOf), answers })
    context.step(
      frameId,
      3,
      `Bob has told his bases, ${basesText(bases.map((basis) => basis >> 1))}; ${countOf(answers)} of 16 are hers too`,
    )
    return { frameId, answers }
  }

  function compare(frameId: bigint, bases: Uint8Array): FrameAnswers {
    const runId = frameId & ~COMPARISON_FRAME
    const told = comparisonOf(bases)
    if (told === undefined) throw new PairCallError('invalidArgument', `basis of run ${runId}: no comparison of bits`)
    const run = sifted.get(runId)
    if (run === undefined) throw new PairCallError('aborted', `run ${runId} is not sifted, or was compared already`)
    sifted.delete(runId)
    const { digits, bits, answers } = run
    const compared = told.compared.map((flag, i) => flag & (answers[i] ?? 0))
    const same = compared.map((flag, i) => (flag === 1 && told.bits[i] === bits[i] ? 1 : 0))
    const errors = countOf(compared) - countOf(same)
    context.finished({ ...run, runId, sent: digits, compared, errors })
    keys.add(runId, { bits: keep(bits, answers, compared), compared: countOf(compared), errors })
    wipe(digits, bits)
    return { frameId, answers: same }
  }

  async function verifyBases(asked: readonly FrameBases[]): Promise<readonly FrameAnswers[]> {
    return asked.map(({ frameId, bases }) =>
      frameId >= COMPARISON_FRAME ? compare(frameId, bases) : tellBases(frameId, bases),
    )
  }

  return {
    services: { verifyBases },
    start() {
      running = transmit()
    },
    async quiesce() {
      quiescing.abort()
      // A run takes 16 s and cannot be called off: it ends by itself and is not counted.
      await withDeadline(clock, QUIESCE_MS, 'the run under way', () => running).catch(() => {})
    },
    end() {
      ended.abort()
      for (const digits of runs.values()) wipe(digits)
      runs.clear()
      for (const { digits, bits } of sifted.values()) wipe(digits, bits)
      sifted.clear()
    },
  }
}
