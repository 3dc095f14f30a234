/** Several gateways on one PC, each a process of its own, under one supervisor. */
import { spawn, type ChildProcess } from 'node:child_process'
import { createBackoff, type Backoff } from '../base/backoff.js'
import { sleep } from '../base/clock.js'
import { EXIT } from '../base/error-codes.js'
import { endsWithStarter } from '../io/starter.js'
import type { Logger } from '../observe/log.js'
import type { HostProcess } from './host.js'

/** Exit codes that no restart can mend. */
const final = new Set<number>([
  ...[EXIT.ok, EXIT.usage, EXIT.configuration, EXIT.hostKeyUnknown, EXIT.hostKeyChanged, EXIT.keyFileUnusable],
  ...[EXIT.notADevice, EXIT.secondInstance, EXIT.unsafeNotAllowed, EXIT.keysOwedAtStop],
])

/** A gateway that ran for so long gets short pauses again. */
const steadyMs = 60_000
/** Gateways end within 5 s of being asked; after this they are killed. */
const stopTimeoutMs = 6_000

function exited(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    child.once('error', () => resolve(EXIT.unexpected))
    child.once('exit', (code) => resolve(code ?? EXIT.unexpected))
  })
}

/**
 * Runs `command attach --config FILE` for each file until the host process is asked to end or nothing is left to run.
 * Resolves with the exit code of each. `command`: program and first arguments.
 */
export async function runSeveral(
  configFiles: readonly string[],
  command: readonly [string, ...string[]],
  host: HostProcess,
  log: Logger,
): Promise<ReadonlyMap<string, number>> {
  const codes = new Map<string, number>()
  await Promise.all(configFiles.map(async (file) => codes.set(file, await keepRunning(file, command, host, log))))
  return codes
}

async function keepRunning(
  configFile: string,
  command: readonly [string, ...string[]],
  host: HostProcess,
  log: Logger,
): Promise<number> {
  const { clock, random, signal } = host
  const backoff: Backoff = createBackoff({ firstMs: 1_000, maxMs: 120_000 }, random)
  const [program, ...args] = command
  for (;;) {
    const startedMs = clock.monotonicMs()
    const child = spawn(program, [...args, 'attach', '--config', configFile], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...host.env, ...endsWithStarter },
      // A group of its own: a Ctrl+C reaches the supervisor alone, which then ends its gateways in order.
      detached: true,
    })
    const kill = (): void => {
      child.kill('SIGTERM')
      const timer = clock.after(stopTimeoutMs, () => child.kill('SIGKILL'))
      child.once('exit', () => timer.cancel())
    }
    if (signal.aborted) kill()
    signal.addEventListener('abort', kill, { once: true })
    const stopListening = host.onNudge?.(() => void child.kill('SIGUSR2'))
    const code = await exited(child)
    stopListening?.()
    signal.removeEventListener('abort', kill)
    if (signal.aborted || final.has(code)) {
      if (!signal.aborted)
        log.error({ configFile, exitCode: code }, `${configFile}: ended with ${code}, which no restart mends`)
      return code
    }
    if (clock.monotonicMs() - startedMs > steadyMs) backoff.reset()
    const pauseMs = backoff.nextMs()
    log.warn(
      { configFile, exitCode: code, pauseMs },
      `${configFile}: ended with ${code}; starting it again in ${(pauseMs / 1_000).toFixed(1)} s`,
    )
    try {
      await sleep(clock, pauseMs, signal)
    } catch {
      return code
    }
  }
}
