import { createBackoff, type Backoff } from '../../src/base/backoff.js'
import { StateCell } from '../../src/base/cell.js'
import { sleep } from '../../src/base/clock.js'
import { messageOf } from '../../src/base/errors.js'
import type { Device, DeviceEvent, DeviceState, Driver, DriverContext } from '../../src/device/contract.js'
import { DiscardTeller, EventQueue } from '../../src/device/event-formats/device-tags.js'
import { openFormat } from '../../src/device/event-formats/formats.js'
import { createEventHub, type EventHub } from '../../src/device/event-hub.js'
import { startProgram, type ProgramEnd, type RunningProgram, type StartProgram } from '../../src/io/child.js'
import { descriptor } from './descriptor.js'
import { parseReaderOptions, type ReaderOptions } from './options.js'

/** A first run takes a moment; one that does not end is stopped. */
const FIRST_RUN_MS = 10_000
/** Between SIGTERM and SIGKILL. */
const GRACE_MS = 2_000
/** Longest pause before another start, as a multiple of the first. */
const LONGEST_PAUSE_FACTOR = 30
/** So much of what a program complains is kept. */
const COMPLAINT_CHARACTERS = 400
const LOOKS_PER_SILENCE = 4

interface RunResult {
  end: ProgramEnd
  complaint: string
}

class ReaderDevice implements Device {
  readonly state: StateCell<DeviceState>
  readonly #hub: EventHub
  readonly #pause: Backoff
  readonly #counters = { starts: 0, deaths: 0, bytes: 0, events: 0 }
  readonly #identity: string

  constructor(
    private readonly context: DriverContext,
    private readonly options: ReaderOptions,
    private readonly start: StartProgram,
  ) {
    const { clock, random, log } = context
    this.#hub = createEventHub(log)
    this.#pause = createBackoff({ firstMs: options.restartMs, maxMs: options.restartMs * LONGEST_PAUSE_FACTOR }, random)
    this.#identity = [options.command, ...options.args].join(' ')
    this.state = new StateCell<DeviceState>({ state: 'absent', reason: 'not started yet' }, clock, (error) =>
      log.error({ reason: messageOf(error) }, 'a listener of the device state failed'),
    )
  }

  facts(): Record<string, string | number | boolean> {
    return { path: this.options.command, program: this.#identity, format: this.options.format, ...this.#counters }
  }

  subscribe(listener: (event: DeviceEvent) => void): () => void {
    return this.#hub.subscribe(listener)
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.context
    try {
      while (!signal.aborted) {
        this.#set({ state: 'opening' })
        const failure = (await this.#firstRun(signal)) ?? (await this.#mainRun(signal))
        if (signal.aborted) break
        this.#counters.deaths += 1
        const pauseMs = this.#pause.nextMs()
        this.#set({ state: 'absent', reason: `${failure}; starting it again` })
        await sleep(clock, pauseMs, signal).catch(() => {})
      }
    } finally {
      this.#set({ state: 'stopped' })
    }
  }

  #set(next: DeviceState): void {
    const unhappy = next.state === 'absent' || next.state === 'silent'
    this.context.log[unhappy ? 'warn' : 'info']({ device: this.options.command, ...next }, `device ${next.state}`)
    this.state.set(next)
  }

  /** Flushes stale events; returns what went wrong, if anything did. */
  async #firstRun(signal: AbortSignal): Promise<string | undefined> {
    const { firstRun, args, command } = this.options
    if (firstRun === undefined || firstRun.length === 0) return undefined
    const { clock } = this.context
    let program: RunningProgram | undefined
    const timer = clock.after(FIRST_RUN_MS, () => void program?.stop(GRACE_MS))
    const { end, complaint } = await this.#runProgram(
      [...args, ...firstRun],
      () => {},
      signal,
      (running) => {
        program = running
      },
    )
    timer.cancel()
    if (complaint !== '') return `${command} complains: ${complaint}`
    return end.how === 'exited' && end.code === 0 ? undefined : `${end.message} in its first run`
  }

  /** The run that counts; returns why it ended. */
  async #mainRun(signal: AbortSignal): Promise<string> {
    const { options } = this
    const { clock } = this.context
    const opened = openFormat(options.format, { source: options.source, lostWraps: options.lostWraps })
    if (opened.kind !== 'tags') return `a ${options.format} stream holds no detections`
    const queue = new EventQueue(opened)
    const discards = new DiscardTeller((event) => this.#hub.emit(event))
    const path = options.command
    let lastMs = clock.monotonicMs()
    let came = false
    let broken: string | undefined
    const handOn = (): void => {
      discards.tell(opened.reader.tally)
      for (const event of queue.events.splice(0)) {
        if (event.type === 'tags') this.#counters.events += event.patterns.length
        this.#hub.emit(event)
      }
    }
    let program: RunningProgram | undefined
    const onOutput = (chunk: Uint8Array): void => {
      if (broken !== undefined) return
      lastMs = clock.monotonicMs()
      this.#counters.bytes += chunk.length
      try {
        opened.reader.push(chunk, queue)
      } catch (error) {
        broken = `${path} sends no ${options.format} stream: ${messageOf(error)}`
        void program?.stop(GRACE_MS)
        return
      }
      if (!came || this.state.value.state !== 'producing')
        this.#set({ state: 'producing', path, identity: this.#identity })
      came = true
      this.#pause.reset()
      handOn()
    }
    const watching = new AbortController()
    const watch = async (): Promise<void> => {
      for (;;) {
        await sleep(clock, options.silentAfterMs / LOOKS_PER_SILENCE, watching.signal)
        opened.reader.flush(queue)
        handOn()
        if (clock.monotonicMs() - lastMs < options.silentAfterMs || this.state.value.state === 'silent') continue
        this.#set({ state: 'silent', path, reason: `it runs, but nothing came for ${options.silentAfterMs} ms` })
      }
    }
    const watcher = watch().catch(() => {})
    const { end, complaint } = await this.#runProgram(options.args, onOutput, signal, (running) => {
      program = running
      if (running.pid !== undefined) this.#set({ state: 'open', path })
    })
    watching.abort()
    await watcher
    if (broken === undefined) {
      opened.reader.end(queue)
      handOn()
    }
    if (came) this.#hub.emit({ type: 'gap', reason: `${path} ended` })
    if (complaint !== '') return `${path} complains: ${complaint}`
    return broken ?? end.message
  }

  async #runProgram(
    args: readonly string[],
    onStdout: (chunk: Uint8Array) => void,
    signal: AbortSignal,
    started: (program: RunningProgram) => void,
  ): Promise<RunResult> {
    const decoder = new TextDecoder()
    let complaint = ''
    const program = this.start({
      command: this.options.command,
      args,
      clock: this.context.clock,
      onStdout,
      // Whatever it says there is a failure: it writes nothing there while it works.
      onStderr: (chunk) => {
        if (complaint.length < COMPLAINT_CHARACTERS) complaint += decoder.decode(chunk, { stream: true })
        void program.stop(GRACE_MS)
      },
    })
    this.#counters.starts += 1
    started(program)
    const stop = (): void => void program.stop(GRACE_MS)
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    const end = await program.ended
    signal.removeEventListener('abort', stop)
    return { end, complaint: complaint.trim().replaceAll(/\s+/g, ' ').slice(0, COMPLAINT_CHARACTERS) }
  }
}

/** With another way to start programs, for tests. */
export function createReaderDevice(context: DriverContext, start: StartProgram = startProgram): Device {
  return new ReaderDevice(context, parseReaderOptions(context.device, context.options), start)
}

export const driver: Driver = {
  descriptor,
  create: (context) => createReaderDevice(context),
}
