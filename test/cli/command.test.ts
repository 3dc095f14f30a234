import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import { EXIT } from '../../src/base/error-codes.js'
import { killCommands, runCli, startCli } from '../support/cli.js'

afterEach(killCommands)

const root = new URL('../../', import.meta.url)

describe('qkd-gw', () => {
  it('lists its commands with examples and every exit code, and says its version', async () => {
    const help = await runCli(['--help'])
    expect(help.code).toBe(0)
    for (const name of [
      'attach',
      'status',
      'devices',
      'demo',
      'emulate',
      'site',
      'tunnel',
      'config',
      'decode',
      'trace',
    ]) {
      expect(help.stdout).toMatch(new RegExp(`^ +${name}\\b`, 'm'))
    }
    for (const code of Object.values(EXIT)) expect(help.stdout).toMatch(new RegExp(`[ ,\\n]${code} [a-z]`))
    const { version } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { version: string }
    expect((await runCli(['--version'])).stdout.trim()).toBe(version)
  })

  it('says of attach what the listener on the server is, what GatewayPorts does, and what ends it', async () => {
    const { code, stdout } = await runCli(['attach', '--help'])
    expect(code).toBe(0)
    for (const text of ['--remote-listen', 'GatewayPorts', '--control-address', 'A_B_A', '--baud', '9000']) {
      expect(stdout).toContain(text)
    }
  })

  it.each([
    ['an unknown command', ['atach'], /attach/],
    ['a missing argument', ['emulate'], /driver/],
    ['a count that is none', ['demo', '--keys', 'many'], /--keys many/],
    ['--json without --keys', ['demo', '--json'], /--keys/],
  ])('answers %s with exit code 2 and nothing on stdout', async (_name, args, hint) => {
    const { code, stdout, stderr } = await runCli(args)
    expect(stderr).toMatch(hint)
    expect(stdout).toBe('')
    expect(code).toBe(2)
  })

  it('ends in order where the signal is passed on to it a second time, as npx does', async () => {
    const emulator = startCli(['emulate', 'qix', '--json'])
    await emulator.line('it is there', ({ event }) => (event === 'ready' ? true : undefined))
    emulator.kill('SIGINT')
    emulator.kill('SIGTERM')
    expect(await emulator.ended).toMatchObject({ code: 0, signal: null })
    expect(emulator.lines().at(-1)).toMatchObject({ event: 'stopped' })
  })

  it('ends in order where its terminal is closed', async () => {
    const emulator = startCli(['emulate', 'qix', '--json'])
    await emulator.line('it is there', ({ event }) => (event === 'ready' ? true : undefined))
    emulator.kill('SIGHUP')
    expect(await emulator.ended).toMatchObject({ code: 0, signal: null })
    expect(emulator.lines().at(-1)).toMatchObject({ event: 'stopped' })
  })

  it('ends quietly when its reader has gone away', async () => {
    const main = fileURLToPath(new URL('dist/src/cli/main.js', root))
    const child = spawn('sh', ['-c', '"$0" "$1" config schema | head -c 10; exit 0', process.execPath, main])
    let complaint = ''
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()))
    await once(child, 'close')
    expect(complaint).toBe('')
  })
})
