/** What happens to the agreement, and what it asks for. Times are monotonic ms. */
import type { DropReason } from '../counts.js'
import type { DurableState } from './durable.js'
import type { Confirmation, FateMessage, Hello, SiteView, StorePair } from './state.js'

/** Messages between the two sides that the agreement itself reads and writes; ids and tags are the desk's. */
export type AgreementMessage =
  | { readonly type: 'site'; readonly site: SiteView }
  | { readonly type: 'refused'; readonly serial: number; readonly reason: 'mismatch' | 'missing' }
  | FateMessage
  | { readonly type: 'diverged'; readonly firstDifferingKey: bigint; readonly reason: string }
  | { readonly type: 'acceptDivergence' }
  /** Both stores are new. `stores`: as the sender sees them. */
  | { readonly type: 'beginAnew'; readonly stores: StorePair }

export type AgreementEvent = { readonly nowMs: number } & (
  | { readonly type: 'session'; readonly role: 'left' | 'right'; readonly freshLineage: string }
  | { readonly type: 'streamOpened'; readonly stream: string }
  | { readonly type: 'streamEnded'; readonly stream: string }
  | { readonly type: 'writable'; readonly writable: boolean }
  | { readonly type: 'siteFacts'; readonly confirmation: Confirmation; readonly restartsNumbering: boolean }
  | { readonly type: 'reportsInterrupted' }
  /** `store`: a name that no store had before. */
  | { readonly type: 'siteRestarted'; readonly store: string }
  | { readonly type: 'total'; readonly storeId: bigint; readonly total: bigint }
  | { readonly type: 'connected' }
  | { readonly type: 'hello'; readonly hello: Hello }
  | { readonly type: 'disconnected' }
  | { readonly type: 'message'; readonly message: AgreementMessage }
  /** Left: the desk formed a batch, which goes out with its tag. */
  | { readonly type: 'formed'; readonly serial: number; readonly count: number }
  /** Left: the other side's answer to it; genuine if it holds our keys. */
  | { readonly type: 'verified'; readonly serial: number; readonly genuine: boolean }
  /** Right: how the desk found a proposed batch. */
  | {
      readonly type: 'prepared'
      readonly serial: number
      readonly count: number
      readonly outcome: 'equal' | 'mismatch' | 'missing'
      /** As this side sees them. */
      readonly stores: StorePair
    }
  /** The record is on the disk. */
  | { readonly type: 'journalled'; readonly record: AwaitedRecord }
  | { readonly type: 'handedOver'; readonly serial: number }
  | { readonly type: 'pause'; readonly paused: boolean }
  | { readonly type: 'acceptDivergence' }
  | { readonly type: 'tick' }
)

/**
 * What a record is awaited for. `flight`: a batch on its way on one stream; on the next stream it is another flight, with
 * a record of its own. `foreseen`: a batch that may be sent at any moment after, see `Foreseen`.
 */
export type AwaitedRecord =
  | { readonly type: 'flight'; readonly serial: number; readonly stream: string }
  | { readonly type: 'foreseen'; readonly serial: number; readonly basis: string }

export type AgreementEffect =
  | { readonly type: 'sendHello' }
  | { readonly type: 'send'; readonly message: AgreementMessage }
  /** Right: tell the other side that a proposed batch is verified. */
  | { readonly type: 'sendVerified'; readonly serial: number }
  /** Where something is awaited, answer with `journalled` for each once the record cannot be lost any more. */
  | { readonly type: 'journal'; readonly record: DurableState; readonly awaited: readonly AwaitedRecord[] }
  | { readonly type: 'deliver'; readonly serial: number; readonly stream: string }
  /** Send a message without keys. */
  | { readonly type: 'ask'; readonly stream: string }
  /** Verified at both: what only one side holds below it is dropped. */
  | { readonly type: 'commit'; readonly serial: number }
  | { readonly type: 'delivered'; readonly serial: number; readonly inferred: boolean }
  | { readonly type: 'drop'; readonly serial: number; readonly reason: DropReason }
  | { readonly type: 'restore'; readonly serial: number }
  | { readonly type: 'announceAnew' }
  | { readonly type: 'endStream'; readonly stream: string; readonly reason: string }
  | { readonly type: 'log'; readonly level: 'info' | 'warn' | 'error'; readonly text: string }
  /** The other side says what cannot be: the connection is of no use. */
  | { readonly type: 'protocolError'; readonly text: string }
