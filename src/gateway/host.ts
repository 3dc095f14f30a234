import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'

/** What the gateway is given of the process it runs in; the command line's environment is one. */
export interface HostProcess {
  readonly stdin: NodeJS.ReadStream
  readonly stderr: NodeJS.WriteStream
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly random: Random
  /** Aborts when the gateway is asked to end. */
  readonly signal: AbortSignal
  /** Tells of each wish to try again now (SIGUSR2); returns what ends that. Absent: nobody can wish. */
  readonly onNudge?: (listener: () => void) => () => void
}
