/** Serves a device that yields detections: `ITimeTagService.ReadTimeTags`, opened and shut by `IDetector`. */
import { isTaggingDevice, type Device } from '../device/contract.js'
import type { PairPort, WireTimeTag } from '../rpc/pair-port.js'

/** Tags that wait for one slow reader; beyond it the oldest batch goes, and the reader's stream ends saying so. */
const maxWaitingTags = 2_000_000
/** Most tags of one message; the service allows 100,000. */
const tagsPerMessage = 50_000

interface Batch {
  readonly timesPs: BigUint64Array
  readonly patterns: Uint8Array
}

/** A reader that fell too far behind. Travels as RESOURCE_EXHAUSTED. */
class ReaderTooSlow extends Error {
  override readonly name = 'ReaderTooSlow'
  readonly status = 'resourceExhausted'
}

/**
 * One tag for each input that clicked: channel 0 is input 1. `wanted` empty means every channel.
 */
export function* tagsOf({ timesPs, patterns }: Batch, wanted: ReadonlySet<number>): Generator<WireTimeTag> {
  for (let index = 0; index < patterns.length; index += 1) {
    const pattern = patterns[index] ?? 0
    for (let channel = 0; channel < 8; channel += 1) {
      if ((pattern & (1 << channel)) === 0 || (wanted.size > 0 && !wanted.has(channel))) continue
      yield { channel, timePs: timesPs[index] ?? 0n }
    }
  }
}

export interface TagPort {
  readonly port: PairPort
  /** For status. */
  facts(): { readers: number; detecting: boolean }
}

/** Detections pass from the start; StopDetecting holds them back until StartDetecting. */
export function composeTags(device: Device): TagPort {
  let detecting = true
  let readers = 0
  const detect = (on: boolean): void => {
    detecting = on
    if (isTaggingDevice(device)) device.setTagging(on)
  }

  async function* read(channels: readonly number[], signal: AbortSignal): AsyncGenerator<readonly WireTimeTag[]> {
    const wanted = new Set(channels)
    const waiting: Batch[] = []
    let waitingTags = 0
    let overflowed = false
    let wake: (() => void) | undefined
    const unsubscribe = device.subscribe((event) => {
      if (event.type !== 'tags' || !detecting) return
      // The event's arrays are shared with other listeners and may be used again: keep a copy.
      waiting.push({ timesPs: event.timesPs.slice(), patterns: event.patterns.slice() })
      waitingTags += event.patterns.length
      if (waitingTags > maxWaitingTags) overflowed = true
      wake?.()
    })
    const onAbort = (): void => wake?.()
    signal.addEventListener('abort', onAbort)
    readers += 1
    try {
      while (!signal.aborted) {
        if (overflowed) throw new ReaderTooSlow(`the reader is more than ${maxWaitingTags} tags behind`)
        const batch = waiting.shift()
        if (batch === undefined) {
          await new Promise<void>((resolve) => (wake = resolve))
          wake = undefined
          continue
        }
        waitingTags -= batch.patterns.length
        let message: WireTimeTag[] = []
        for (const tag of tagsOf(batch, wanted)) {
          message.push(tag)
          if (message.length < tagsPerMessage) continue
          yield message
          message = []
        }
        if (message.length > 0) yield message
      }
    } finally {
      readers -= 1
      unsubscribe()
      signal.removeEventListener('abort', onAbort)
    }
  }

  return {
    port: {
      startDetecting: async () => detect(true),
      stopDetecting: async () => detect(false),
      readTimeTags: (channels, signal) => read(channels, signal),
    },
    facts: () => ({ readers, detecting }),
  }
}
