/**
 * npm run soak -- --cycles 1000 --seed 7 --json
 *
 * Two sites of real processes (gateways, emulated devices, SSH servers, SiteAgents). A cycle is one start of the link and
 * one stop or death at a random moment. After each the two SiteAgents must hold the same keys in the same order, but for
 * one batch that is owed, or a gateway must say which key is the first that differs. stdout: one JSON document with
 * --json, a small table without; progress on stderr.
 *
 * Exit codes: 0 held, 13 the stores differed and nobody said so, 11 the link did not come back, 2 usage.
 */
import { parseArgs } from 'node:util'
import { EXIT } from '../../src/base/error-codes.js'
import { messageOf } from '../../src/base/errors.js'
import { Soak, type SoakResult } from './soak/soak.js'
import { Stuck } from './soak/waiting.js'

/** At both sites, or left + right. */
const programs = ['cpp', 'fork', 'java', 'cpp+java', 'java+cpp'] as const

function usage(text: string): never {
  process.stderr.write(
    `${text}\nnpm run soak -- [--cycles N] [--seed S] [--program ${programs.join('|')}] [--rate KEYS_PER_SECOND] [--verbose] [--json]\n`,
  )
  process.exit(EXIT.usage)
}

function options() {
  try {
    const { values } = parseArgs({
      options: {
        cycles: { type: 'string', default: '100' },
        seed: { type: 'string', default: '1' },
        program: { type: 'string', default: 'cpp' },
        rate: { type: 'string', default: '100' },
        // Arguments of Node, one each: --command=--import --command=tsx --command=src/cli/main.ts
        command: { type: 'string', multiple: true, default: ['dist/src/cli/main.js'] },
        verbose: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
    })
    return values
  } catch (error) {
    return usage(messageOf(error))
  }
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text)
  return Number.isSafeInteger(value) && value >= least
    ? value
    : usage(`--${name} ${text}: a whole number from ${least}`)
}

function table(result: SoakResult): string {
  return Object.entries(result)
    .map(([name, value]) => `${name.padEnd(16)} ${String(value).padStart(9)}`)
    .join('\n')
}

const given = options()
const program = programs.find((name) => name === given.program) ?? usage(`--program ${given.program}: unknown`)
const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => stop.abort(new Error(name)))

const startedAtMs = performance.now()
const write = (text: string): void => {
  const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(1)
  process.stderr.write(`${seconds.padStart(7)} s  ${text}\n`)
}
const soak = new Soak({
  cycles: wholeNumber('cycles', given.cycles, 1),
  seed: wholeNumber('seed', given.seed, 0),
  program,
  keysPerSecond: wholeNumber('rate', given.rate, 1),
  command: given.command,
  signal: stop.signal,
  progress: write,
  trace: given.verbose ? write : () => {},
})
try {
  await soak.run()
  process.exitCode = soak.result.mismatches > 0 ? EXIT.keysDiffer : EXIT.ok
} catch (error) {
  if (stop.signal.aborted) process.exitCode = 130
  else {
    write(error instanceof Stuck ? error.message : String(error instanceof Error ? error.stack : error))
    process.exitCode = soak.result.mismatches > 0 ? EXIT.keysDiffer : EXIT.checkFailed
  }
}
process.stdout.write(given.json ? `${JSON.stringify(soak.result)}\n` : `${table(soak.result)}\n`)
// A SiteAgent's connection or a timer that is still winding down must not keep the program.
setTimeout(() => process.exit(), 500).unref()
