/**
 * What one end of a link knows about the batches on their way to the two SiteAgents. The state is plain data: no key,
 * no clock, no handle. docs/agreement.md tells the same in words.
 */

/** A batch by its serial number (unique within a lineage, ascending) and the number of keys that are delivered of it. */
export interface BatchRef {
  readonly serial: number
  readonly count: number
}

/** A verified batch whose keys wait here for the own SiteAgent. */
export interface KeptBatch extends BatchRef {
  /** `first`: this site gets it before the other one. `follow`: after the other one, once `due`. */
  readonly order: 'first' | 'follow'
  /** The other SiteAgent has it. */
  readonly due: boolean
  /** It was sent before on a stream that ended; silence since then says that it was not taken in. */
  readonly sentBefore: boolean
  /** The other SiteAgent's total after it, where it was told. */
  readonly peerTotal: bigint | undefined
  /** The WaitForSession that was open when the batch was verified. */
  readonly stream: string | undefined
  /** The other site's WaitForSession then. */
  readonly peerStream: string | undefined
  /** `follow`: written down as a batch that may be sent at any moment, so that it need not wait once it is due. */
  readonly foreseen: Foreseen | undefined
}

/** A record that says of a batch that it may be sent at any moment. */
export interface Foreseen {
  /** What the record rests on; where that has changed, it does not count. */
  readonly basis: string
  /** It is on the disk. */
  readonly safe: boolean
}

/** A batch that the other side is to verify, for the stores and the WaitForSessions of then. */
export interface Proposed extends BatchRef {
  readonly stores: StorePair
  readonly stream: string | undefined
  readonly peerStream: string | undefined
}

/** The batch that is on its way to the own SiteAgent. */
export interface Flight extends BatchRef {
  readonly order: 'first' | 'follow'
  readonly stage: 'journaling' | 'sending' | 'sent'
  readonly stream: string
  /** The other site's WaitForSession when it was verified. */
  readonly peerStream: string | undefined
  readonly peerTotal: bigint | undefined
  /** Monotonic ms at which its stream ended; from then on only a report can tell. */
  readonly lostAtMs: number | undefined
  /** Monotonic ms at which it counts as taken in where no total tells. */
  readonly inferAtMs: number | undefined
  /** The reports were interrupted while it was on its way, so its own may be lost: the SiteAgent has to be asked. */
  readonly blind: boolean
  /** Monotonic ms at which it was launched. */
  readonly sinceMs: number
}

/** A batch whose fate at the own SiteAgent is open: its stream ended before a report. */
export interface Doubt extends BatchRef {
  /** `first`: the other site keeps it until we know. `follow`: the other site has it, and our keys of it are lost. */
  readonly order: 'first' | 'follow'
  /** Our process died after it had foreseen it: whether the other site has it, and so whether it was sent, is open. */
  readonly foreseen?: boolean | undefined
}

/** A batch that the own SiteAgent has and the other one not yet, as far as we know. */
export interface AheadBatch extends BatchRef {
  /** The own SiteAgent's total after it. */
  readonly total: bigint | undefined
}

/** What is known of the key store in the own SiteAgent. */
export interface StoreView {
  /** A report that does not fit and may be about another store: believed at `atMs` unless a fitting one comes. */
  readonly suspect: { readonly total: bigint; readonly atMs: number } | undefined
  /** Which of the stores that the SiteAgent reports on is ours; unknown until a report fitted, and after a restart. */
  readonly id: bigint | undefined
  readonly total: bigint | undefined
  /** Another one after each restart in which the SiteAgent lost its keys, hexadecimal; '' for the first store. */
  readonly name: string
  /** It began anew and nothing was taken in since. */
  readonly empty: boolean
}

/** The stores, by name, that the totals and positions of a sequence count in. */
export interface StorePair {
  readonly mine: string
  readonly theirs: string
}

/** The SiteAgent was sent a message without keys, upon which a C++ one tells its total as it is. */
export interface Question {
  readonly stream: string
  /** Waiting for the answer until then, monotonic ms; undefined once it came, or the time is over. */
  readonly untilMs: number | undefined
}

/** How a site learns that a batch was taken in; `none`: not at all just now. */
export type Confirmation = 'total' | 'inferred' | 'none'

/** The own SiteAgent's side of the link. */
export interface SiteEnd {
  readonly stream: string | undefined
  /** An older WaitForSession that ends once its batch is settled. */
  readonly retiring: { readonly stream: string; readonly untilMs: number } | undefined
  readonly writable: boolean
  readonly confirmation: Confirmation
  /** The SiteAgent numbers from 1 with each WaitForSession. */
  readonly restartsNumbering: boolean
  /** Its reports were interrupted since the last total: it may be another store by now. */
  readonly mayBeRenewed: boolean
  /** A total came since the present WaitForSession began. */
  readonly heardOnStream: boolean
  /** The other site's WaitForSession that the numbering of the present one began together with; '' before a key. */
  readonly epoch: string
  /** The present WaitForSession has keys of a sequence that was given up: what followed would not be its next ones. */
  readonly spoiled: boolean
  /** The last question; one for each WaitForSession at most. */
  readonly question: Question | undefined
}

/** What the other side tells of its SiteAgent. */
export interface SiteView {
  readonly ready: boolean
  readonly stream: string
  readonly confirmation: 'total' | 'inferred'
  readonly restartsNumbering: boolean
  readonly mayBeRenewed: boolean
  readonly store: string
  readonly empty: boolean
  /** Of its two streams, see `SiteEnd`. */
  readonly epoch: string
  /** The receiver's store, as the sender knows it. */
  readonly sees: string
  readonly reason: string
}

/** The first message of each side; see link.proto. Byte strings as lower-case hex. */
export interface Hello {
  readonly lineage: string
  readonly freshLineage: string
  readonly settled: number
  readonly ahead: readonly BatchRef[]
  readonly inDoubt: readonly BatchRef[]
  readonly unsure: readonly BatchRef[]
  readonly position: number
  readonly total: bigint | undefined
  readonly divergedAt: bigint | undefined
  readonly acceptsDivergence: boolean
  readonly nextSerial: number
  /** The stores that its sequence counts in, as it sees them. */
  readonly stores: StorePair
  readonly site: SiteView
}

export interface PeerView {
  readonly site: SiteView
  /** It has shown in this connection that it holds our keys. */
  readonly proven: boolean
  /** Its positions and ours fit; only then does what it says of batches count. */
  readonly fits: boolean
  /** They did until this side began anew: what the other says of the sequence before does not count. */
  readonly resumed: boolean
  /** Where they do not: what it said first, to be acted on once it is proven. */
  readonly hello: Hello
  /** Batches that it may have taken in and whose keys we lost. */
  readonly lost: readonly BatchRef[]
}

/** What became of a batch at the sender's SiteAgent; see link.proto. */
export type FateMessage =
  | { readonly type: 'takenIn'; readonly serial: number; readonly total: bigint | undefined; readonly skipped: boolean }
  | { readonly type: 'withdrawn'; readonly serial: number; readonly drop: boolean }

export interface Divergence {
  /** Number of the first key that differs, from 1, in the numbering of the SiteAgents. */
  readonly firstDifferingKey: bigint
  readonly reason: string
}

export interface AgreementState {
  readonly role: 'left' | 'right'
  readonly limits: MachineLimits
  /** Greeting: our Hello is on its way, theirs is not here. */
  readonly connection: 'down' | 'greeting' | 'up'
  readonly peer: PeerView | undefined
  readonly site: SiteEnd
  readonly store: StoreView
  /** Sequence of batches that the serials belong to; '' before the first. */
  readonly lineage: string
  readonly freshLineage: string
  /** The last batch known to be taken in at both sites; 0 where there is none. */
  readonly settled: number
  /** Keys taken in here, in this lineage. */
  readonly position: number
  readonly nextSerial: number
  /** Left: sent for verification. */
  readonly proposed: Proposed | undefined
  /** In the order in which they are delivered. */
  readonly kept: readonly KeptBatch[]
  readonly flight: Flight | undefined
  readonly doubts: readonly Doubt[]
  /** In the order in which they were taken in. */
  readonly ahead: readonly AheadBatch[]
  /** The stores that the sequence counts in. */
  readonly stores: StorePair
  /** Own total minus the other's, as accepted; 'adopt': whatever the next batch shows. */
  readonly offset: bigint | 'adopt'
  readonly diverged: Divergence | undefined
  readonly accepting: boolean
  /** Mismatches in a row; at the limit the link is stopped. */
  readonly mismatches: number
  readonly stopped: string | undefined
  /** No new batch: a stop is being settled. */
  readonly paused: boolean
  /** What happened between our Hello and theirs; said once theirs is here, if it still matters. */
  readonly unsaid: readonly FateMessage[]
  /** Serials whose fate was open when we said Hello: the other side reckons with them, whatever we learn meanwhile. */
  readonly saidOpen: readonly number[]
  /** What the other side was told last of our site, to tell it changes only. */
  readonly toldSite: string
}

export interface MachineLimits {
  /** How long a report is waited for once a stream has ended, ms. */
  readonly settleMs: number
  /** When a batch counts as taken in where no total tells, ms. */
  readonly inferAfterMs: number
  /** How long a SiteAgent that was asked for its total is given to tell it, ms. */
  readonly answerMs: number
  /** Mismatches in a row that stop the link. */
  readonly maxMismatches: number
}

export function initialState(role: 'left' | 'right', limits: MachineLimits, freshLineage: string): AgreementState {
  return {
    role,
    limits,
    connection: 'down',
    peer: undefined,
    site: {
      stream: undefined,
      retiring: undefined,
      writable: false,
      confirmation: 'none',
      restartsNumbering: false,
      mayBeRenewed: false,
      heardOnStream: false,
      epoch: '',
      spoiled: false,
      question: undefined,
    },
    store: { id: undefined, total: undefined, suspect: undefined, name: '', empty: false },
    lineage: '',
    freshLineage,
    settled: 0,
    position: 0,
    nextSerial: 1,
    proposed: undefined,
    kept: [],
    flight: undefined,
    doubts: [],
    ahead: [],
    stores: { mine: '', theirs: '' },
    offset: 0n,
    diverged: undefined,
    accepting: false,
    mismatches: 0,
    stopped: undefined,
    paused: false,
    unsaid: [],
    saidOpen: [],
    toldSite: '',
  }
}
