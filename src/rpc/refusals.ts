import type { Clock } from '../base/clock.js'
import type { Logger } from '../observe/log.js'
import { describe, type AccessVerdict } from './access.js'
import type { Originator } from './device-port.js'

/** One caller is named in the log once in this time, however often it tries. */
const REPEAT_MS = 60_000
/** Callers remembered; the one heard of longest ago is forgotten first. */
const MAX_REMEMBERED = 256
/** Lines a minute over all callers, so that many addresses do not fill the disk either. */
const MAX_LINES_A_MINUTE = 30

export interface RefusalCounts {
  readonly total: number
  readonly byMethod: Readonly<Record<string, number>>
  /** The last one, in plain words; undefined while there was none. */
  readonly last: { readonly atMs: number; readonly text: string; readonly allowingLine: string } | undefined
}

/** Counts refused calls and logs them at a bounded rate. */
export interface Refusals {
  record(methodPath: string, originator: Originator, verdict: AccessVerdict & { allowed: false }): void
  counts(): RefusalCounts
}

export function createRefusals(clock: Pick<Clock, 'nowMs' | 'monotonicMs'>, log: Logger): Refusals {
  const byMethod: Record<string, number> = {}
  const remembered = new Map<string, { atMs: number; unlogged: number }>()
  let total = 0
  let last: RefusalCounts['last']
  let minuteStartMs = -Infinity
  let linesThisMinute = 0

  const mayLog = (nowMs: number): boolean => {
    if (nowMs - minuteStartMs >= REPEAT_MS) {
      minuteStartMs = nowMs
      linesThisMinute = 0
    }
    linesThisMinute += 1
    return linesThisMinute <= MAX_LINES_A_MINUTE
  }

  return {
    record(methodPath, originator, verdict) {
      total += 1
      byMethod[methodPath] = (byMethod[methodPath] ?? 0) + 1
      last = { atMs: clock.nowMs(), text: verdict.reason, allowingLine: verdict.allowingLine }
      const nowMs = clock.monotonicMs()
      const key = `${verdict.group} ${originator.via} ${originator.address} ${originator.certificate ?? ''}`
      const known = remembered.get(key)
      if (known !== undefined && nowMs - known.atMs < REPEAT_MS) {
        known.unlogged += 1
        return
      }
      remembered.delete(key)
      remembered.set(key, { atMs: nowMs, unlogged: 0 })
      const oldest = remembered.keys().next()
      if (remembered.size > MAX_REMEMBERED && oldest.done === false) remembered.delete(oldest.value)
      if (!mayLog(nowMs)) return
      log.warn(
        {
          method: methodPath,
          originator: describe(originator),
          port: originator.port,
          allowWith: verdict.allowingLine,
          refusedBefore: known?.unlogged ?? 0,
          refusedInAll: total,
        },
        `refused: ${verdict.reason}; to allow it: ${verdict.allowingLine}`,
      )
    },
    counts: () => ({ total, byMethod: { ...byMethod }, last }),
  }
}
