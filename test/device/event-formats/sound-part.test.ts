import { describe, expect, it } from 'vitest'
import { eventValue, valueBytes, valueText } from '../../../src/device/event-formats/event-values.js'
import type { FormatName } from '../../../src/device/event-formats/format-names.js'
import { noxDetection } from '../../../src/device/event-formats/nox.js'
import { decodeStream } from '../../../src/device/event-formats/open-stream.js'
import { bytesOfClicks, randomClicks, seeded } from './tdc1-streams.js'

const CLICKS = 3_000

/** Bytes that are no records; as text, digits that are no times. */
function noise(length: number, random: () => number, isText: boolean): Uint8Array {
  if (!isText) return Uint8Array.from({ length }, () => Math.floor(random() * 256))
  const digit = (): string => Math.floor(random() * 16).toString(16)
  const lines = Array.from({ length: length / 17 }, () => `${Array.from({ length: 16 }, digit).join('')}\n`)
  return Buffer.from(lines.join(''))
}

const FORMATS: readonly [FormatName, (random: () => number) => Uint8Array][] = [
  ['tdc1', (random) => bytesOfClicks(randomClicks(CLICKS, 20_000, random))],
  ...(['a1X', 'a2'] as const).map((format): [FormatName, (random: () => number) => Uint8Array] => [
    format,
    (random) => {
      const made = randomClicks(CLICKS, 20_000, random)
      const values = made.map(({ tick, pattern }) => eventValue(BigInt(tick) * 512n + 7n, pattern))
      return format === 'a2' ? Buffer.from(valueText(values, 'a2')) : valueBytes(values, 'highFirst')
    },
  ]),
  ['nox', () => Buffer.concat(Array.from({ length: CLICKS }, (_, i) => noxDetection(i * 5_000_000, i & 3)))],
]

async function decode(format: FormatName, ...parts: Uint8Array[]): Promise<{ spanPs: number; told?: string }> {
  const chunks = (async function* () {
    yield* parts
  })()
  const { summary } = await decodeStream(chunks, { name: 'x', format })
  const told = summary.notes.find((note) => note.startsWith('from about byte'))
  return { spanPs: Number(summary.spanPs), ...(told === undefined ? {} : { told }) }
}

describe.each(FORMATS)('a recording with something else behind it: %s', (format, make) => {
  it('is said to be one, with the place where to cut it, and has its true span when it is cut there', async () => {
    for (let seed = 1; seed <= 10; seed += 1) {
      const random = seeded(seed)
      const sound = make(random)
      const { spanPs, told: ofSound } = await decode(format, sound)
      expect(ofSound).toBeUndefined()
      const { told } = await decode(format, sound, noise(2_040, random, format === 'a2'))
      const bytes = Number(/\(head -c (\d+)\)/.exec(told ?? '')?.[1])
      expect(bytes).toBeLessThanOrEqual(sound.length)
      expect(bytes).toBeGreaterThan(sound.length - 1_536)
      const cut = await decode(format, sound.subarray(0, bytes))
      expect(cut.told).toBeUndefined()
      expect(cut.spanPs).toBeLessThanOrEqual(spanPs)
      expect(cut.spanPs).toBeGreaterThan(0.85 * spanPs)
      expect(told).toContain(`span ${(cut.spanPs / 1e12).toFixed(9)} s`)
    }
  })

  it('is none where only a place in its middle is damaged', async () => {
    const random = seeded(3)
    const sound = make(random)
    const place = Math.floor(sound.length / 2 / 136) * 136
    const damaged = Uint8Array.from(sound)
    damaged.set(noise(272, random, format === 'a2'), place)
    expect(await decode(format, damaged)).not.toHaveProperty('told')
  })
})
