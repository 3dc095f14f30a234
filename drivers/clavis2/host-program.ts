import { createBackoff } from '../../src/base/backoff.js'
import { type Clock, sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import type { Random } from '../../src/base/random.js'
import type { DeviceEvent } from '../../src/device/contract.js'
import { createLineSplitter, type StartProgram } from '../../src/io/child.js'
import type { Logger } from '../../src/observe/log.js'
import { parseProgramLine } from './program-lines.js'

/** Ends in a row without one finished round before the session is given up. */
const MOST_ENDS = 5
const STOP_GRACE_MS = 1_000
const LONGEST_LINE = 1_000

export interface HostProgramOptions {
  start: StartProgram
  command: string
  args: readonly string[]
  clock: Clock
  random: Random
  log: Logger
  emit: (event: DeviceEvent) => void
  /** A round is finished: keys can be fetched. */
  keysReady: () => void
}

/** Anything as long as a key of half the usual length might be one. */
function withoutKeys(line: string): string {
  return line.replace(/[0-9A-Fa-f]{32,}/g, (digits) => `<${digits.length} hex digits>`)
}

/** Runs the maker's program for as long as a session lasts and starts it again when it ends. */
export class HostProgram {
  #starts = 0
  #endsInARow = 0
  #lines = 0
  #unknownLines = 0
  #lastEnd = ''

  constructor(private readonly options: HostProgramOptions) {}

  facts(): Record<string, string | number> {
    return {
      programStarts: this.#starts,
      programLines: this.#lines,
      programLinesUnknown: this.#unknownLines,
      ...(this.#lastEnd === '' ? {} : { programLastEnd: this.#lastEnd }),
    }
  }

  /** Resolves when `signal` aborts and the program has ended; rejects where it cannot be kept running. */
  async run(signal: AbortSignal): Promise<void> {
    const { start, command, args, clock, random, log } = this.options
    const pause = createBackoff({ firstMs: 500, maxMs: 10_000 }, random)
    while (!signal.aborted) {
      this.#starts += 1
      const out = createLineSplitter(LONGEST_LINE, (line) => this.#line(line, pause))
      const err = createLineSplitter(LONGEST_LINE, (line) => this.#line(line, pause))
      const program = start({
        command,
        args,
        clock,
        onStdout: (chunk) => out.push(chunk),
        onStderr: (chunk) => err.push(chunk),
      })
      log.info({ command, args, pid: program.pid }, 'the host program was started')
      const stop = (): void => void program.stop(STOP_GRACE_MS)
      signal.addEventListener('abort', stop, { once: true })
      if (signal.aborted) stop()
      const end = await program.ended
      signal.removeEventListener('abort', stop)
      out.end()
      err.end()
      if (signal.aborted) return
      this.#lastEnd = end.message
      this.#endsInARow += 1
      if (end.how === 'notStarted') {
        throw new GatewayError('E_DEVICE_ABSENT', end.message, {
          remedy: "install the maker's program there, executable",
        })
      }
      if (this.#endsInARow >= MOST_ENDS) {
        throw new GatewayError('E_DEVICE_IO', `${end.message}, ${MOST_ENDS} times in a row without making a key`, {
          remedy:
            'run the program by hand and read what it says; its unit must be on and at the other end of the fibre',
        })
      }
      const delayMs = pause.nextMs()
      log.warn({ reason: end.message, delayMs }, 'the host program ended; starting it again')
      await sleep(clock, delayMs, signal).catch(() => {})
    }
  }

  #line(text: string, pause: { reset(): void }): void {
    if (text.trim() === '') return
    const { log, emit, keysReady } = this.options
    this.#lines += 1
    const line = parseProgramLine(text)
    const shown = withoutKeys(text)
    if (line.level === 'error') log.error({ line: shown }, 'the host program reports an error')
    else if (line.level === 'warn') log.warn({ line: shown }, 'the host program warns')
    else log.debug({ line: shown }, 'the host program says')
    if (line.level === 'unknown') this.#unknownLines += 1
    if (line.figure !== undefined) emit(line.figure)
    if (!line.keysReady) return
    this.#endsInARow = 0
    pause.reset()
    keysReady()
  }
}
