import { type Clock, sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import type { DeviceEvent } from '../../src/device/contract.js'
import { Dialogue, lineReader } from '../../src/device/dialogue.js'
import type { Conversation, SessionHandle } from '../../src/device/serial-session.js'
import type { Tdc1Options } from './options.js'
import {
  ABORT,
  ASK_COUNTS,
  ASK_IDENTITY,
  COUNT_NAMES,
  countingSettings,
  FLUSH,
  IDENTITY,
  NOTHING,
  parseCounts,
  RESET,
  startTagging,
  type Status,
  STOP_TAGGING,
} from './protocol.js'
import { TagStream } from './tagging.js'

/** What outlives one opening of the port. */
export interface Tdc1Shared {
  readonly options: Tdc1Options
  readonly clock: Clock
  emit(event: DeviceEvent): void
  /** Whether tags are wanted now. */
  tagging: boolean
  /** Monotonic ms at which the first run of tagging began. */
  startedMs: number | undefined
  /** Time of the last tag of all. */
  lastPs: bigint
  readonly counters: {
    runs: number
    events: number
    dummies: number
    wraps: number
    outOfOrder: number
    invalid: number
    slips: number
    overflows: number
    checks: number
    flushes: number
    statusMissing: number
  }
  roundTripMs: number
}

const WRITE_MS = 2_000
/** The unit begins to answer within 10 ms, but after a stop it may still have records to send. */
const ANSWER_MS = 1_000
const QUIET_MS = 50
const LONGEST_DRAIN_MS = 3_000
/** The maker's own pause behind a setting. */
const SETTING_PAUSE_MS = 100
const IDENTITY_TRIES = 3
const FIGURES_EVERY_MS = 1_000
/** Pauses between two looks for overflow that nothing confirmed: doubled each time. */
const FIRST_CHECK_PAUSE_MS = 10_000
const LONGEST_CHECK_PAUSE_MS = 3_600_000
const NOT_WANTED_LOOK_MS = 200
const PS_PER_MS = 1_000_000_000n

/** One opening of the port: identifies the unit, then tags or counts until it ends. */
export class Tdc1Conversation implements Conversation {
  readonly #dialogue: Dialogue
  #stream: TagStream | undefined
  #told = { events: 0, dummies: 0, wraps: 0, outOfOrder: 0, invalid: 0, slips: 0 }
  #lastDataMs = 0
  /** Why the present run is to be ended and another begun. */
  #restart: string | undefined
  #onStatus: ((status: Status) => void) | undefined
  #checkPauseMs = FIRST_CHECK_PAUSE_MS
  /** Set once the driver is to leave: the present run is the last. */
  #leaving: { done: Promise<void>; tell: () => void } | undefined
  #wake = new AbortController()

  constructor(
    private readonly handle: SessionHandle,
    private readonly shared: Tdc1Shared,
  ) {
    this.#dialogue = new Dialogue(handle.transport, shared.clock)
  }

  onData(chunk: Uint8Array): void {
    const stream = this.#stream
    if (stream === undefined) return this.#dialogue.onData(chunk)
    this.#lastDataMs = this.shared.clock.monotonicMs()
    const before = stream.tally.records
    stream.push(chunk)
    if (stream.tally.records > before) this.handle.alive()
    const status = stream.takeStatus()
    this.#count(stream)
    if (status !== undefined) this.#onStatus?.(status)
  }

  end(): void {
    this.#dialogue.end()
    const stream = this.#stream
    if (stream === undefined) return
    stream.end()
    this.#count(stream)
    this.#stream = undefined
  }

  async askAgain(): Promise<void> {
    this.#restart = 'the unit was silent'
  }

  async reset(signal: AbortSignal): Promise<void> {
    await this.#write(RESET, signal)
    this.#restart = 'the unit was reset'
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#identify(signal)
    const { mode } = this.shared.options
    if (mode === 'timestamp') await this.#tag(signal)
    else await this.#countGates(mode, signal)
  }

  /** Ends tagging before the port is closed, so that the unit does not go on into the void. */
  async leave(): Promise<void> {
    if (this.#stream === undefined) return
    let tell = (): void => {}
    const done = new Promise<void>((resolve) => (tell = resolve))
    this.#leaving ??= { done, tell }
    this.#wake.abort()
    await this.#leaving.done
  }

  async #identify(signal: AbortSignal): Promise<void> {
    const dialogue = this.#dialogue
    const { clock } = this.shared
    // The unit may still be tagging for somebody who went away.
    await dialogue.tell(NOTHING, signal)
    await dialogue.tell(ABORT, signal)
    if (!(await dialogue.drain(QUIET_MS, LONGEST_DRAIN_MS, signal))) {
      this.handle.doubt(
        'it keeps sending though it was told to stop: this is another device, or one that does not listen',
      )
      throw new GatewayError('E_DEVICE_PROTOCOL', `${this.handle.transport.path}: it does not stop sending`)
    }
    let line = ''
    for (let tries = 1; ; tries++) {
      const askedMs = clock.monotonicMs()
      line = await dialogue.ask(
        { what: '*IDN?', bytes: ASK_IDENTITY, read: lineReader(), timeoutMs: ANSWER_MS },
        signal,
      )
      this.shared.roundTripMs = Math.round((clock.monotonicMs() - askedMs) * 10) / 10
      if (line.includes(IDENTITY)) break
      const said = `*IDN? was answered by "${printable(line)}", which names no TDC1`
      if (tries === IDENTITY_TRIES) {
        this.handle.doubt(said)
        throw new GatewayError('E_DEVICE_PROTOCOL', `${this.handle.transport.path}: ${said}`)
      }
      // Late records of a run before may stand in front of the answer.
      await dialogue.drain(2 * QUIET_MS, LONGEST_DRAIN_MS, signal)
    }
    this.handle.doubt(undefined)
    this.handle.identified(printable(line))
  }

  async #tag(signal: AbortSignal): Promise<void> {
    const { shared } = this
    while (!signal.aborted) {
      if (!shared.tagging) {
        // Not wanted is not silent.
        this.handle.alive()
        await sleep(shared.clock, NOT_WANTED_LOOK_MS, signal)
        continue
      }
      await this.#startRun(signal)
      const why = await this.#watchRun(signal)
      const status = await this.#stopRun(signal)
      if (this.#leaving !== undefined) {
        this.#leaving.tell()
        return
      }
      if (status?.overflow === true) {
        shared.counters.overflows += 1
        this.#checkPauseMs = FIRST_CHECK_PAUSE_MS
        shared.emit({ type: 'discarded', reason: 'overflow', count: 1 })
        shared.emit({ type: 'gap', reason: 'the FIFO of the unit ran over: records are missing' })
      } else {
        this.#checkPauseMs = Math.min(2 * this.#checkPauseMs, LONGEST_CHECK_PAUSE_MS)
        shared.emit({ type: 'gap', reason: why })
      }
    }
  }

  async #startRun(signal: AbortSignal): Promise<void> {
    const { shared } = this
    const { threshold, clock: referenceClock } = shared.options
    const nowMs = shared.clock.monotonicMs()
    shared.startedMs ??= nowMs
    const elapsedPs = BigInt(Math.round(nowMs - shared.startedMs)) * PS_PER_MS
    // Each run counts from zero; the time line goes on, and the gap before it says that it was cut.
    const offsetPs = shared.counters.runs === 0 ? 0n : elapsedPs > shared.lastPs ? elapsedPs : shared.lastPs + 1n
    shared.counters.runs += 1
    this.#told = { events: 0, dummies: 0, wraps: 0, outOfOrder: 0, invalid: 0, slips: 0 }
    this.#restart = undefined
    this.#lastDataMs = nowMs
    this.#stream = new TagStream(offsetPs, (event) => shared.emit(event))
    await this.#write(startTagging({ threshold, clock: referenceClock, gateMs: 0 }), signal)
  }

  /** Flushes, reports figures and looks for what speaks for an overflow; returns why the run is to end. */
  async #watchRun(signal: AbortSignal): Promise<string> {
    const { shared } = this
    const { clock, options } = shared
    const begunMs = clock.monotonicMs()
    let figuresMs = begunMs
    let inputs = [0, 0, 0, 0]
    let idle = false
    for (;;) {
      const quietMs = clock.monotonicMs() - this.#lastDataMs
      await sleep(clock, Math.max(5, options.flushMs - quietMs), AbortSignal.any([signal, this.#wake.signal])).catch(
        () => {},
      )
      if (this.#leaving !== undefined) return 'the driver leaves'
      const stream = this.#stream
      if (stream === undefined || signal.aborted) throw new GatewayError('E_CANCELLED', 'the port was closed')
      const nowMs = clock.monotonicMs()
      if (nowMs - this.#lastDataMs >= options.flushMs) {
        if (idle) stream.idle()
        idle = true
        this.#lastDataMs = nowMs
        shared.counters.flushes += 1
        await this.#write(FLUSH, signal)
      } else {
        idle = false
      }
      if (nowMs - figuresMs >= FIGURES_EVERY_MS) {
        inputs = this.#tellFigures(stream, inputs, nowMs - figuresMs)
        figuresMs = nowMs
      }
      if (this.#restart !== undefined) return this.#restart
      if (!shared.tagging) return 'tagging was stopped'
      const { slips, doubtful, longSteps } = stream.tally
      // Lost bytes are an overflow for sure; a long pause only where the source does not pause.
      const doubted = slips > 0 || (doubtful + longSteps > 0 && nowMs >= begunMs + this.#checkPauseMs)
      if (doubted || (options.checkMs > 0 && nowMs - begunMs >= options.checkMs)) {
        shared.counters.checks += 1
        return 'tagging was interrupted to ask for overflow'
      }
    }
  }

  /** Stops tagging and gives the unit's status; undefined where it did not answer. */
  async #stopRun(signal: AbortSignal): Promise<Status | undefined> {
    const { shared } = this
    const stream = this.#stream
    if (stream === undefined) return undefined
    const waiting = new AbortController()
    const answered = new Promise<Status>((resolve) => {
      this.#onStatus = (status) => {
        resolve(status)
        waiting.abort()
      }
    })
    stream.awaitStatus()
    await this.#write(STOP_TAGGING, signal)
    const inTime = await sleep(shared.clock, ANSWER_MS, AbortSignal.any([signal, waiting.signal])).then(
      () => false,
      () => waiting.signal.aborted,
    )
    this.#onStatus = undefined
    if (!inTime) {
      shared.counters.statusMissing += 1
      stream.end()
    }
    this.#count(stream)
    this.#stream = undefined
    await this.#write(RESET, signal)
    await this.#dialogue.drain(QUIET_MS, LONGEST_DRAIN_MS, signal)
    return inTime ? answered : undefined
  }

  async #countGates(mode: 'singles' | 'pairs', signal: AbortSignal): Promise<void> {
    const { options, clock } = this.shared
    const { threshold, clock: referenceClock, gateMs } = options
    for (const line of countingSettings(mode, { threshold, clock: referenceClock, gateMs })) {
      await this.#dialogue.tell(line, signal)
      await sleep(clock, SETTING_PAUSE_MS, signal)
    }
    while (!signal.aborted) {
      const line = await this.#dialogue.ask(
        { what: 'COUNTS?', bytes: ASK_COUNTS, read: lineReader(), timeoutMs: gateMs + ANSWER_MS },
        signal,
      )
      const counts = parseCounts(line, mode)
      this.handle.alive()
      COUNT_NAMES[mode].forEach((name, i) =>
        this.shared.emit({
          type: 'figure',
          path: ['Detector', `Counts ${name}`],
          value: counts[i] ?? 0,
          unit: 'count',
        }),
      )
    }
  }

  #tellFigures(stream: TagStream, before: readonly number[], elapsedMs: number): number[] {
    const counts = stream.inputCounts()
    counts.forEach((count, input) => {
      const value = Math.round(((count - (before[input] ?? 0)) * 1_000) / elapsedMs)
      this.shared.emit({ type: 'figure', path: ['Detector', `Input ${input + 1}`], value, unit: 'hz' })
    })
    return counts
  }

  /** Adds what is new in this run to the counters of all runs. */
  #count(stream: TagStream): void {
    const { counters } = this.shared
    const { tally } = stream
    this.shared.lastPs = stream.lastPs
    for (const name of ['events', 'dummies', 'wraps', 'outOfOrder', 'invalid', 'slips'] as const) {
      counters[name] += tally[name] - this.#told[name]
      this.#told[name] = tally[name]
    }
  }

  async #write(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.handle.transport.write(bytes, WRITE_MS, signal)
  }
}

/** An answer as it may be shown: without bytes of records that stand in front of it, and not too long. */
function printable(line: string): string {
  return line
    .replaceAll(/[^\x20-\x7e]/g, '')
    .trim()
    .slice(0, 60)
}
