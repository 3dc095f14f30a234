/** One running ssh: its stderr read, its end noticed, and never left behind. */
import { spawn, type ChildProcess } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import type { Clock } from '../base/clock.js'
import { newFacts, noteLine, type OpensshFacts } from './openssh-errors.js'

/**
 * Runs the command in `$@` and ends it when descriptor 3 closes, as it does when this process dies: an ssh that lived
 * on would hold the listener with nobody behind it.
 */
const DIE_WITH_PARENT =
  '"$@" 3<&- & pid=$!; { cat <&3 >/dev/null; kill $pid; } 2>/dev/null & watch=$!; wait $pid; code=$?; kill $watch 2>/dev/null; exit $code'

/** How long what it said last may come after its end. */
const LAST_WORDS_MS = 500

export class OpensshProcess {
  readonly facts: OpensshFacts = newFacts()
  /** Resolves once the process is gone. */
  readonly exited: Promise<void>
  readonly #child: ChildProcess
  readonly #watchers = new Set<() => void>()
  #gone = false
  #rest = ''

  private constructor(child: ChildProcess, clock: Clock) {
    this.#child = child
    child.stderr?.on('data', (chunk: Buffer) => this.#onStderr(chunk.toString('utf8')))
    this.exited = new Promise((resolve) => {
      const onEnd = (error?: Error): void => {
        if (this.#gone) return
        this.#gone = true
        if (error !== undefined) this.facts.said.push(error.message)
        child.stdio[3]?.destroy()
        this.#wake()
        resolve()
      }
      child.once('error', onEnd)
      // What it said last may still be in the pipe, which a helper of it (a ProxyCommand) may hold open for longer.
      child.once('exit', () => {
        if (child.stderr === null || child.stderr.readableEnded) return onEnd()
        const timer = clock.after(LAST_WORDS_MS, () => onEnd())
        child.stderr.once('end', () => {
          timer.cancel()
          onEnd()
        })
      })
    })
  }

  /** Without input or output; ends with this process. */
  static background(
    program: string,
    args: readonly string[],
    clock: Clock,
    env: Readonly<Record<string, string>> = {},
  ): OpensshProcess {
    return new OpensshProcess(
      spawn('sh', ['-c', DIE_WITH_PARENT, 'sh', program, ...args], {
        stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
        env: { ...process.env, LC_ALL: 'C', ...env },
        // Ctrl+C is for us; we end it in order.
        detached: true,
      }),
      clock,
    )
  }

  /** With its input and output in our hands: it ends with its input. */
  static piped(
    program: string,
    args: readonly string[],
    clock: Clock,
    env: Readonly<Record<string, string>> = {},
  ): OpensshProcess & { stdin: Writable; stdout: Readable } {
    const child = spawn(program, [...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', ...env },
      detached: true,
    })
    child.stdin.on('error', () => {})
    return Object.assign(new OpensshProcess(child, clock), { stdin: child.stdin, stdout: child.stdout })
  }

  get gone(): boolean {
    return this.#gone
  }

  /** Resolves once `accept` holds for what it said, or once it is gone. */
  until(accept: (facts: OpensshFacts) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const check = (): void => {
        if (!this.#gone && !accept(this.facts)) return
        this.#watchers.delete(check)
        resolve()
      }
      this.#watchers.add(check)
      check()
    })
  }

  /** Ends it at once, whatever it does. */
  kill(): void {
    if (this.#gone || this.#child.pid === undefined) return
    try {
      process.kill(-this.#child.pid, 'SIGKILL')
    } catch {
      this.#child.kill('SIGKILL')
    }
  }

  #onStderr(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) noteLine(this.facts, line.replace(/\r$/, ''))
    this.#wake()
  }

  #wake(): void {
    for (const watcher of [...this.#watchers]) watcher()
  }
}
