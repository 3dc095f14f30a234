/**
 * Fuzzing of the codecs of drivers that are spoken to: `npx tsx test/nightly/driver-fuzz.ts [inputs] [seed]`, a million
 * inputs by default. Prints one JSON document. Exit code 0 only without a crash, a hang (1 s for one input) or growth.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { fuzzDriverCodecs } from '../drivers/support/codec-fuzz.js'
import { seededRandom } from '../drivers/support/pair.js'

const inputs = Number(process.argv[2] ?? 1_000_000)
const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 2 ** 31))
const LONGEST_INPUT_MS = 1_000
const MOST_GROWTH_BYTES = 32 * 1024 * 1024

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void
const heapBytes = (): number => {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

const random = seededRandom(seed)
const failures: { input: number; reason: string }[] = []
let slowestMs = 0
let heapBefore = 0
const startMs = performance.now()
for (let i = 0; i < inputs && failures.length < 10; i += 1) {
  // The first inputs compile the code.
  if (i === Math.min(20_000, Math.floor(inputs / 2))) heapBefore = heapBytes()
  const begunMs = performance.now()
  try {
    fuzzDriverCodecs(random)
  } catch (error) {
    failures.push({ input: i, reason: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }
  slowestMs = Math.max(slowestMs, performance.now() - begunMs)
}
const growthBytes = heapBytes() - heapBefore
const good = failures.length === 0 && slowestMs < LONGEST_INPUT_MS && growthBytes < MOST_GROWTH_BYTES
const seconds = Math.round((performance.now() - startMs) / 1_000)
process.stdout.write(
  `${JSON.stringify({ good, inputs, seed, seconds, slowestMs: Math.round(slowestMs), growthBytes, failures }, null, 2)}\n`,
)
process.exitCode = good ? 0 : 1
