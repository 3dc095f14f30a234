/** `qkd-gw tunnel` within the test's own process. */
import { PassThrough } from 'node:stream'
import { Command } from 'commander'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import type { CliEnvironment } from '../../src/cli/environment.js'
import { addTunnelCommand } from '../../src/cli/tunnel.js'
import type { CheckStep } from '../../src/tunnel/check-step.js'
import { tempFolder } from './bench-tunnel.js'
import type { RealSshd } from './real-sshd.js'

export async function tunnel(...args: string[]): Promise<{ text: string; exitCode: number | undefined }> {
  const stdout = new PassThrough()
  const folder = tempFolder()
  let exitCode: number | undefined
  const env: CliEnvironment = {
    stdin: process.stdin,
    stdout: Object.assign(stdout, { fd: 1 as const }) as unknown as NodeJS.WriteStream,
    stderr: process.stderr,
    env: { HOME: folder },
    cwd: folder,
    clock: systemClock,
    random: systemRandom,
    signal: new AbortController().signal,
    setExitCode: (code) => (exitCode = code),
  }
  const program = new Command().exitOverride()
  addTunnelCommand(program, env)
  await program.parseAsync(['tunnel', ...args], { from: 'user' })
  return { text: String(stdout.read() ?? ''), exitCode }
}

export async function check(
  sshd: RealSshd,
  ...args: string[]
): Promise<{ steps: CheckStep[]; exitCode: number | undefined }> {
  const { text, exitCode } = await tunnel(
    ...['check', `${sshd.user}@127.0.0.1:${sshd.port}`, '-i', sshd.keyFile, '--known-hosts', sshd.knownHosts],
    ...['--json', ...args],
  )
  return { steps: (JSON.parse(text) as { steps: CheckStep[] }).steps, exitCode }
}
