import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DeliveryRate, kmsForecast } from '../../src/gateway/kms-forecast.js'

const at = (delivered: bigint, keysPerSecond: number, bytesPerKey = 32) =>
  kmsForecast({ delivered, keysPerSecond, bytesPerKey })

describe('when the KMS hands out its first key', () => {
  it('is 17 minutes after the start at 1 kbit/s, and 10 s at the rate of a Dummy pair', () => {
    expect(at(0n, 1_000 / 256)).toEqual({
      sentence:
        "OpenQKDNetwork's KMS hands out its first key after 4,096 keys (131 kB): 0 went out; at 1.0 kbit/s the rest takes about 17 min",
      facts: { neededKeys: 4096, deliveredKeys: '0', keysPerSecond: 3.91, firstKey: 'coming', firstKeyInS: 1049 },
    })
    expect(at(0n, 390.6).facts).toMatchObject({ firstKeyInS: 11 })
  })

  it('counts what went out already', () => {
    expect(at(3_072n, 2).sentence).toMatch(/: 3,072 went out; at 512 bit\/s the rest takes about 9 min$/)
    expect(at(4_095n, 100).facts).toMatchObject({ firstKeyInS: 1 })
  })

  it('is unknown while no keys go out', () => {
    for (const rate of [0, -1, NaN, Infinity]) {
      expect(at(12n, rate).sentence).toMatch(/4,096 keys \(131 kB\): 12 went out, and none go out now$/)
      expect(at(12n, rate).facts).not.toHaveProperty('firstKeyInS')
    }
  })

  it('has been where enough went out', () => {
    expect(at(4_096n, 0)).toMatchObject({ facts: { firstKey: 'ready', firstKeyInS: 0 } })
    expect(at(10n ** 12n, 5).sentence).toContain('has had the 4,096 keys (131 kB)')
  })

  it('never comes with keys of another length than 32 bytes', () => {
    expect(at(5_000n, 5, 16)).toMatchObject({
      sentence: "OpenQKDNetwork's KMS reads keys of 32 bytes only, and these have 16: it will not get a right one",
      facts: { firstKey: 'never' },
    })
  })

  it('says days where it takes days, and is never later with more keys or a higher rate', () => {
    expect(at(0n, 0.01).sentence).toMatch(/at 2\.6 bit\/s the rest takes about 5 days$/)
    const seconds = (delivered: number, rate: number): number =>
      Number(at(BigInt(delivered), rate).facts['firstKeyInS'])
    fc.assert(
      fc.property(fc.nat(4_095), fc.double({ min: 1e-6, max: 1e6, noNaN: true }), (delivered, rate) => {
        expect(seconds(delivered + 1, rate)).toBeLessThanOrEqual(seconds(delivered, rate))
        expect(seconds(delivered, rate * 2)).toBeLessThanOrEqual(seconds(delivered, rate))
      }),
    )
  })
})

describe('the rate of delivery', () => {
  /** Keys at a steady pace from second 0 to the end, noted as they come. */
  function steady(keysPerSecond: number, seconds: number): DeliveryRate {
    const rate = new DeliveryRate()
    const keys = Math.floor(keysPerSecond * seconds)
    for (let key = 0; key <= keys; key += 1) rate.note({ atMs: (key * 1_000) / keysPerSecond, delivered: BigInt(key) })
    return rate
  }

  it.each([0.02, 0.5, 3.9, 781])('of %d keys a second is found', (keysPerSecond) => {
    const seconds = Math.max(60, 4 / keysPerSecond)
    const delivered = BigInt(Math.floor(keysPerSecond * seconds))
    const found = steady(keysPerSecond, seconds).keysPerSecond({ atMs: seconds * 1_000, delivered })
    expect(found / keysPerSecond).toBeGreaterThan(0.9)
    expect(found / keysPerSecond).toBeLessThan(1.1)
  })

  it('is none before there are keys, in the first second, and after keys have stopped', () => {
    expect(new DeliveryRate().keysPerSecond({ atMs: 5_000, delivered: 0n })).toBe(0)
    expect(steady(10, 0.5).keysPerSecond({ atMs: 500, delivered: 5n })).toBe(0)
    const rate = steady(10, 60)
    expect(rate.keysPerSecond({ atMs: 70_000, delivered: 600n })).toBeGreaterThan(8)
    expect(rate.keysPerSecond({ atMs: 95_000, delivered: 600n })).toBe(0)
  })

  it('follows a change within its five minutes', () => {
    const rate = new DeliveryRate()
    let delivered = 0n
    for (let second = 0; second <= 1_200; second += 1) {
      delivered += second < 600 ? 100n : 1n
      rate.note({ atMs: second * 1_000, delivered })
    }
    expect(rate.keysPerSecond({ atMs: 1_200_000, delivered })).toBeCloseTo(1, 1)
  })

  it('is none while the device gives keys and nobody takes them', () => {
    const rate = new DeliveryRate()
    for (let second = 0; second < 100; second += 1) rate.note({ atMs: second * 1_000, delivered: 7n })
    expect(rate.keysPerSecond({ atMs: 100_000, delivered: 7n })).toBe(0)
  })
})
