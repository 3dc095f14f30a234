import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { findEntry } from '../../src/device/catalogue.js'
import type { TraceFactory, TracePiece } from '../../src/device/trace-contract.js'
import { type Bench, DRIVER_CASES, startBench } from './support/every-driver.js'

/** What a trace of each shows, and whether some of it is hidden. */
const SHOWN: Readonly<Record<string, { labels: readonly RegExp[]; hides: boolean }>> = {
  qix: { labels: [/^frame \d+, ok$/], hides: true },
  tdc1: { labels: [/^command$/, /^answer$/, /records, \d+ of them dummies$/], hides: true },
  nox: { labels: [/^set up W$/, /^stop$/, /^set up E$/, /^start$/], hides: false },
  'led-emitter': { labels: [/^settings: 10 MHz, 7 ns$/], hides: false },
  qcicada: {
    labels: [/^stop$/, /^ask for information$/, /^information$/, /^start, 8192 bytes$/, /^8192 random bytes$/],
    hides: true,
  },
  swiftrng: {
    labels: [/^version: V2.0$/, /^ask for random bytes$/, /^16000 random bytes$/, /^status 0$/],
    hides: true,
  },
  truerng: { labels: [/random bytes$/], hides: true },
  'counter-cc1': { labels: [/^command FIRM\?$/, /^answer: Firmware v/, /^answer: \d/], hides: false },
  'counter-abacus': { labels: [/^\*IDN\?$/, /^identity: Tausand/, /^read AB$/, /^AB = \d+$/], hides: false },
}
const CASES = DRIVER_CASES.filter(({ driver }) => driver in SHOWN)

async function traceOf(driver: string): Promise<TraceFactory> {
  const factory = await findEntry(driver).loadTrace?.()
  if (factory === undefined) throw new Error(`${driver} has no trace`)
  return factory
}

let bench: Bench | undefined
afterEach(async () => {
  await bench?.stop()
  bench = undefined
})

describe.each(CASES)('a trace of $driver', (chosen) => {
  it('shows what is said in both directions and hides what is secret', async () => {
    const decoder = (await traceOf(chosen.driver)).createDecoder()
    const { labels = [], hides = false } = SHOWN[chosen.driver] ?? {}
    const pieces: TracePiece[] = []
    let look = (): void => {}
    const complete = new Promise<void>((resolve) => {
      look = () => {
        if (labels.every((label) => pieces.some((piece) => label.test(piece.label)))) resolve()
      }
    })
    bench = await startBench(chosen, {
      bytes(direction, bytes) {
        pieces.push(...decoder.push(direction, Uint8Array.from(bytes)))
        look()
      },
      note: () => {},
    })
    await complete
    expect(pieces.some(({ parts }) => parts.some(({ secret }) => secret))).toBe(hides)
    for (const { label, parts } of pieces) {
      if (/random bytes$/.test(label) && !label.startsWith('ask'))
        expect(parts.every(({ secret }) => secret)).toBe(true)
    }
  })

  it('gives every byte back exactly once, whatever was said and however it was cut', async () => {
    const factory = await traceOf(chosen.driver)
    const said = fc.tuple(
      fc.constantFrom('rx' as const, 'tx' as const),
      fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 40 }),
        fc
          .constantFrom('x', 'v', '*IDN?', 'FIRM?\n', '12\r\n', '\x01', '\x04\x01\x05\x00', '\x11\x01\x05\x00\x00\x00')
          .map((text) => Uint8Array.from(Buffer.from(text, 'latin1'))),
      ),
    )
    fc.assert(
      fc.property(fc.array(said, { maxLength: 12 }), (chunks) => {
        const decoder = factory.createDecoder()
        const pieces = [
          ...chunks.flatMap(([direction, bytes]) => decoder.push(direction, Uint8Array.from(bytes))),
          ...decoder.flush(),
        ]
        const out = pieces.flatMap(({ parts }) => parts.flatMap(({ bytes }) => [...bytes])).sort((a, b) => a - b)
        expect(out).toEqual(chunks.flatMap(([, bytes]) => [...bytes]).sort((a, b) => a - b))
      }),
    )
  })
})
