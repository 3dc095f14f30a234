/** Fuzzing of every codec: hostile bytes in hostile pieces must neither crash, hang nor grow, and nothing is lost uncounted. */
import { GatewayError } from '../../../src/base/errors.js'
import { encodeCqpList, encodeQutag } from '../../../src/device/event-formats/channel-lists.js'
import { detectFormat } from '../../../src/device/event-formats/detect.js'
import { encodeT3, encodeT4, encodeT7 } from '../../../src/device/event-formats/epoch-lists.js'
import { concat, encodeT1, encodeT2 } from '../../../src/device/event-formats/epoch-tags.js'
import { eventValue, valueBytes, valueText } from '../../../src/device/event-formats/event-values.js'
import { FORMAT_NAMES, type FormatName } from '../../../src/device/event-formats/format-names.js'
import { openFormat } from '../../../src/device/event-formats/formats.js'
import { labviewLine } from '../../../src/device/event-formats/labview-text.js'
import { noxConfiguration, noxDetection } from '../../../src/device/event-formats/nox.js'
import { summarize } from '../../../src/device/event-formats/summary.js'
import { bytesOfClicks, randomClicks } from './tdc1-streams.js'

type Random = () => number

const below = (random: Random, limit: number): number => Math.floor(random() * limit)

/** A good stream of a format, of a few dozen records. */
function good(format: FormatName, random: Random): Uint8Array {
  const count = 1 + below(random, 40)
  const clicks = randomClicks(count, 10 ** below(random, 8), random)
  const values = clicks.map(({ tick, pattern }) => eventValue(BigInt(tick) * 512n, pattern, random() < 0.1))
  const text = (content: string): Uint8Array => new TextEncoder().encode(content)
  switch (format) {
    case 'tdc1':
    case 'a4':
      return bytesOfClicks(clicks)
    case 'a0':
    case 'a2':
      return text(valueText(values, format))
    case 'a1':
      return valueBytes(values, 'lowFirst')
    case 'a1X':
      return valueBytes(values, 'highFirst')
    case 't1':
      return encodeT1(below(random, 2 ** 17), random() < 0.5, values)
    case 't2': {
      const entries = clicks.map(({ tick, pattern }) => ({ time: tick % 2 ** 32, base: pattern & 1 }))
      return encodeT2({ epoch: 1, extended: false, order: 2 + below(random, 31), baseBits: 1, protocol: 1 }, entries)
    }
    case 't3':
      return encodeT3(
        1,
        true,
        1 + below(random, 16),
        clicks.map(({ tick }) => tick & 1),
      )
    case 't4':
      return encodeT4(
        { epoch: 1, extended: true, order: 8, baseBits: 4 },
        clicks.map((_, index) => ({ index, base: 1 })),
      )
    case 't7':
      return encodeT7(
        1,
        true,
        1,
        clicks.map(({ tick }) => tick & 1),
      )
    case 'nox':
      return concat([noxConfiguration(), ...clicks.map(({ tick }, i) => noxDetection(tick, i & 3))])
    case 'qutag':
      return encodeQutag(clicks.map(({ tick }, i) => ({ timePs: BigInt(tick), channel: i & 7 })))
    case 'cqp':
      return encodeCqpList(clicks.map(({ tick }, i) => ({ timePs: BigInt(tick), qubit: i & 3 })))
    case 'labview':
      return text(
        clicks
          .map(({ tick, pattern }) => labviewLine(tick, pattern))
          .reverse()
          .join(''),
      )
  }
}

/** Damages a stream: bytes changed, taken out, put in, cut off, or all of it noise. */
function damage(bytes: Uint8Array, random: Random): Uint8Array {
  const damaged = [...bytes]
  const times = below(random, 6)
  for (let i = 0; i < times && damaged.length > 0; i++) {
    const at = below(random, damaged.length)
    switch (below(random, 5)) {
      case 0:
        damaged[at] = below(random, 256)
        break
      case 1:
        damaged.splice(at, 1 + below(random, 9))
        break
      case 2:
        damaged.splice(at, 0, ...Array.from({ length: 1 + below(random, 20) }, () => below(random, 256)))
        break
      case 3:
        damaged.length = at
        break
      case 4:
        for (let k = at; k < damaged.length && k < at + 24; k++) damaged[k] = below(random, 4) === 0 ? 255 : 0
        break
    }
  }
  return Uint8Array.from(damaged)
}

/** One input through one reader (any, unless named) and the telling of formats. Throws where something does not hold. */
export function fuzzOnce(random: Random, named?: FormatName): FormatName {
  const format = named ?? FORMAT_NAMES[below(random, FORMAT_NAMES.length)] ?? 'tdc1'
  const bytes =
    random() < 0.15
      ? Uint8Array.from({ length: below(random, 300) }, () => below(random, 256))
      : damage(good(format, random), random)
  refusing(() => detectFormat(bytes, true, 'fuzz'))
  const opened = openFormat(format, { source: random() < 0.5 ? 'card' : 'tdc1' })
  let detections = 0
  const sink = {
    tags: ({ count }: { count: number }): void => void (detections += count),
  }
  const ended = refusing(() => {
    for (let at = 0; at < bytes.length;) {
      const size = 1 + below(random, 64)
      const piece = Uint8Array.from(bytes.subarray(at, at + size))
      if (opened.kind === 'tags') opened.reader.push(piece, sink)
      else opened.reader.push(piece)
      if (opened.kind === 'tags' && random() < 0.05) opened.reader.flush(sink)
      at += size
    }
    if (opened.kind === 'tags') opened.reader.end(sink)
    else opened.reader.end()
  })
  if (!ended) return format
  const summary = summarize(opened)
  JSON.parse(JSON.stringify(summary))
  const { records, events, dummies } = summary
  if (Number(records) !== Number(events) + Number(dummies))
    throw new Error(`${format}: records are not events and dummies`)
  if (opened.kind === 'tags' && detections > Number(events)) throw new Error(`${format}: more detections than events`)
  const patterns = Object.values(summary.patterns).reduce<number>((sum, count) => sum + Number(count), 0)
  if (patterns !== Number(events)) throw new Error(`${format}: patterns do not add up to events`)
  return format
}

/** True where it ran through; false where it was refused as it should be. */
function refusing(work: () => unknown): boolean {
  try {
    work()
    return true
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'E_FORMAT') return false
    throw error
  }
}
