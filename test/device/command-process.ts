/** Runs one command as a process of its own: `node --import tsx command-process.ts emulate qix …`. TEST_DEVICE_ROOTS: where devices are looked for. */
import { Command } from 'commander'
import { systemClock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { addDevicesCommand } from '../../src/cli/devices.js'
import { addEmulateCommand } from '../../src/cli/emulate.js'
import { exitCodeOf, explain } from '../../src/cli/explain.js'
import { addTraceCommand } from '../../src/cli/trace.js'
import type { DetectionRoots } from '../../src/device/sysfs.js'

const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => stop.abort())
const program = new Command('qkd-gw')
const env = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  cwd: process.cwd(),
  clock: systemClock,
  random: systemRandom,
  signal: stop.signal,
  setExitCode: (code: number) => {
    process.exitCode = code
  },
}
for (const add of [addEmulateCommand, addTraceCommand]) add(program, env)
const roots = process.env['TEST_DEVICE_ROOTS']
addDevicesCommand(program, env, roots === undefined ? {} : { roots: JSON.parse(roots) as DetectionRoots })
try {
  await program.parseAsync(process.argv)
} catch (error) {
  process.stderr.write(explain(error))
  process.exitCode = exitCodeOf(error)
}
setTimeout(() => process.exit(), 200).unref()
