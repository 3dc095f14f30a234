import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'

const program = new URL('./command-process.ts', import.meta.url).pathname

/** A command of ours that runs as a process of its own and speaks JSON lines. */
export interface CommandProcess {
  child: ChildProcessByStdio<Writable, Readable, Readable>
  /** The next line of stdout that `accept` likes, parsed. */
  next(accept: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>
  /** Resolves once a line of stdout is `accept`ed, from the first on. */
  line(accept: (line: string) => boolean): Promise<string>
  /** Everything so far. */
  output(): string
  errors(): string
  ended: Promise<number | null>
}

export function runCommand(args: readonly string[], env: Readonly<Record<string, string>> = {}): CommandProcess {
  const child = spawn(process.execPath, ['--import', 'tsx', program, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  const lines: string[] = []
  const waiting = new Set<() => void>()
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()))
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    for (const wake of [...waiting]) wake()
  })
  let seen = 0
  const ended = new Promise<number | null>((resolve) => child.on('close', (code) => resolve(code)))
  return {
    child,
    ended,
    output: () => lines.join('\n'),
    errors: () => errors,
    line(accept) {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          const found = lines.find(accept)
          if (found === undefined) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
        void ended.then(() => reject(new Error(`the command ended: ${lines.join('\n')}\n${errors}`)))
      })
    },
    next(accept) {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          while (seen < lines.length) {
            const text = lines[seen] ?? ''
            seen += 1
            const value: unknown = text.startsWith('{') ? JSON.parse(text) : undefined
            if (typeof value === 'object' && value !== null && accept({ ...value })) {
              waiting.delete(look)
              return resolve({ ...value })
            }
          }
        }
        waiting.add(look)
        look()
        void ended.then(() => reject(new Error(`the command ended: ${lines.join('\n')}\n${errors}`)))
      })
    },
  }
}
