import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  describeFailure,
  HealthTests,
  proportionCutoff,
  repetitionCutoff,
  STARTUP_SAMPLES,
} from '../../src/device/random-health.js'
import { seededRandom } from '../drivers/support/pair.js'

describe('the health tests of SP 800-90B', () => {
  it('have the cutoffs that the standard lists for a false alarm in 2^20', () => {
    expect([0.2, 0.4, 0.6, 0.8, 1].map((bits) => proportionCutoff(1_024, bits, 2 ** -20))).toEqual([
      941, 840, 748, 664, 589,
    ])
    expect([0.5, 1, 2, 4, 8].map((bits) => proportionCutoff(512, bits, 2 ** -20))).toEqual([410, 311, 177, 62, 13])
    expect(repetitionCutoff(1, 2 ** -30)).toBe(31)
    expect(repetitionCutoff(4, 2 ** -30)).toBe(9)
  })

  it('pass a good source and its start-up', () => {
    const tests = new HealthTests({ entropyBits: 4 })
    const random = seededRandom(77)
    expect(tests.started).toBe(false)
    for (let i = 0; i < 100; i += 1) expect(tests.push(random.bytes(1_000))).toBeUndefined()
    expect(tests.started).toBe(true)
  })

  it.each([0, 255, 0x5a])('stop a source that is stuck at %d within a few samples', (value) => {
    const tests = new HealthTests({ entropyBits: 4 })
    const failure = tests.push(new Uint8Array(100).fill(value))
    expect(failure).toMatchObject({ test: 'repetitionCount', value, count: 9 })
    expect(tests.samples).toBe(9)
    expect(failure && describeFailure(failure)).toContain('9 times in a row')
  })

  it('stop a source that says one value too often, though never in a row', () => {
    const tests = new HealthTests({ entropyBits: 4 })
    const samples = Uint8Array.from({ length: 512 }, (_, i) => (i % 4 === 0 ? 9 : 100 + (i % 97)))
    expect(tests.push(samples)).toMatchObject({ test: 'adaptiveProportion', value: 9, window: 512 })
  })

  it('look at single bits too', () => {
    const tests = new HealthTests({ entropyBits: 0.5, sampleBits: 1 })
    expect(tests.window).toBe(1_024)
    expect(tests.push(new Uint8Array(200).fill(0xfe))).toMatchObject({ value: 0, count: 61 })
  })

  it('keep the first failure until they are reset', () => {
    const tests = new HealthTests({ entropyBits: 4 })
    const failure = tests.push(new Uint8Array(20))
    expect(tests.push(seededRandom(1).bytes(5_000))).toBe(failure)
    expect(tests.started).toBe(false)
    tests.reset()
    expect(tests.push(seededRandom(1).bytes(STARTUP_SAMPLES))).toBeUndefined()
    expect(tests.started).toBe(true)
  })

  it('find the same however the samples are cut up', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3_000 }), fc.integer({ min: 1, max: 50 }), (samples, step) => {
        const [whole, parts] = [
          new HealthTests({ entropyBits: 2, falseAlarm: 2 ** -6 }),
          new HealthTests({ entropyBits: 2, falseAlarm: 2 ** -6 }),
        ]
        whole.push(samples)
        for (let at = 0; at < samples.length; at += step) parts.push(samples.subarray(at, at + step))
        expect(parts.push(new Uint8Array(0))).toEqual(whole.push(new Uint8Array(0)))
        expect(parts.samples).toBe(whole.samples)
      }),
      { numRuns: 50 },
    )
  })

  it('refuse a claim that cannot be', () => {
    expect(() => new HealthTests({ entropyBits: 0 })).toThrow(RangeError)
    expect(() => new HealthTests({ entropyBits: 2, sampleBits: 1 })).toThrow(RangeError)
  })
})
