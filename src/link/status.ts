/** Session and link in plain words, for status, metrics and logs. */
import type { ReadonlyCell } from '../base/cell.js'
import type { JsonValue, PartStatus } from '../observe/status.js'
import { streamBlocked } from './agreement/delivery.js'
import { owed } from './agreement/machine.js'
import type { AgreementState } from './agreement/state.js'
import type { LinkCounts } from './contract.js'
import type { RuntimeFacts } from './runtime-options.js'
import type { SitesFigures } from './sites-account.js'
import type { SessionState } from './session-state.js'

export function sessionReport(session: ReadonlyCell<SessionState>, waiting: boolean): PartStatus {
  const { value, sinceMs } = session
  const facts: NonNullable<PartStatus['facts']> = { siteAgentWaits: waiting }
  switch (value.state) {
    case 'none': {
      const reason = value.errorCode === 0 ? value.reason : `the last session failed: ${value.reason}`
      return {
        state: waiting ? 'listening' : 'none',
        sinceMs,
        ...(reason === '' ? {} : { reason }),
        needs: 'StartNode at the SiteAgent of the left hop',
        facts: { ...facts, errorCode: value.errorCode },
      }
    }
    case 'starting':
      return {
        state: 'starting',
        sinceMs,
        ...(value.reason === '' ? {} : { reason: value.reason }),
        facts: { ...facts, role: value.role, peer: value.peerAddress, tried: value.tried, errorCode: value.errorCode },
      }
    case 'started':
      return {
        state: 'started',
        sinceMs,
        facts: { ...facts, role: value.role, peer: value.peerAddress, peerIsGateway: value.peerLink.peer === 'ours' },
      }
    case 'ending':
      return { state: 'ending', sinceMs, facts: { ...facts, role: value.role, peer: value.peerAddress } }
  }
}

export interface LinkReportInput {
  readonly session: SessionState
  readonly state: AgreementState
  readonly facts: RuntimeFacts
  readonly counts: LinkCounts
  /** Monotonic. */
  readonly nowMs: number
  /** How long after a batch more of them are expected, ms. */
  readonly recentMs: number
}

/** Where the link stands: one word, and why. */
export interface LinkCondition {
  readonly state: 'diverged' | 'stopped' | 'mismatch' | 'unagreed' | 'owed' | 'waiting' | 'delivering' | 'idle'
  readonly reason?: string
  readonly needs?: string
}

/** The worst first: diverged, stopped, mismatch, unagreed, waiting for the disk, owed, waiting, delivering, idle. */
export function linkCondition(input: LinkReportInput): LinkCondition {
  const { session, state, facts, counts } = input
  if (state.diverged !== undefined) {
    return {
      state: 'diverged',
      reason: `from key ${state.diverged.firstDifferingKey} on the two stores differ: ${state.diverged.reason}`,
      needs: 'restart both SiteAgents so that their stores begin anew, or accept it: qkd-gw link accept-divergence',
    }
  }
  if (state.stopped !== undefined) {
    return { state: 'stopped', reason: state.stopped, needs: 'the two devices of one pair, and a new session' }
  }
  if (facts.peerMismatch !== undefined) {
    return {
      state: 'mismatch',
      reason: facts.peerMismatch,
      needs: 'the same kind, key length and version at both ends',
    }
  }
  if (session.state === 'started' && session.peerLink.peer === 'foreign') {
    const reason = 'the peer does not speak the link service: each side delivers by itself, in the order of arrival'
    return { state: 'unagreed', reason }
  }
  if (facts.journalProblem !== undefined) {
    return {
      state: 'waiting',
      reason: `the journal cannot be written: ${facts.journalProblem}`,
      needs: 'room in the state folder',
    }
  }
  if (session.state !== 'started') {
    const { here, there } = owed(state)
    return { state: here + there > 0 ? 'owed' : 'idle', reason: 'no session' }
  }
  const blocked = facts.blocked ?? streamBlocked(state)
  if (blocked !== undefined) return { state: 'waiting', reason: blocked }
  const { lastTakenInMs } = facts
  if (isUnreported(input)) {
    return {
      state: 'waiting',
      reason: 'the SiteAgent does not read, or does not tell its total',
      needs: 'EndKeyExchange and StartNode, where it does not go on by itself',
    }
  }
  const recently = lastTakenInMs !== undefined && input.nowMs - lastTakenInMs < input.recentMs
  if (state.flight !== undefined || recently) return { state: 'delivering' }
  if (state.ahead.length > 0) {
    return { state: 'waiting', reason: 'the other SiteAgent has not taken in yet what this one has' }
  }
  if (counts.held > 0n) {
    return { state: 'waiting', reason: 'the keys held here are not at the other site, or too few for a batch yet' }
  }
  return { state: 'idle', reason: 'no keys from the device' }
}

/** A SiteAgent that reads has told its total long before, ms. */
const UNREPORTED_MS = 5_000

function isUnreported({ state: { flight }, nowMs }: LinkReportInput): boolean {
  return flight !== undefined && nowMs - flight.sinceMs > UNREPORTED_MS
}

function warningsOf(input: LinkReportInput): string[] {
  const { session, state, nowMs } = input
  const warnings: string[] = []
  if (state.site.confirmation === 'inferred' && state.site.stream !== undefined) {
    warnings.push(
      'this SiteAgent tells no totals: that it took keys in is inferred from an undisturbed stream, and what it did not read before a break may be missing there',
    )
  }
  if (state.peer?.site.confirmation === 'inferred' && state.connection === 'up') {
    warnings.push('the other SiteAgent tells no totals: that it took keys in is inferred')
  }
  const { flight } = state
  if (flight !== undefined && isUnreported(input)) {
    const seconds = Math.round((nowMs - flight.sinceMs) / 1_000)
    warnings.push(
      `a batch of ${flight.count} keys has been on its way to this SiteAgent for ${seconds} s: it does not read, or does not tell its total`,
    )
  }
  const { here, there } = owed(state)
  if (here + there > 0) {
    warnings.push(
      `${here + there} keys are at one site only and are owed to ${here > 0 ? 'this' : 'the other'} one: a gateway that stops now parts the stores`,
    )
  }
  if (session.state === 'started' && session.peerLink.peer === 'foreign') {
    warnings.push('equal keys at both sites are only as good as the peer: nothing compares them')
  }
  return warnings
}

/** `sinceMs`: Unix ms at which the condition became what it is. */
export function linkReport(input: LinkReportInput, condition: LinkCondition, sinceMs: number): PartStatus {
  const warnings = warningsOf(input)
  return { ...condition, sinceMs, facts: reportFacts(input), ...(warnings.length > 0 ? { warnings } : {}) }
}

/** Stages of a batch that is not settled yet; docs/agreement.md says what each means. */
export const LINK_STAGES = ['proposed', 'verified', 'onItsWay', 'ahead', 'due', 'inDoubt'] as const

export type LinkStage = (typeof LINK_STAGES)[number]

/** The link in numbers. */
export interface LinkFigures {
  readonly stages: Readonly<Record<LinkStage, { readonly batches: number; readonly keys: number }>>
  /** Keys that one SiteAgent lacks of what the other one has. */
  readonly owedHere: number
  readonly owedThere: number
  readonly sites: SitesFigures
  /** Between the two gateways, ms. */
  readonly roundTripMs: number | undefined
  /** Keys whose taking in was inferred and not told. */
  readonly inferredKeys: bigint
  /** Batches in a row that did not verify. */
  readonly mismatches: number
  /** Number of the first key that differs, where the stores have parted. */
  readonly firstDifferingKey: bigint | undefined
}

export function linkFigures(state: AgreementState, facts: RuntimeFacts): LinkFigures {
  const { here, there } = owed(state)
  return {
    stages: stagesOf(state),
    owedHere: here,
    owedThere: there,
    sites: facts.sites,
    roundTripMs: facts.roundTripMs,
    inferredKeys: facts.inferredKeys,
    mismatches: state.mismatches,
    firstDifferingKey: state.diverged?.firstDifferingKey,
  }
}

function stagesOf(state: AgreementState): LinkFigures['stages'] {
  const stage = (batches: readonly { readonly count: number }[]): { batches: number; keys: number } => ({
    batches: batches.length,
    keys: batches.reduce((keys, { count }) => keys + count, 0),
  })
  const some = <T>(batch: T | undefined): readonly T[] => (batch === undefined ? [] : [batch])
  return {
    proposed: stage(some(state.proposed)),
    verified: stage(state.kept.filter(({ due }) => !due)),
    onItsWay: stage(some(state.flight)),
    ahead: stage(state.ahead),
    due: stage(state.kept.filter(({ due }) => due)),
    inDoubt: stage(state.doubts),
  }
}

function reportFacts({ state, facts, counts }: LinkReportInput): { [key: string]: JsonValue | undefined } {
  const { stages, owedHere, owedThere, sites, roundTripMs, inferredKeys, mismatches } = linkFigures(state, facts)
  const given = counts.delivered + counts.sacrificed
  return {
    role: state.role,
    received: counts.received.toString(),
    delivered: counts.delivered.toString(),
    held: counts.held.toString(),
    sacrificed: counts.sacrificed.toString(),
    sacrificedPercent: given === 0n ? undefined : Math.round(Number((counts.sacrificed * 10_000n) / given)) / 100,
    dropped: Object.fromEntries(Object.entries(counts.dropped).map(([reason, keys]) => [reason, keys.toString()])),
    inferred: inferredKeys.toString(),
    owedHere,
    owedThere,
    proposed: stages.proposed.keys,
    verified: stages.verified.keys + stages.due.keys,
    inFlight: stages.onItsWay.keys,
    inDoubt: stages.inDoubt.keys,
    stages: Object.fromEntries(LINK_STAGES.map((stage) => [stage, { ...stages[stage] }])),
    position: state.position,
    siteTotal: sites.here.total?.toString(),
    lastConfirmedMs: sites.here.confirmedMs,
    otherTotal: sites.there.total?.toString(),
    otherConfirmedMs: sites.there.confirmedMs,
    skewMs: rounded(sites.skewMs),
    skewMaxMs: rounded(sites.skewMaxMs),
    roundTripMs: rounded(roundTripMs),
    confirmation: state.site.confirmation,
    otherConfirmation: state.peer?.site.confirmation,
    otherReady: state.connection === 'up' && state.peer?.site.ready === true,
    differenceAccepted: state.offset === 'adopt' ? 'next batch' : state.offset.toString(),
    mismatches,
  }
}

function rounded(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.round(ms * 100) / 100
}
