import type { Unsubscribe } from '../base/cell.js'

/** What the SiteAgent at this end has told about the keys that it took in. src/site implements it, src/link relies on it. */
export interface SiteTotals {
  /** Which recipe the SiteAgent follows; detected from its answers, 'unknown' until then. */
  dialect(): 'cpp' | 'java' | 'unknown'
  /**
   * `total` = keys the SiteAgent's store has received over all sessions ([Key Generation, Key Generated]); sent on
   * change only, and only where the SiteAgent reports it. `storeId` distinguishes stores, it does not name them.
   */
  onTotal(listener: (report: { storeId: bigint; total: bigint }) => void): Unsubscribe
  /** True while the subscription to the reports is known to be open. */
  reporting(): boolean
}
