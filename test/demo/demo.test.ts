import { mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { DemoResult } from '../../src/demo/run.js'
import { demoFaults } from '../../src/demo/faults.js'
import { killCommands, runCli, startCli } from '../support/cli.js'

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
const START = fileURLToPath(new URL('../../scripts/start.mjs', import.meta.url))
const LESSON = ['demo', '--device', 'ekpqc', '--speed', '100']

afterEach(killCommands)

/** Processes that carry the word in their environment. */
function processesWith(word: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(word)
      } catch {
        return false
      }
    })
    .map(Number)
}

describe('the demonstration', () => {
  it('ends by itself after so many keys with one JSON document on stdout, and everything else on stderr', async () => {
    const mark = `QKD_GW_TEST=json-${process.pid}`
    const { code, stdout, stderr } = await runCli(['demo', '--keys', '20', '--json'], {
      env: { QKD_GW_TEST: `json-${process.pid}` },
    })
    expect(code, stderr).toBe(0)
    const result = JSON.parse(stdout) as DemoResult
    expect(result.identical).toBe(true)
    for (const site of ['A', 'B'] as const) {
      expect(result.sites[site].keys).toBe(20)
      expect(result.sites[site].digest).toMatch(/^[0-9a-f]{64}$/)
    }
    expect(result.sites.A.digest).toBe(result.sites.B.digest)
    expect(result.sites.A.digest).not.toBe(createHash('sha256').digest('hex'))
    const steps = result.steps.map(({ step, name, site }) => [step, name, site])
    expect(steps).toEqual(
      expect.arrayContaining([
        [1, 'RegisterDevice', 'A'],
        [2, 'RegisterDevice', 'B'],
        [3, 'StartNode', 'A'],
        [4, 'WaitForSession', 'A'],
        [5, 'StartNode', 'B'],
        [6, 'WaitForSession', 'B'],
        [7, 'RunSession', 'B'],
        [8, 'SessionStarting', 'A'],
      ]),
    )
    const atMs = (step: number): number =>
      Math.min(...result.steps.filter((one) => one.step === step).map((one) => one.atMs))
    for (const [before, after] of [
      [1, 3],
      [2, 3],
      [3, 4],
      [4, 5],
      [5, 7],
    ] as const) {
      expect(atMs(before)).toBeLessThanOrEqual(atMs(after))
    }
    expect(processesWith(mark)).toEqual([])
  })

  it('names every fault in its help, and refuses one that it does not know', async () => {
    const { code, stdout } = await runCli(['demo', '--help'])
    expect(code).toBe(0)
    for (const { name, what } of demoFaults) expect(stdout).toMatch(new RegExp(`${name} +${what}`))
    for (const name of ['cut-tunnel', 'corrupt-frame', 'unplug', 'kill-site-agent']) expect(stdout).toContain(name)
    const wrong = await runCli(['demo', '--keys', '20', '--fault', 'earthquake'])
    expect(wrong.code).toBe(2)
    expect(wrong.stderr).toContain('cut-tunnel')
  })

  it.each(['before anything is up', 'with keys running'])(
    'ended by Ctrl+C %s is gone within 2 s and leaves no process and no file',
    async (when) => {
      const word = `stop-${process.pid}-${when.length}`
      const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-test-demo-'))
      const demo = startCli(['demo'], { env: { QKD_GW_TEST: word, TMPDIR: folder } })
      await demo.text(when === 'with keys running' ? /step 8: SessionStarting/ : /starting two sites/)
      demo.kill('SIGINT')
      const end = await demo.ended
      expect(end).toMatchObject({ code: 0, signal: null })
      expect(end.tookMs).toBeLessThan(2_000)
      expect(processesWith(`QKD_GW_TEST=${word}`)).toEqual([])
      // Empty: otherwise this throws.
      rmdirSync(folder)
    },
  )

  it.each([
    ['the script that started it', [START], 'starting two sites'],
    ['it', [MAIN, 'demo'], 'step 2: RegisterDevice'],
  ])('leaves no process behind where %s is killed', async (_who, args, when) => {
    const word = `killed-${process.pid}-${args.length}`
    const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-test-demo-'))
    const env = { ...process.env, QKD_GW_TEST: word, TMPDIR: folder }
    const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    // Read to the end: nobody learns of it by a broken pipe of ours.
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
    await vi.waitUntil(() => said.includes(when), 60_000)
    child.kill('SIGKILL')
    await once(child, 'exit')
    await vi.waitUntil(() => processesWith(`QKD_GW_TEST=${word}`).length === 0, 30_000)
    // Nobody can take away the files of what was killed.
    rmSync(folder, { recursive: true, force: true })
  })

  it('teaches with boards of the kit, Eve between them, and leaves nothing behind where its reader goes away', async () => {
    const word = `lesson-${process.pid}`
    const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-test-demo-'))
    const untilBobHasTwoRuns = '"$0" "$@" 2>&1 | sed "/^Bob   | run 1, step 5 of 5/q"'
    const shell = spawn('sh', ['-c', untilBobHasTwoRuns, process.execPath, MAIN, ...LESSON, '--eve'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, QKD_GW_TEST: word, TMPDIR: folder },
    })
    let told = ''
    shell.stdout.on('data', (chunk: Buffer) => (told += chunk.toString()))
    await once(shell, 'close')
    expect(told).toContain('Eve measures every pulse')
    for (const who of ['Alice', 'Bob  ']) {
      for (const step of [1, 2, 3, 4, 5]) expect(told).toContain(`${who} | run 0, step ${step} of 5: `)
      expect(told).toContain(`${who} | run 0: BB84 with 16 pulses (demonstrator, not secure)`)
    }
    await vi.waitUntil(() => processesWith(`QKD_GW_TEST=${word}`).length === 0, 30_000)
    // Empty: otherwise this throws.
    rmdirSync(folder)
  })

  it('refuses what does not go together', async () => {
    for (const args of [
      ['--eve'],
      ['--device', 'ekpqc', '--fault', 'unplug'],
      ['--device', 'ekpqc', '--eve', '--keys', '1'],
      ['--device', 'ekpqc', '--speed', '0'],
    ]) {
      expect(await runCli(['demo', ...args])).toMatchObject({ code: 2 })
    }
  })
})
