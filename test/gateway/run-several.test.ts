/** The supervisor of `qkd-gw run`, with a small program in the place of the gateway. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { EXIT } from '../../src/base/error-codes.js'
import { systemRandom } from '../../src/base/random.js'
import { runSeveral } from '../../src/gateway/run-several.js'
import { silentLogger } from '../../src/observe/log.js'
import { killCommands, startCli, type JsonLine } from '../support/cli.js'

/** Notes each start beside its configuration; ends as that says: at once with a code, the first time only, or when asked. */
const PROGRAM = `
import { appendFileSync, readFileSync } from 'node:fs'
const file = process.argv.at(-1)
process.on('SIGTERM', () => process.exit(0))
const { code, firstOnly } = JSON.parse(readFileSync(file, 'utf8'))
appendFileSync(file + '.starts', process.argv.slice(2, -1).join(' ') + ' ' + process.pid + '\\n')
const starts = readFileSync(file + '.starts', 'utf8').trim().split('\\n').length
if (code !== undefined && (!firstOnly || starts === 1)) process.exit(code)
setInterval(() => {}, 1_000)
`

let folder = ''
let ending: AbortController
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'qkd-gw-several-'))
  ending = new AbortController()
  writeFileSync(join(folder, 'gateway.mjs'), PROGRAM)
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function config(name: string, says: { code?: number; firstOnly?: boolean }): string {
  const file = join(folder, name)
  writeFileSync(file, JSON.stringify(says))
  return file
}

function starts(file: string): string[] {
  return existsSync(`${file}.starts`) ? readFileSync(`${file}.starts`, 'utf8').trim().split('\n') : []
}

function run(files: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const { stdin, stderr, env } = process
  const host = { stdin, stderr, env, clock: systemClock, random: systemRandom, signal: ending.signal }
  return runSeveral(files, [process.execPath, join(folder, 'gateway.mjs')], host, silentLogger)
}

/** Polls what no event tells. */
async function eventually(what: string, holds: () => boolean): Promise<void> {
  const giveUpAtMs = performance.now() + 45_000
  while (!holds()) {
    if (performance.now() > giveUpAtMs) throw new Error(`never came: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

describe('qkd-gw run', () => {
  afterEach(killCommands)

  it('serves the device of each file, and its gateways end in order when it is killed', async () => {
    const files = ['a', 'b'].map((name) => {
      const file = join(folder, `${name}.toml`)
      const lines = [
        ...['[device]', `path = "emulator:pair=${name}"`, 'driver = "qix"', 'side = "alice"'],
        ...[`id = "run_${name}${process.pid}_x"`, '[server]', 'listen = "127.0.0.1:0"'],
        ...['[state]', `folder = "${join(folder, name)}"`, '[metrics]', 'listen = "off"', '[log]', 'format = "json"'],
      ]
      writeFileSync(file, lines.join('\n'))
      return file
    })
    const supervisor = startCli(['run', ...files.flatMap((file) => ['-c', file])])
    /** Process ids of two gateways that say so. */
    const both = async (what: string, says: (line: JsonLine) => boolean): Promise<number[]> => {
      const pids = new Set<number>()
      await supervisor.line(what, (line) => {
        if (says(line)) pids.add(Number(line['pid']))
        return pids.size === 2 ? true : undefined
      })
      return [...pids].toSorted((a, b) => a - b)
    }
    const serving = await both('both devices at work', ({ part, state }) => part === 'device' && state === 'producing')
    supervisor.kill('SIGKILL')
    expect(await both('both gateways ended in order', ({ msg }) => msg === 'ended')).toEqual(serving)
  })
})

describe('several gateways under one supervisor', () => {
  it('run at the same time, each with its own configuration, and end in order when asked', async () => {
    const files = [config('a', {}), config('b', {}), config('c', {})]
    const running = run(files)
    await eventually('all have started', () => files.every((file) => starts(file).length === 1))
    for (const file of files) expect(starts(file)[0]).toMatch(/^attach --config \d+$/)
    ending.abort()
    expect(await running).toEqual(new Map(files.map((file) => [file, 0])))
  })

  it('are started again when they die, while the others go on', async () => {
    const [steady, dying] = [config('steady', {}), config('dying', { code: 1, firstOnly: true })]
    const running = run([steady, dying])
    await eventually(
      'the one that died has started again',
      () => starts(dying).length === 2 && starts(steady).length === 1,
    )
    expect(starts(steady)).toHaveLength(1)
    ending.abort()
    expect([...(await running).values()]).toEqual([0, 0])
  })

  it('are not started again where no restart mends it; the others go on, and its code is kept', async () => {
    const [steady, wrong] = [config('steady', {}), config('wrong', { code: EXIT.configuration })]
    let over = false
    const running = run([steady, wrong]).finally(() => (over = true))
    await eventually('both have started', () => starts(steady).length === 1 && starts(wrong).length === 1)
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    expect(starts(wrong)).toHaveLength(1)
    expect(over).toBe(false)
    ending.abort()
    expect(await running).toEqual(
      new Map([
        [steady, 0],
        [wrong, EXIT.configuration],
      ]),
    )
  })
})
