import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'

/** Everything a command may touch of the process it runs in; tests pass their own. */
export interface CliEnvironment {
  readonly stdin: NodeJS.ReadStream
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly clock: Clock
  readonly random: Random
  /** Aborts on SIGINT, SIGTERM or SIGHUP. */
  readonly signal: AbortSignal
  /** The exit code the process ends with, where a command ends well but says more than "done". */
  setExitCode(code: number): void
  /** Tells of each SIGUSR2; returns what ends that. */
  onNudge?(listener: () => void): () => void
}
