/** The built command as a process: what a user runs, and nothing else. */
import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = new URL('../../', import.meta.url)
const main = fileURLToPath(new URL('dist/src/cli/main.js', root))

/** How long a test waits for what must come; never what it waits on. */
export const PATIENCE_MS = 45_000

/** Refuses to test a command that is not what the sources make: `npm test` builds it first, by hand `npm run build` does. */
async function checkBuilt(): Promise<void> {
  const prepare = (await import(new URL('scripts/prepare.mjs', root).href)) as { isBuilt(): boolean }
  if (!prepare.isBuilt()) {
    throw new Error(`${main} is missing or older than the sources: build it first with "npm run build"`)
  }
}

await checkBuilt()

export type JsonLine = Readonly<Record<string, unknown>>

export interface CliEnd {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** From the last signal that the test sent, or from the start. */
  readonly tookMs: number
}

export interface CliProcess {
  readonly pid: number
  readonly ended: Promise<CliEnd>
  readonly isRunning: boolean
  stdout(): string
  stderr(): string
  write(line: string): void
  kill(signal: NodeJS.Signals): void
  /** The first JSON line of stdout or stderr, the past included, for which `accept` gives a value. */
  line<T>(what: string, accept: (line: JsonLine) => T | undefined, timeoutMs?: number): Promise<T>
  /** The first text of stdout or stderr that matches, the past included. */
  text(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>
  /** JSON lines so far. */
  lines(): readonly JsonLine[]
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  /** Words that start it somewhere else, as in a network namespace. */
  readonly within?: readonly string[]
}

const running = new Set<ChildProcess>()

/** Kills what still runs; for `afterEach`. */
export async function killCommands(): Promise<void> {
  await Promise.all(
    [...running].map((child) => {
      const ended = new Promise((resolve) => child.once('close', resolve))
      child.kill('SIGCONT')
      child.kill('SIGKILL')
      return ended
    }),
  )
}

function parseLine(text: string): JsonLine | undefined {
  if (!text.startsWith('{')) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : undefined
  } catch {
    return undefined
  }
}

/** Cuts chunks into whole lines. */
function lineCutter(onLine: (line: string) => void): (chunk: Buffer) => void {
  let rest = ''
  return (chunk) => {
    const parts = (rest + chunk.toString('utf8')).split('\n')
    rest = parts.pop() ?? ''
    for (const part of parts) onLine(part)
  }
}

/** Starts `qkd-gw args…` from dist. The environment is the test's own but for what `env` says. */
export function startCli(args: readonly string[], options: CliOptions = {}): CliProcess {
  const [program = '', ...words] = [...(options.within ?? []), process.execPath, main, ...args]
  const child = spawn(program, words, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', SSH_AUTH_SOCK: undefined, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  running.add(child)
  let since = performance.now()
  const out = { stdout: '', stderr: '' }
  const json: JsonLine[] = []
  const listeners = new Set<() => void>()
  for (const name of ['stdout', 'stderr'] as const) {
    const cut = lineCutter((line) => {
      const parsed = parseLine(line)
      if (parsed !== undefined) json.push(parsed)
    })
    child[name].on('data', (chunk: Buffer) => {
      out[name] += chunk.toString('utf8')
      cut(chunk)
      for (const listener of [...listeners]) listener()
    })
  }
  child.stdin.on('error', () => {})
  const ended = new Promise<CliEnd>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve({ code, signal, tookMs: performance.now() - since })
      for (const listener of [...listeners]) listener()
    })
  })
  const all = (): string => `${out.stdout}${out.stderr}`

  function until<T>(what: string, look: () => T | undefined, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void): void => {
        clearTimeout(timer)
        listeners.delete(listener)
        finish()
      }
      const listener = (): void => {
        const found = look()
        if (found !== undefined) settle(() => resolve(found))
        else if (child.exitCode !== null || child.signalCode !== null) {
          // Its last words may still be on their way.
          void ended.then(() => {
            const late = look()
            settle(() =>
              late === undefined ? reject(new Error(`the command ended before ${what}:\n${all()}`)) : resolve(late),
            )
          })
        }
      }
      const timer = setTimeout(
        () => settle(() => reject(new Error(`never came within ${timeoutMs} ms: ${what}\n${all()}`))),
        timeoutMs,
      )
      listeners.add(listener)
      listener()
    })
  }

  return {
    pid: child.pid ?? 0,
    ended,
    get isRunning() {
      return running.has(child)
    },
    stdout: () => out.stdout,
    stderr: () => out.stderr,
    write: (line) => void child.stdin.write(`${line}\n`),
    kill(signal) {
      since = performance.now()
      child.kill(signal)
    },
    lines: () => json,
    line(what, accept, timeoutMs = PATIENCE_MS) {
      let seen = 0
      return until(
        what,
        () => {
          while (seen < json.length) {
            const line = json[seen] ?? {}
            seen += 1
            const value = accept(line)
            if (value !== undefined) return value
          }
          return undefined
        },
        timeoutMs,
      )
    },
    text(pattern, timeoutMs = PATIENCE_MS) {
      return until(String(pattern), () => pattern.exec(out.stdout) ?? pattern.exec(out.stderr) ?? undefined, timeoutMs)
    },
  }
}

/** Runs a command to its end. */
export async function runCli(
  args: readonly string[],
  options: CliOptions = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const command = startCli(args, options)
  const { code } = await command.ended
  return { code, stdout: command.stdout(), stderr: command.stderr() }
}
