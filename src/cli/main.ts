#!/usr/bin/env node
import { Command, CommanderError } from 'commander'
import { systemClock } from '../base/clock.js'
import { EXIT } from '../base/error-codes.js'
import { systemRandom } from '../base/random.js'
import { version } from '../base/version.js'
import { whenStarterIsGone } from '../io/starter.js'
import type { CliEnvironment } from './environment.js'
import { exitCodeOf, explain } from './explain.js'
import { commands } from './commands.js'

// What libraries are to change is no user's business: gRPC names a TLS server by its address, of which Node complains.
process.noDeprecation = true

const stop = new AbortController()
let exitCode: number = EXIT.ok

/** Within this the same signal comes again where it is passed on. */
const SAME_SIGNAL_MS = 500
/** Longer than any command needs to end in order. */
const LONGEST_END_MS = 10_000

const nudged = new Set<() => void>()

const env: CliEnvironment = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  cwd: process.cwd(),
  clock: systemClock,
  random: systemRandom,
  signal: stop.signal,
  setExitCode: (code) => {
    exitCode = code
  },
  onNudge(listener) {
    nudged.add(listener)
    return () => nudged.delete(listener)
  },
}

// The first signal asks for a clean end, a closed terminal too; a second one is impatient and gets the abrupt one.
// Programs that start others (npx, timeout) pass on what the terminal told everybody already: that is the first one once
// more.
let askedMs = -Infinity
let terminalIsClosed = false
for (const [name, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const) {
  process.on(name, () => {
    const nowMs = systemClock.monotonicMs()
    if (stop.signal.aborted && nowMs - askedMs > SAME_SIGNAL_MS) process.exit(128 + number)
    if (stop.signal.aborted) return
    askedMs = nowMs
    terminalIsClosed = name === 'SIGHUP' && [process.stdin, process.stdout, process.stderr].some(({ isTTY }) => isTTY)
    stop.abort(new Error(name))
  })
}
// "Try again now". By default it would end the process, also one that is just starting.
process.on('SIGUSR2', () => {
  for (const listener of [...nudged]) listener()
})
whenStarterIsGone(() => stop.abort(new Error('whoever started this is gone')))
// A reader that has gone away (`qkd-gw … | head`) is no fault, and asks what runs to end in order.
let readerIsGone = false
for (const output of [process.stdout, process.stderr]) {
  output.on('error', (error: NodeJS.ErrnoException) => {
    // EIO: the terminal is closed.
    if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error
    if (readerIsGone) return
    readerIsGone = true
    stop.abort(new Error('nobody reads the output'))
    setTimeout(() => process.exit(EXIT.ok), LONGEST_END_MS).unref()
  })
}

const program = new Command('qkd-gw')
  .description('Brings a quantum-key-distribution device on a serial or USB cable into a key network.')
  .version(version)
  .exitOverride()
  .showHelpAfterError('(qkd-gw --help says more)')
  .addHelpText(
    'after',
    `
Examples:
  qkd-gw devices                       what is attached, and what each device is
  qkd-gw attach /dev/ttyUSB0 --driver qix --side alice --id A_B_A \\
         --site-agent 45.55.2.5:8000 --tunnel user@45.55.2.5 -i key.pem
  qkd-gw status                        where each part of the chain stands
  qkd-gw demo                          the whole chain on built-in stand-ins

Exit codes: 0 done, 1 unexpected, 2 usage, 3 configuration, 4 unknown host key, 5 changed host key, 6 unusable key file,
7 no device, 8 already running, 9 unsafe choice not asked for by name, 10 keys owed at stop, 11 a check failed,
12 not running, 13 the sites' keys differ.`,
  )
for (const add of commands) add(program, env)

try {
  await program.parseAsync(process.argv)
} catch (error) {
  if (error instanceof CommanderError) {
    // Help and version are no errors; commander has already written its own text.
    exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
  } else {
    if (!readerIsGone) process.stderr.write(explain(error))
    exitCode = exitCodeOf(error)
  }
}
if (readerIsGone) exitCode = EXIT.ok
process.exitCode = exitCode
// Node itself aborts where it finds no terminal to give back its settings to: the signal's own way out is not disturbed.
if (terminalIsClosed) {
  process.removeAllListeners('SIGHUP')
  process.kill(process.pid, 'SIGHUP')
}
// What a library still holds open (a half-dead socket, a timer) must not keep a finished command from ending.
setTimeout(() => process.exit(exitCode), 500).unref()
