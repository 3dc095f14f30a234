/** The short forms of `npm run soak` and `npm run nightly:cycles`, each as a process with everything that it starts. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const running: ChildProcess[] = []

afterAll(() => {
  for (const child of running.splice(0)) if (child.exitCode === null) child.kill('SIGTERM')
})

interface Run {
  readonly child: ChildProcess
  readonly ended: Promise<number | null>
  /** Resolves when stderr matches. */
  says(pattern: RegExp): Promise<void>
  stdout(): string
  stderr(): string
}

function newestMs(folder: string): number {
  const names = readdirSync(join(root, folder), { encoding: 'utf8', recursive: true })
  return Math.max(...names.map((name) => statSync(join(root, folder, name)).mtimeMs))
}

/** The built command where it is as new as the sources, because it starts in half the time; otherwise the sources. */
function commandLine(): readonly string[] {
  const built = join(root, 'dist', '.stamp')
  const current = existsSync(built) && statSync(built).mtimeMs > Math.max(newestMs('src'), newestMs('drivers'))
  return current ? ['dist/src/cli/main.js'] : ['--import', 'tsx', 'src/cli/main.ts']
}

/** Runs a nightly program. */
function run(program: string, ...args: string[]): Run {
  const command = commandLine().map((part) => `--command=${part}`)
  const child = spawn(process.execPath, ['--import', 'tsx', program, ...args, ...command], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.push(child)
  let stdout = ''
  let stderr = ''
  const waiting = new Set<() => void>()
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
    for (const look of [...waiting]) look()
  })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const says = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (!pattern.test(stderr)) return
        waiting.delete(look)
        resolve()
      }
      waiting.add(look)
      look()
      void ended.then(() => reject(new Error(`it ended before it said ${String(pattern)}:\n${stderr}`)))
    })
  return { child, ended, says, stdout: () => stdout, stderr: () => stderr }
}

/** Processes that `pid` has started and that live. */
function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return text.trim().split(/\s+/).filter(Boolean).map(Number)
}

it.concurrent(
  'soak compares both SiteAgents after each cycle, prints one document, and leaves no process when interrupted',
  async () => {
    const soak = run('test/nightly/soak.ts', '--cycles', '1000', '--seed', '3', '--json')
    await soak.says(/ 3\/1000 /)
    const children = childrenOf(soak.child.pid ?? 0)
    expect(children.length).toBeGreaterThanOrEqual(7)
    soak.child.kill('SIGINT')
    expect(await soak.ended, soak.stderr()).toBe(130)
    expect(children.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([])
    const document = JSON.parse(soak.stdout()) as Record<string, unknown>
    expect(Object.keys(document)).toEqual(['cycles', 'keys', 'mismatches', 'owed', 'divergedAndSaid', 'recoveries'])
    for (const value of Object.values(document)) expect(Number.isSafeInteger(value)).toBe(true)
    expect(document['cycles']).toBeGreaterThanOrEqual(3)
    expect(document['mismatches']).toBe(0)
  },
)

it.concurrent('starts and stops without a fault leave the same keys at both sites', async () => {
  const cycles = run('test/nightly/cycles.ts', '--cycles', '6', '--program', 'fork')
  expect(await cycles.ended, cycles.stderr()).toBe(0)
  const [result] = JSON.parse(cycles.stdout()) as Record<string, unknown>[]
  expect(result).toMatchObject({ program: 'fork', cycles: 6, mismatches: 0 })
  expect(result?.['keys']).toBeGreaterThan(0)
})
