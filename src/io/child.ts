import { spawn } from 'node:child_process'
import type { Clock, Timer } from '../base/clock.js'
import { messageOf } from '../base/errors.js'

export interface ProgramOptions {
  /** Path of the program; never given to a shell. */
  command: string
  args: readonly string[]
  /** Working folder; default ours. */
  cwd?: string
  /** Environment; default ours. */
  env?: Readonly<Record<string, string | undefined>>
  clock: Clock
  /** What it writes. Chunks belong to the listener; one that does not keep up is not waited for. */
  onStdout(chunk: Uint8Array): void
  onStderr(chunk: Uint8Array): void
}

/** How a program ended. */
export type ProgramEnd =
  | { how: 'exited'; code: number; message: string }
  | { how: 'killed'; signal: string; message: string }
  /** It never ran. */
  | { how: 'notStarted'; message: string }

/** A running program of somebody else. */
export interface RunningProgram {
  /** Undefined where it could not be started. */
  readonly pid: number | undefined
  /** Resolves once it has ended and all its output was handed over. Never rejects. */
  readonly ended: Promise<ProgramEnd>
  /** Asks it to end (SIGTERM) and after `graceMs` makes it (SIGKILL). Resolves as `ended`; idempotent. */
  stop(graceMs: number): Promise<ProgramEnd>
  /** Reads no more (false) or again (true): the pipe fills, and the program waits. */
  setReading(reading: boolean): void
}

export type StartProgram = (options: ProgramOptions) => RunningProgram

function startFailure(command: string, error: unknown): string {
  return `${command} could not be started: ${messageOf(error)}`
}

/** Starts a program with its standard input empty. It does not outlive a stop, and dies with its pipes when we do. */
export const startProgram: StartProgram = (options) => {
  const { command, args, clock } = options
  const child = spawn(command, [...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
  })
  let hasEnded = false
  let killTimer: Timer | undefined
  child.stdout.on('data', (chunk: Buffer) => options.onStdout(chunk))
  child.stderr.on('data', (chunk: Buffer) => options.onStderr(chunk))
  const ended = new Promise<ProgramEnd>((resolve) => {
    const end = (result: ProgramEnd): void => {
      hasEnded = true
      killTimer?.cancel()
      resolve(result)
    }
    child.once('error', (error) => {
      // Also raised where a signal could not be delivered; then `close` still comes.
      if (child.pid === undefined) end({ how: 'notStarted', message: startFailure(command, error) })
    })
    child.once('close', (code, signal) => {
      if (code !== null) end({ how: 'exited', code, message: `${command} ended with code ${code}` })
      else
        end({ how: 'killed', signal: signal ?? 'unknown', message: `${command} was ended by ${signal ?? 'a signal'}` })
    })
  })
  return {
    pid: child.pid,
    ended,
    stop(graceMs) {
      if (!hasEnded && child.pid !== undefined && killTimer === undefined) {
        child.kill('SIGTERM')
        killTimer = clock.after(graceMs, () => {
          child.kill('SIGKILL')
          // A grandchild that keeps the pipes open must not hold us.
          child.stdout.destroy()
          child.stderr.destroy()
        })
      }
      return ended
    },
    setReading(reading) {
      if (reading) child.stdout.resume()
      else child.stdout.pause()
    },
  }
}

/** Turns chunks of output into lines without their ends. */
export interface LineSplitter {
  push(chunk: Uint8Array): void
  /** What came after the last line end, as a line, if anything. */
  end(): void
}

/** Lines longer than `maxLength` characters are cut there; the rest of such a line is dropped. */
export function createLineSplitter(maxLength: number, onLine: (line: string) => void): LineSplitter {
  const decoder = new TextDecoder()
  let line = ''
  const add = (text: string): void => {
    let from = 0
    for (;;) {
      const at = text.indexOf('\n', from)
      const part = text.slice(from, at === -1 ? undefined : at)
      if (line.length < maxLength) line += part.slice(0, maxLength - line.length)
      if (at === -1) return
      onLine(line.replace(/\r$/, ''))
      line = ''
      from = at + 1
    }
  }
  return {
    push: (chunk) => add(decoder.decode(chunk, { stream: true })),
    end() {
      add(decoder.decode())
      if (line !== '') onLine(line.replace(/\r$/, ''))
      line = ''
    },
  }
}
