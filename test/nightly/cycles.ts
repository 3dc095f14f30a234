/**
 * npm run nightly:cycles -- --cycles 1000
 *
 * Starts and stops of a link between two sites of real processes, without a fault, at SiteAgents of each kind in turn
 * (C++, its fork with the other numbering of registrations, Java). The calls that race at a start come in a random order.
 * stdout: one JSON document, the memory of both gateways in it. Exit code 0 only if the keys were equal each time and memory
 * stayed; 13 where keys differed, 11 for the rest.
 */
import { parseArgs } from 'node:util'
import { EXIT } from '../../src/base/error-codes.js'
import { Cycles, type CyclesResult } from './soak/cycles.js'
import { Stuck } from './soak/waiting.js'

const programs = ['cpp', 'fork', 'java'] as const
/** Growth that a run of 1,000 cycles may show; less is the noise of a garbage-collected heap. */
const flatKibPerThousand = 8_192
/** Fewer cycles tell nothing of a trend. */
const trendFrom = 200

const { values } = parseArgs({
  options: {
    cycles: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    rate: { type: 'string', default: '200' },
    program: { type: 'string', multiple: true, default: [...programs] },
    // Arguments of Node, one each: --command=--import --command=tsx --command=src/cli/main.ts
    // A small heap is cleaned up often: what then grows is not merely waiting to be cleaned up.
    command: { type: 'string', multiple: true, default: ['--max-old-space-size=64', 'dist/src/cli/main.js'] },
    verbose: { type: 'boolean', default: false },
  },
})
const stop = new AbortController()
for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => stop.abort(new Error(name)))
const write = (text: string): void => void process.stderr.write(`${text}\n`)

const results: CyclesResult[] = []
process.exitCode = EXIT.ok
try {
  for (const name of values.program) {
    const program = programs.find((known) => known === name)
    if (program === undefined) throw new Error(`--program ${name}: one of ${programs.join(', ')}`)
    const cycles = new Cycles({
      ...{ program, cycles: Number(values.cycles), seed: Number(values.seed), keysPerSecond: Number(values.rate) },
      ...{ command: values.command, signal: stop.signal, progress: write },
      trace: values.verbose ? write : () => {},
    })
    const result = await cycles.run()
    results.push(result)
    const { A, B } = result.memory
    if (result.mismatches > 0) process.exitCode = EXIT.keysDiffer
    else if (
      result.cycles >= trendFrom &&
      Math.max(A.slopeKibPerThousand, B.slopeKibPerThousand) > flatKibPerThousand
    ) {
      write(`${program}: memory grows`)
      if (process.exitCode === EXIT.ok) process.exitCode = EXIT.checkFailed
    }
  }
} catch (error) {
  write(error instanceof Stuck ? error.message : String(error instanceof Error ? error.stack : error))
  process.exitCode = stop.signal.aborted ? 130 : EXIT.checkFailed
}
process.stdout.write(`${JSON.stringify(results, undefined, 2)}\n`)
setTimeout(() => process.exit(), 500).unref()
