/**
 * The long form of the starts and stops: two of our gateways at stand-in SiteAgents in one process, the racing calls in
 * any order. `npm run nightly:start-stop -- [--program cpp|java] [--cycles 1000]`. The memory after the last cycle is
 * compared with that after the first tenth. Everything runs in this one process, stand-ins included: `nightly:cycles`
 * measures the gateways alone. At Java sites 200 cycles left 40 kB each; what of that is the log that the lab kept, and
 * what is ours, was not measured, so the bound leaves room for it. Exit code 0 where all held.
 */
import { parseArgs } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { closeDummyLab } from '../gateway/support/dummy-lab.js'
import { cppCycles, javaCycles, type Cycle } from '../standin/cycles.js'

const { values } = parseArgs({
  options: { program: { type: 'string', default: 'cpp' }, cycles: { type: 'string', default: '1000' } },
})
const cycles = Number(values.cycles)
/** The stand-ins keep every key for comparison: so much may remain for each. */
const bytesPerKey = 400
const slackBytes = 16 * 1024 * 1024
const bytesPerJavaCycle = 48 * 1024

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

let differences = 0
let early: { heapBytes: number; keys: number } | undefined
let late: { heapBytes: number; keys: number } | undefined

function heap(keys: number): { heapBytes: number; keys: number } {
  collect()
  return { heapBytes: process.memoryUsage().heapUsed, keys }
}

function onCycle({ number, keys, equal }: Cycle): void {
  if (!equal) {
    differences += 1
    process.stderr.write(`cycle ${number}: the sites differ at ${keys.join(' and ')} keys\n`)
  }
  if (number % Math.max(1, Math.floor(cycles / 10)) === 0) {
    late = heap(keys[0] + keys[1])
    early ??= late
    const mib = (late.heapBytes / 1024 ** 2).toFixed(1)
    process.stderr.write(`${number}/${cycles} cycles, ${keys.join(' and ')} keys, heap ${mib} MiB\n`)
  }
}

await (values.program === 'java' ? javaCycles : cppCycles)(cycles, onCycle)
await closeDummyLab()
const grownBytes = (late?.heapBytes ?? 0) - (early?.heapBytes ?? 0)
// Java sites number anew in each session, and keep no key of an earlier one.
const mayRemainBytes =
  values.program === 'java' ? bytesPerJavaCycle * cycles : bytesPerKey * ((late?.keys ?? 0) - (early?.keys ?? 0))
const allowedBytes = slackBytes + mayRemainBytes
const flat = grownBytes <= allowedBytes
process.stdout.write(
  `${JSON.stringify({ program: values.program, cycles, differences, grownBytes: late === undefined ? null : grownBytes })}\n`,
)
if (!flat) process.stderr.write(`memory grew by ${grownBytes} bytes, ${allowedBytes} were allowed\n`)
process.exitCode = differences === 0 && flat ? 0 : 1
