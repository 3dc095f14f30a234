/**
 * When OpenQKDNetwork's key management (the KMS behind its Java SiteAgents) can hand out a first key. Pure.
 *
 * Its key layer collects 4096 keys of a link before it gives any to the KMS, and takes every key for 32 bytes long.
 */
import type { JsonValue } from '../observe/status.js'

/** Keys that have to come in from one device first. */
export const KMS_FIRST_KEYS = 4_096
/** The only length that it reads rightly. */
export const KMS_KEY_BYTES = 32

export interface KmsInput {
  /** Keys that went to the own SiteAgent since this gateway started. */
  readonly delivered: bigint
  /** Present rate; 0 where nothing goes out. */
  readonly keysPerSecond: number
  readonly bytesPerKey: number
}

export interface KmsForecast {
  /** For people. */
  readonly sentence: string
  readonly facts: { readonly [name: string]: JsonValue }
}

/** "45 s", "13 min", "5 h", "3 days": as exact as a forecast deserves. */
function span(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`
  if (seconds < 48 * 3_600) return `${Math.round(seconds / 3_600)} h`
  return `${Math.round(seconds / 86_400)} days`
}

const grouped = (count: bigint | number): string => count.toString().replace(/\B(?=(\d{3})+$)/g, ',')

function bitRate(keysPerSecond: number, bytesPerKey: number): string {
  const bitsPerSecond = keysPerSecond * bytesPerKey * 8
  if (bitsPerSecond < 10) return `${bitsPerSecond.toFixed(1)} bit/s`
  return bitsPerSecond < 1_000 ? `${Math.round(bitsPerSecond)} bit/s` : `${(bitsPerSecond / 1_000).toFixed(1)} kbit/s`
}

/**
 * Counts from this gateway's start. The key layer counts from its own, so that after its restart it needs all of them
 * again; nobody tells a device of that. A rate that is no finite number above 0 counts as none.
 */
export function kmsForecast({ delivered, keysPerSecond, bytesPerKey }: KmsInput): KmsForecast {
  const needed = `${grouped(KMS_FIRST_KEYS)} keys (131 kB)`
  const rate = Number.isFinite(keysPerSecond) && keysPerSecond > 0 ? keysPerSecond : 0
  const facts = {
    neededKeys: KMS_FIRST_KEYS,
    deliveredKeys: delivered.toString(),
    keysPerSecond: Number(rate.toFixed(2)),
  }
  if (bytesPerKey !== KMS_KEY_BYTES) {
    return {
      sentence: `OpenQKDNetwork's KMS reads keys of ${KMS_KEY_BYTES} bytes only, and these have ${bytesPerKey}: it will not get a right one`,
      facts: { ...facts, firstKey: 'never' },
    }
  }
  const missing = BigInt(KMS_FIRST_KEYS) - delivered
  if (missing <= 0n) {
    return {
      sentence: `OpenQKDNetwork's KMS has had the ${needed} that it needs before its first key`,
      facts: { ...facts, firstKey: 'ready', firstKeyInS: 0 },
    }
  }
  const gone = `OpenQKDNetwork's KMS hands out its first key after ${needed}: ${grouped(delivered)} went out`
  if (rate === 0) return { sentence: `${gone}, and none go out now`, facts: { ...facts, firstKey: 'waiting' } }
  const seconds = Number(missing) / rate
  return {
    sentence: `${gone}; at ${bitRate(rate, bytesPerKey)} the rest takes about ${span(seconds)}`,
    facts: { ...facts, firstKey: 'coming', firstKeyInS: Math.ceil(seconds) },
  }
}

/** How many keys had gone out at a time. */
export interface DeliverySample {
  /** Monotonic ms. */
  readonly atMs: number
  readonly delivered: bigint
}

const WINDOW_MS = 300_000
const SPACING_MS = 1_000
/** Without a key for so long, and for three times the usual pause, nothing goes out. */
const IDLE_MS = 30_000

/** The rate of the last five minutes, from samples that are taken as keys come. */
export class DeliveryRate {
  #samples: DeliverySample[] = []

  /** Whether `note` would keep a sample now: at most one a second. */
  isDue(nowMs: number): boolean {
    const last = this.#samples.at(-1)
    return last === undefined || nowMs - last.atMs >= SPACING_MS
  }

  /** `delivered` never falls. */
  note(sample: DeliverySample): void {
    if (!this.isDue(sample.atMs)) return
    this.#samples.push(sample)
    const fromMs = sample.atMs - WINDOW_MS
    // The last one before the window is its beginning.
    while ((this.#samples[1]?.atMs ?? Infinity) <= fromMs) this.#samples.shift()
  }

  /** Keys a second up to now; 0 before a second has passed, and where keys have stopped. */
  keysPerSecond(now: DeliverySample): number {
    const changes = this.#samples.filter(
      ({ delivered }, index) => index === 0 || delivered > (this.#samples[index - 1]?.delivered ?? 0n),
    )
    const [first, last] = [changes[0], changes.at(-1)]
    if (first === undefined || last === undefined) return 0
    const elapsedMs = now.atMs - first.atMs
    if (elapsedMs < SPACING_MS) return 0
    const pauseMs = changes.length < 2 ? 0 : (last.atMs - first.atMs) / (changes.length - 1)
    const quietMs = now.delivered > last.delivered ? 0 : now.atMs - last.atMs
    if (quietMs > Math.max(IDLE_MS, 3 * pauseMs)) return 0
    return (Number(now.delivered - first.delivered) * 1_000) / elapsedMs
  }
}
