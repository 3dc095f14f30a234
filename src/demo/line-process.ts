import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { endsWithStarter } from '../io/starter.js'

/** A JSON object that a child printed as one line. */
export type JsonLine = Readonly<Record<string, unknown>>

function parseLine(line: string): JsonLine | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonLine) : undefined
  } catch {
    return undefined
  }
}

/** What starts this very program again. */
function ownCommand(): readonly string[] {
  return [...process.execArgv, process.argv[1] ?? '']
}

/** One child process of this command line that speaks in JSON lines and takes commands on stdin. */
export class LineProcess {
  readonly #child: ChildProcess
  readonly #listeners = new Set<(line: JsonLine) => void>()
  /** What it wrote to stderr that was no JSON: shown when it ends unexpectedly. */
  #complaint = ''
  readonly exited: Promise<number | null>
  #ended = false

  constructor(
    readonly name: string,
    args: readonly string[],
    env: Readonly<Record<string, string | undefined>>,
    /** Arguments of Node before `args`. */
    command: readonly string[] = ownCommand(),
  ) {
    this.#child = spawn(process.execPath, [...command, ...args], {
      stdio: ['pipe', 'pipe', 'pipe', 'ipc'],
      env: { ...env, ...endsWithStarter },
      // A group of its own: Ctrl+C reaches the demo alone, which then ends its children in order.
      detached: true,
    })
    this.exited = new Promise((resolve) => {
      this.#child.once('error', () => {
        this.#ended = true
        resolve(null)
      })
      this.#child.once('exit', (code) => {
        this.#ended = true
        resolve(code)
      })
    })
    this.#child.stdin?.on('error', () => {})
    this.#read(this.#child.stdout)
    this.#read(this.#child.stderr)
  }

  #read(stream: Readable | null): void {
    if (stream === null) return
    createInterface({ input: stream }).on('line', (text) => {
      const line = parseLine(text)
      if (line === undefined) this.#complaint = `${this.#complaint}\n${text}`.slice(-2_000)
      else for (const listener of [...this.#listeners]) listener(line)
    })
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get ended(): boolean {
    return this.#ended
  }

  get complaint(): string {
    return this.#complaint.trim()
  }

  onLine(listener: (line: JsonLine) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  send(command: string): void {
    if (!this.#ended) this.#child.stdin?.write(`${command}\n`)
  }

  /** The first line that `accept` turns into something; rejects when the process ends first, at the deadline, or with the signal. */
  next<T>(accept: (line: JsonLine) => T | undefined, timeoutMs: number, signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void): void => {
        clearTimeout(timer)
        off()
        signal.removeEventListener('abort', onAbort)
        finish()
      }
      const onAbort = (): void => settle(() => reject(new Error('stopped')))
      const timer = setTimeout(
        () => settle(() => reject(new Error(`${this.name}: nothing came within ${timeoutMs} ms\n${this.complaint}`))),
        timeoutMs,
      )
      const off = this.onLine((line) => {
        const value = accept(line)
        if (value !== undefined) settle(() => resolve(value))
      })
      signal.addEventListener('abort', onAbort, { once: true })
      void this.exited.then((code) =>
        settle(() => reject(new Error(`${this.name} ended with ${code ?? 'a signal'}\n${this.complaint}`))),
      )
    })
  }

  kill(signal: NodeJS.Signals): void {
    if (!this.#ended) this.#child.kill(signal)
  }

  /** Asks it to end, and makes it end after `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    if (this.#ended) return
    this.kill('SIGTERM')
    const timer = setTimeout(() => this.kill('SIGKILL'), graceMs)
    await this.exited
    clearTimeout(timer)
  }
}
