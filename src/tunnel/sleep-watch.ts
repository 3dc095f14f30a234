/** Notices that the machine or this process stood still, and that the network under it changed. */
import { networkInterfaces } from 'node:os'
import type { Clock, Timer } from '../base/clock.js'

const TICK_MS = 1_000

/** All addresses of this machine as one text. */
export function networkSignature(): string {
  return Object.entries(networkInterfaces())
    .flatMap(([name, addresses]) => (addresses ?? []).map((address) => `${name} ${address.address}`))
    .sort()
    .join(',')
}

export interface SleepWatchOptions {
  clock: Clock
  /** A gap beyond the tick by more than this counts. */
  gapMs: number
  /** Called with a sentence. */
  onDoubt: (reason: string) => void
  signature?: () => string
}

/**
 * Calls `onDoubt` after a suspend (the wall clock ran on, the monotonic one did not), after the process was stopped
 * (both ran on), and after addresses came or went. A set wall clock looks the same and costs one probe.
 */
export function watchForSleep(options: SleepWatchOptions): { stop(): void } {
  const { clock, gapMs, onDoubt, signature = networkSignature } = options
  let wallMs = clock.nowMs()
  let steadyMs = clock.monotonicMs()
  let network = signature()
  let timer: Timer
  const tick = (): void => {
    timer = clock.after(TICK_MS, tick)
    const wallGapMs = clock.nowMs() - wallMs - TICK_MS
    const steadyGapMs = clock.monotonicMs() - steadyMs - TICK_MS
    wallMs = clock.nowMs()
    steadyMs = clock.monotonicMs()
    const gap = Math.max(wallGapMs, steadyGapMs)
    const before = network
    network = signature()
    if (gap > gapMs) onDoubt(`this machine or process stood still for ${Math.round(gap / 100) / 10} s`)
    else if (network !== before) onDoubt('the addresses of this machine changed')
  }
  timer = clock.after(TICK_MS, tick)
  return { stop: () => timer.cancel() }
}
