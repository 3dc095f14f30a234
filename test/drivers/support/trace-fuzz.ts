/** Fuzzing steps for what `qkd-gw trace` reads: our own trace files, and the decoders that name what goes over a line. */
import { GatewayError } from '../../../src/base/errors.js'
import type { Random } from '../../../src/base/random.js'
import type { TraceDecoder } from '../../../src/device/trace-contract.js'
import { formatTraceRecord, parseTrace, TRACE_FORMAT } from '../../../src/io/wire-trace.js'
import { driverInput } from './codec-fuzz.js'

const pick = (random: Random, below: number): number => Math.floor(random.fraction() * below)

/** Any bytes in any pieces: every byte comes out once, in its direction's order. Throws where one does not. */
export function fuzzTraceDecoder(decoder: TraceDecoder, random: Random): void {
  const went = { rx: 0, tx: 0 }
  let came = 0
  const count = (pieces: ReturnType<TraceDecoder['flush']>): void => {
    for (const { label, parts } of pieces) {
      if (label === '') throw new Error('a piece without a label')
      for (const { bytes } of parts) came += bytes.length
    }
  }
  for (let i = 1 + pick(random, 6); i > 0; i -= 1) {
    const bytes = driverInput(random)
    const direction = random.fraction() < 0.3 ? 'tx' : 'rx'
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.slice(at, at + 1 + pick(random, 40))
      went[direction] += piece.length
      at += piece.length
      count(decoder.push(direction, piece))
    }
  }
  count(decoder.flush())
  if (came !== went.rx + went.tx) throw new Error(`${went.rx + went.tx} bytes went in, ${came} came out`)
}

/** A damaged trace file: read, or refused with E_FORMAT. */
export async function fuzzWireTrace(random: Random): Promise<void> {
  const lines = [
    JSON.stringify({ format: TRACE_FORMAT, version: 1, startedUnixMs: 1, path: '/dev/x', masked: false }),
    ...Array.from({ length: 1 + pick(random, 6) }, (_, i) =>
      formatTraceRecord({ atUs: 100 * i, direction: i % 2 === 0 ? 'rx' : 'tx', bytes: driverInput(random) }),
    ),
  ]
  const characters = [...lines.join('\n')]
  for (let i = pick(random, 4); i > 0; i -= 1) {
    characters[pick(random, characters.length)] = String.fromCharCode(pick(random, 256))
  }
  characters.length -= pick(random, 5)
  async function* source(): AsyncGenerator<string> {
    yield* characters.join('').split('\n')
  }
  try {
    for await (const item of parseTrace(source(), 'fuzz')) if (item.type === 'header') continue
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'E_FORMAT') throw error
  }
}
