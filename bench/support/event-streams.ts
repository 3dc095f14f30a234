/** Streams of every format that is replayed, of the same detections, made for the measurement. */
import { encodeCqpList, encodeQutag } from '../../src/device/event-formats/channel-lists.js'
import { encodeT1, encodeT2 } from '../../src/device/event-formats/epoch-tags.js'
import { eventValue, valueBytes, valueText } from '../../src/device/event-formats/event-values.js'
import type { FormatName } from '../../src/device/event-formats/format-names.js'
import { labviewLine } from '../../src/device/event-formats/labview-text.js'

/** Mean step of 1.2 million events a second, in ns. */
const MEAN_STEP_NS = 833
const LINES_A_SNAPSHOT = 1_500

function timesNs(count: number): number[] {
  const times: number[] = []
  let timeNs = 0
  let state = 1
  for (let i = 0; i < count; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    timeNs += 1 + ((state >>> 8) % (2 * MEAN_STEP_NS))
    times.push(timeNs)
  }
  return times
}

/** Each from its newest line to its oldest, as the program writes them. */
function snapshots(lines: readonly string[]): string {
  const parts: string[] = []
  for (let at = 0; at < lines.length; at += LINES_A_SNAPSHOT) {
    parts.push(...lines.slice(at, at + LINES_A_SNAPSHOT).toReversed())
  }
  return parts.join('')
}

/** `count` detections in each format. */
export function eventStreams(count: number): readonly { format: FormatName; bytes: Uint8Array }[] {
  const times = timesNs(count)
  const pattern = (i: number): number => 1 << (i & 3)
  const values = times.map((ns, i) => eventValue(BigInt(ns) * 256n, pattern(i)))
  const text = (content: string): Uint8Array => Buffer.from(content)
  const epoch = { epoch: 5, extended: false }
  const detections = times.map((ns, i) => ({ timePs: BigInt(ns) * 1_000n, qubit: i & 3, channel: 1 + (i & 3) }))
  return [
    { format: 'a0', bytes: text(valueText(values, 'a0')) },
    { format: 'a1', bytes: valueBytes(values, 'lowFirst') },
    { format: 'a1X', bytes: valueBytes(values, 'highFirst') },
    { format: 'a2', bytes: text(valueText(values, 'a2')) },
    { format: 't1', bytes: encodeT1(epoch.epoch, epoch.extended, values) },
    {
      format: 't2',
      bytes: encodeT2(
        { ...epoch, order: 17, baseBits: 4, protocol: 0 },
        times.map((ns, i) => ({ time: 8 * ns, base: pattern(i) })),
      ),
    },
    { format: 'qutag', bytes: encodeQutag(detections) },
    { format: 'cqp', bytes: encodeCqpList(detections) },
    { format: 'labview', bytes: text(snapshots(times.map((ns, i) => labviewLine(ns, pattern(i))))) },
  ]
}
