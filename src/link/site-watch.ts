/** What the SiteAgent at this end tells of itself, as events for the agreement. */
import type { Unsubscribe } from '../base/cell.js'
import type { Clock } from '../base/clock.js'
import type { SiteTotals } from '../rpc/site-totals.js'
import type { AgreementEvent } from './agreement/events.js'
import type { Confirmation } from './agreement/state.js'

export interface SiteWatch {
  /** Looks again; calls `tell` with what has changed. */
  look(): void
  stop(): void
}

/**
 * How batches are confirmed at the site of `totals`: by its total where it tells one; where it should but does not yet,
 * not at all for `graceMs`, and by inference after that.
 */
export function watchSite(
  totals: SiteTotals,
  clock: Clock,
  graceMs: number,
  tell: (event: AgreementEvent) => void,
): SiteWatch {
  let confirmation: Confirmation | undefined
  let restarts: boolean | undefined
  let reporting = totals.reporting()
  let silentSinceMs: number | undefined
  const unsubscribe: Unsubscribe = totals.onTotal(({ storeId, total }) => {
    look()
    tell({ type: 'total', storeId, total, nowMs: clock.monotonicMs() })
  })

  const look = (): void => {
    const nowMs = clock.monotonicMs()
    const dialect = totals.dialect()
    const wasReporting = reporting
    reporting = totals.reporting()
    if (wasReporting && !reporting) tell({ type: 'reportsInterrupted', nowMs })
    if (reporting) silentSinceMs = undefined
    else silentSinceMs ??= nowMs
    const now = confirmationOf(dialect, nowMs)
    const restartsNow = dialect === 'java'
    if (now === confirmation && restartsNow === restarts) return
    confirmation = now
    restarts = restartsNow
    tell({ type: 'siteFacts', confirmation: now, restartsNumbering: restartsNow, nowMs })
  }

  const confirmationOf = (dialect: 'cpp' | 'java' | 'unknown', nowMs: number): Confirmation => {
    if (dialect === 'java') return 'inferred'
    if (reporting) return 'total'
    return nowMs - (silentSinceMs ?? nowMs) < graceMs ? 'none' : 'inferred'
  }

  return { look, stop: unsubscribe }
}
