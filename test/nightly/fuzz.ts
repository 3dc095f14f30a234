/**
 * Fuzzing of every codec: `npm run nightly:fuzz [-- INPUTS [SEED [CODEC …]]]`, a million inputs for each by default, of
 * all codecs. Prints one JSON document. Exit code 0 only without a crash, a hang (1 s of work for one input) or growth.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { CATALOGUE } from '../../src/device/catalogue.js'
import { FORMAT_NAMES } from '../../src/device/event-formats/format-names.js'
import { fuzzOnce } from '../device/event-formats/fuzz.js'
import { seeded } from '../device/event-formats/tdc1-streams.js'
import { fuzzDriverCodecs } from '../drivers/support/codec-fuzz.js'
import { seededRandom } from '../drivers/support/pair.js'
import { fuzzTraceDecoder, fuzzWireTrace } from '../drivers/support/trace-fuzz.js'

const LONGEST_INPUT_MS = 1_000
const MOST_GROWTH_BYTES = 32 * 1024 * 1024
/** The first inputs compile the code. */
const WARM_UP = 20_000
const MOST_FAILURES = 10

type Step = (seed: number) => unknown

const codecs = new Map<string, Step>()
for (const format of FORMAT_NAMES) codecs.set(format, (seed) => fuzzOnce(seeded(seed), format))
codecs.set("drivers' codecs", (seed) => fuzzDriverCodecs(seededRandom(seed)))
codecs.set('wire trace', (seed) => fuzzWireTrace(seededRandom(seed)))
for (const entry of CATALOGUE) {
  const factory = await entry.loadTrace?.()
  if (factory === undefined) continue
  codecs.set(`trace ${entry.descriptor.name}`, (seed) => fuzzTraceDecoder(factory.createDecoder(), seededRandom(seed)))
}

const [countText = '1000000', seedText = String(Math.floor(Math.random() * 2 ** 31)), ...names] = process.argv.slice(2)
const inputs = Number(countText)
const firstSeed = Number(seedText)
const unknown = names.find((name) => !codecs.has(name))
if (!Number.isSafeInteger(inputs) || inputs < 1 || !Number.isSafeInteger(firstSeed) || unknown !== undefined) {
  process.stderr.write(`usage: fuzz.ts [INPUTS [SEED [CODEC …]]]; codecs are: ${[...codecs.keys()].join(', ')}\n`)
  process.exit(2)
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void
const heapBytes = (): number => {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

interface Outcome {
  codec: string
  good: boolean
  seconds: number
  slowestMs: number
  growthBytes: number
  failures: { seed: number; reason: string }[]
}

async function run(codec: string, step: Step): Promise<Outcome> {
  const failures: Outcome['failures'] = []
  const warmUp = Math.min(WARM_UP, Math.floor(inputs / 2))
  let slowestMs = 0
  let heapBefore = 0
  const startMs = performance.now()
  for (let i = 0; i < inputs && failures.length < MOST_FAILURES; i += 1) {
    if (i === warmUp) heapBefore = heapBytes()
    const seed = firstSeed + i
    // Work and not time: a run for hours may well be stopped for a while.
    const begun = process.cpuUsage()
    try {
      await step(seed)
    } catch (error) {
      failures.push({ seed, reason: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    }
    const { user, system } = process.cpuUsage(begun)
    slowestMs = Math.max(slowestMs, (user + system) / 1_000)
  }
  const seconds = Math.round((performance.now() - startMs) / 1_000)
  const growthBytes = heapBytes() - heapBefore
  const good = failures.length === 0 && slowestMs < LONGEST_INPUT_MS && growthBytes < MOST_GROWTH_BYTES
  return { codec, good, seconds, slowestMs: Math.round(slowestMs), growthBytes, failures }
}

const outcomes: Outcome[] = []
for (const [codec, step] of codecs) {
  if (names.length > 0 && !names.includes(codec)) continue
  process.stderr.write(`${codec} … `)
  const outcome = await run(codec, step)
  process.stderr.write(`${outcome.good ? 'good' : 'BAD'}, ${outcome.seconds} s\n`)
  outcomes.push(outcome)
}
const good = outcomes.every((outcome) => outcome.good)
process.stdout.write(`${JSON.stringify({ good, inputs, firstSeed, codecs: outcomes }, null, 2)}\n`)
process.exitCode = good ? 0 : 1
