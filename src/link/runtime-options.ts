import type { Clock } from '../base/clock.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import type { SiteTotals } from '../rpc/site-totals.js'
import type { JournalStore } from './journal.js'
import type { Greeting } from './messages.js'
import type { SitesFigures } from './sites-account.js'
import type { BatchOptions, HoldOptions, TimingOptions } from './options.js'

/** What the agreement's runtime is given; it reaches for nothing else. */
export interface RuntimeOptions {
  readonly greeting: Greeting
  readonly totals: SiteTotals
  readonly journal: JournalStore
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly batch: BatchOptions
  readonly hold: HoldOptions
  readonly timing: TimingOptions
  /** The other side ends the session. */
  readonly onBye: () => void
  /** The channel was lost or closed by the other side. */
  readonly onChannelLost: (code: number, reason: string) => void
  /** Something may have changed in what a status says; called often. */
  readonly onChange: () => void
}

/** What the runtime knows beside the agreement's state. */
export interface RuntimeFacts {
  /** Why a batch waits for the journal. */
  readonly journalProblem: string | undefined
  readonly peerMismatch: string | undefined
  readonly sites: SitesFigures
  /** Monotonic ms of the last batch that was taken in here. */
  readonly lastTakenInMs: number | undefined
  /** Between the two gateways, ms. */
  readonly roundTripMs: number | undefined
  readonly inferredKeys: bigint
  /** Why nothing goes to both sites. */
  readonly blocked: string | undefined
}
