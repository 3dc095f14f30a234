import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { X509Certificate } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { Command } from 'commander'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import type { CliEnvironment } from '../../src/cli/environment.js'
import { addKeysCommand } from '../../src/cli/keys.js'

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qkd-gw-test-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

async function keys(...args: string[]): Promise<string> {
  const stdout = new PassThrough()
  const env: CliEnvironment = {
    stdin: process.stdin,
    stdout: Object.assign(stdout, { fd: 1 as const }) as unknown as NodeJS.WriteStream,
    stderr: process.stderr,
    env: {},
    cwd: folder,
    clock: systemClock,
    random: systemRandom,
    signal: new AbortController().signal,
    setExitCode: () => {},
  }
  const program = new Command().exitOverride()
  addKeysCommand(program, env)
  await program.parseAsync(['keys', ...args], { from: 'user' })
  return String(stdout.read() ?? '')
}

it('keys init makes certificates for the hosts named and says what goes where', async () => {
  const text = await keys('init', '--site', 'A=45.55.2.5,site-a.example', '--site', 'B=45.55.9.1')
  expect(text).toContain('siteCertificates = ["A-site-agent"]')
  expect(text).toContain('peerCertificates = ["B-gateway"]')
  expect(text).toContain('"certChainFile"')
  const pem = await readFile(join(folder, 'qkd-keys', 'A-gateway.crt'))
  const certificate = new X509Certificate(pem)
  expect(certificate.checkIP('45.55.2.5')).toBe('45.55.2.5')
  expect(certificate.checkHost('site-a.example')).toBe('site-a.example')
  expect(certificate.checkIP('45.55.9.1')).toBeUndefined()
  const authority = new X509Certificate(await readFile(join(folder, 'qkd-keys', 'ca.crt')))
  expect(authority.ca).toBe(true)
  expect(certificate.verify(authority.publicKey)).toBe(true)
})

it('keys init tells a machine which files it made, and a person what is wrong with a site', async () => {
  const made: unknown = JSON.parse(await keys('init', '--site', 'A=h', '--folder', 'f', '--json'))
  expect(made).toMatchObject({ authority: { certificate: join(folder, 'f', 'ca.crt') }, sites: [{ name: 'A' }] })
  await expect(keys('init', '--site', 'A')).rejects.toThrow('--site "A" is no name=host')
  await expect(keys('init', '--site', 'A=h', '--folder', 'f')).rejects.toThrow('is there already')
})
