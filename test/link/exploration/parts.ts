/** What a small world consists of: two gateways, the channel between them, two SiteAgents, two journals, two devices. */
import type { DurableState } from '../../../src/link/agreement/durable.js'
import type { AgreementEvent, AgreementMessage, AwaitedRecord } from '../../../src/link/agreement/events.js'
import type { Transition } from '../../../src/link/agreement/machine.js'
import type { AgreementState, Hello, StorePair } from '../../../src/link/agreement/state.js'

/** The two ends of the link. Which of them is the left one in a session is the machine's `role`. */
export type End = 'left' | 'right'
export const ENDS = ['left', 'right'] as const
export const otherEnd = (end: End): End => (end === 'left' ? 'right' : 'left')

/** Batches' worths of keys, in the order of their ids. */
export const UNITS = ['a', 'b', 'c', 'd', 'e', 'f'] as const
/** Numbers of keys whose sums all differ. */
const SIZES = [1, 2, 4, 8, 16, 32] as const

export type Message =
  | { readonly type: 'hello'; readonly hello: Hello }
  | { readonly type: 'propose'; readonly serial: number; readonly unit: string; readonly stores: StorePair }
  | { readonly type: 'verified'; readonly serial: number }
  | { readonly type: 'dropThrough'; readonly unit: string }
  | { readonly type: 'agreement'; readonly message: AgreementMessage }

export interface Gateway {
  readonly machine: AgreementState
  /** Units whose keys wait, by name, ascending. */
  readonly pool: readonly string[]
  /** Units taken out of the pool, by serial. */
  readonly batches: readonly { readonly serial: number; readonly unit: string }[]
  /** What is on the disk, and what may be lost with a crash. */
  readonly synced: DurableState | undefined
  readonly unsynced: DurableState | undefined
  /** Records that are being written before a batch may go. */
  readonly writing: readonly { readonly record: DurableState; readonly awaited: readonly AwaitedRecord[] }[]
  readonly starts: number
}

/** A message without keys, on the wire. */
export const QUESTION = '?'

export interface OpenStream {
  readonly stream: string
  readonly wire: readonly string[]
}

/** `cpp`: tells totals, also when asked. `mute`: tells them on change only. `java`: none; numbers anew each time. */
export type SiteKind = 'cpp' | 'mute' | 'java'

export interface SiteAgent {
  /** Units in the order in which they were taken in, since the store was new. */
  readonly store: readonly string[]
  /** The same over all stores, by WaitForSession. */
  readonly sessions: readonly { readonly stream: string; readonly units: readonly string[] }[]
  /** Open WaitForSessions, the newest last, with the messages on each that were not read yet. */
  readonly open: readonly OpenStream[]
  /** Totals on their way to the gateway. */
  readonly reports: readonly number[]
  readonly streams: number
  readonly restarts: number
  /** Restarted, and the gateway has not been told for certain. */
  readonly unnoticed: boolean
  /** It does not read. */
  readonly stalled: boolean
}

export interface World {
  readonly gateways: Readonly<Record<End, Gateway>>
  readonly sites: Readonly<Record<End, SiteAgent>>
  readonly connected: boolean
  readonly channels: Readonly<Record<End, readonly Message[]>>
  readonly faults: number
  /** Units that came late. */
  readonly late: number
  /** How often an operator accepted a divergence; units verified since. */
  readonly accepted: number
  readonly verifiedSince: readonly string[]
  readonly protocolError: string | undefined
}

export interface Rules {
  readonly sites: readonly [left: SiteKind, right: SiteKind]
  /** Faults that may happen. */
  readonly faults: readonly FaultName[]
  readonly maxFaults: number
  readonly units: number
  /** Units that come once everything else has come to rest. */
  readonly lateUnits: number
  /** Reports and answers come before the settle time is over. */
  readonly timelyReports: boolean
  /** That a SiteAgent was restarted may be noticed after it has asked for keys again. */
  readonly lateNotice?: boolean
  /** Keys of each unit, where they are not to be told apart by their sums. */
  readonly sizes?: readonly number[]
  /** How often an operator accepts a divergence. */
  readonly acceptances?: number
  /** For mutation tests: what the machine does instead. */
  readonly transition?: (state: AgreementState, event: AgreementEvent) => Transition
}

export type FaultName =
  /** The connection between the gateways is lost. */
  | 'disconnect'
  /** A SiteAgent cancels its WaitForSession, or opens one more. */
  | 'cancel'
  | 'replace'
  /** A process dies and comes back: the gateway without keys, the SiteAgent with an empty store. */
  | 'crashGateway'
  | 'crashLeftGateway'
  | 'crashRightGateway'
  | 'crashSite'
  /** Both SiteAgents at once, as an operator restarts them. */
  | 'crashBothSites'
  /** A device loses what it had not handed over. */
  | 'crashDevice'
  /** Reports on their way are lost. */
  | 'interruptReports'
  /** A SiteAgent reads nothing for a while. */
  | 'stall'
  /** The session ends, and the next one begins at the other site. */
  | 'swapRoles'
  /** A gateway drops its oldest keys, because more wait than may. */
  | 'dropByBound'

export const LIMITS = { settleMs: 100, inferAfterMs: 50, answerMs: 200, maxMismatches: 3 }

export function sizeOf(unit: string, { sizes = SIZES }: Pick<Rules, 'sizes'>): number {
  return sizes[UNITS.findIndex((name) => name === unit)] ?? 0
}

export function totalOf(store: readonly string[], rules: Pick<Rules, 'sizes'>): number {
  return store.reduce((sum, unit) => sum + sizeOf(unit, rules), 0)
}

export function siteKind(end: End, { sites }: Pick<Rules, 'sites'>): SiteKind {
  return sites[end === 'left' ? 0 : 1]
}
