import { describe, expect, it } from 'vitest'
import {
  PairLight,
  RandomLight,
  SeededNumbers,
  SquareWave,
  type ClickSource,
} from '../../../drivers/tdc1/click-sources.js'
import { EmulatedUnit } from '../../../drivers/tdc1/emulated-unit.js'
import { Tdc1Reader } from '../../../src/device/event-formats/tdc1-reader.js'
import { tdc1Bytes } from '../../../src/device/event-formats/tdc1-words.js'
import { collect } from '../../device/event-formats/collect.js'
import { pairUp, type Clicks } from '../../device/event-formats/pairing.js'

const MS = 500_000

/** A unit whose output is kept. */
function unitWith(light: () => ClickSource) {
  let said = ''
  const words: number[] = []
  const unit = new EmulatedUnit(
    {
      text: (text) => (said += text),
      words: (more) => words.push(...more),
      flush: () => {},
      clear: () => {},
    },
    light,
  )
  const ask = (text: string, tick = 0): string => {
    said = ''
    unit.hear(Buffer.from(text), tick)
    return said
  }
  return { unit, words, ask, said: () => said }
}

describe('an emulated TDC1', () => {
  it('answers the commands of the real one, in any case, ended by a semicolon or a line end', () => {
    const { ask } = unitWith(() => new SquareWave(1000))
    expect(ask('*idn?;')).toMatch(/TDC1.*\r\n$/)
    expect(ask('STATUS?\r\n')).toBe('0000 \r\n')
    expect(ask('time 40000;TIME?\r\n')).toBe('-25536\r\n')
    expect(ask('pairs;mode?\n')).toBe('1\r\n')
    expect(ask('timestamp;mode?\n')).toBe('3\r\n')
    expect(ask('ttl;level?\n')).toBe('1.000 V\r\n')
    expect(ask('neg -0.3;level?\n')).toBe('-0.300 V\r\n')
    expect(ask('refclk 2;refclk?\n')).toBe('2\r\n')
    expect(ask('help\n').split('\r\n').length).toBeGreaterThan(2)
    expect(ask('nonsense\n')).toBe('Unknown command\r\n')
  })

  it('tags a 2 Hz signal as the real one did: dummies where a half-wrap held nothing', () => {
    const { unit, words, ask } = unitWith(() => new SquareWave(2))
    ask('*RST;TTL;time 1100;timestamp;counts?\r\n', 7 * MS)
    unit.advance(2_000 * MS)
    expect(unit.tagging).toBe(false)
    const reader = new Tdc1Reader()
    expect(collect(reader, tdc1Bytes(words)).times).toEqual([250_000_000n, 500_000_000n])
    expect(words.map((word) => [word >>> 5, word & 31])).toEqual([
      [67_112_824, 17],
      [3960, 17],
      [67_112_824, 17],
      [115_782_272, 1],
      // None at 3960: a click came since the place before.
      [67_112_824, 17],
      [3960, 17],
      [67_112_824, 17],
      [97_346_816, 1],
    ])
  })

  it('counts within its gate, and answers after it', () => {
    const { unit, ask, said } = unitWith(() => new SquareWave(1000))
    expect(ask('time 100;singles;counts?\r\n', 0)).toBe('')
    unit.advance(99 * MS)
    expect(said()).toBe('')
    unit.advance(100 * MS)
    expect(said()).toBe('99 0 0 0\r\n')
  })

  it('marks an overflow in its status until it is reset', () => {
    const { unit, words, ask } = unitWith(() => new SquareWave(1000))
    ask('time 0;timestamp;counts?\n')
    unit.overflow(5)
    unit.advance(20 * MS)
    expect(words).toHaveLength(14)
    expect(ask('abort;status?\n')).toBe('0010 \r\n')
    expect(ask('*rst;status?\n')).toBe('0000 \r\n')
  })
})

describe('emulated light', () => {
  it('comes at the rate asked for, and the same for the same seed', () => {
    const read = (seed: string): number[] => {
      const ticks: number[] = []
      new RandomLight(100_000, new SeededNumbers(seed)).until(1_000 * MS, (tick) => ticks.push(tick))
      return ticks
    }
    expect(read('a').length).toBeGreaterThan(98_500)
    expect(read('a').length).toBeLessThan(101_500)
    expect(read('a')).toEqual(read('a'))
    expect(read('a')).not.toEqual(read('b'))
  })

  it('of a pair is anti-correlated in equal bases, random in others, and shifted by the start of each unit', () => {
    const side = (name: 'alice' | 'bob', zeroUnixMs: number): Clicks => {
      const times: number[] = []
      const patterns: number[] = []
      const light = new PairLight({
        seed: 'pair',
        side: name,
        pairsPerSecond: 50_000,
        efficiency: 0.4,
        darkPerSecond: 300,
        errorShare: 0.03,
        zeroUnixMs,
        clockPpm: 0,
      })
      for (let ms = 5; ms <= 2_000; ms += 5)
        light.until(ms * MS, (tick, pattern) => {
          times.push(tick)
          patterns.push(pattern)
        })
      return { times, patterns }
    }
    const alice = side('alice', 1_700_000_000_000)
    const bob = side('bob', 1_700_000_000_123)
    const found = pairUp(alice, bob, -123 * MS, 2)
    expect(found.coincidences).toBeGreaterThan(13_000)
    expect(found.sifted / found.coincidences).toBeCloseTo(0.5, 1)
    expect(found.errors / found.sifted).toBeCloseTo(0.03, 1)
  })
})
