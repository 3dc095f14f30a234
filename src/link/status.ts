/** Session and link in plain words, for status, metrics and logs. */
import type { ReadonlyCell } from '../base/cell.js'
import type { JsonValue, PartStatus } from '../observe/status.js'
import { streamBlocked } from './agreement/delivery.js'
import { owed } from './agreement/machine.js'
import type { AgreementState } from './agreement/state.js'
import type { LinkCounts } from './contract.js'
import type { RuntimeFacts } from './runtime-options.js'
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
  readonly unagreedUsed: boolean
  readonly nowMs: number
}

/** States, the worst first: diverged, stopped, mismatch, unagreed, owed, blocked, delivering, idle. */
export function linkReport(input: LinkReportInput): PartStatus {
  const { session, state, facts, counts } = input
  const unsettled = owed(state)
  const warnings: string[] = []
  const inferred = state.site.confirmation === 'inferred'
  if (inferred && state.site.stream !== undefined) {
    warnings.push(
      'this SiteAgent tells no totals: that it took keys in is inferred from an undisturbed stream, and what it did not read before a break may be missing there',
    )
  }
  if (state.peer?.site.confirmation === 'inferred' && state.connection === 'up') {
    warnings.push('the other SiteAgent tells no totals: that it took keys in is inferred')
  }
  if (unsettled.here + unsettled.there > 0) {
    warnings.push(
      `${unsettled.here + unsettled.there} keys are at one site only and are owed to ${unsettled.here > 0 ? 'this' : 'the other'} one: a gateway that stops now parts the stores`,
    )
  }
  const common = {
    sinceMs: input.nowMs,
    facts: reportFacts(input),
    ...(warnings.length > 0 ? { warnings } : {}),
  }
  if (state.diverged !== undefined) {
    return {
      ...common,
      state: 'diverged',
      reason: `from key ${state.diverged.firstDifferingKey} on the two stores differ: ${state.diverged.reason}`,
      needs: 'restart both SiteAgents so that their stores begin anew, or accept the divergence (--accept-divergence)',
    }
  }
  if (state.stopped !== undefined) {
    return {
      ...common,
      state: 'stopped',
      reason: state.stopped,
      needs: 'the two devices of one pair, and a new session',
    }
  }
  if (facts.peerMismatch !== undefined) {
    return {
      ...common,
      state: 'mismatch',
      reason: facts.peerMismatch,
      needs: 'the same kind, key length and version at both ends',
    }
  }
  if (session.state === 'started' && session.peerLink.peer === 'foreign') {
    const reason = 'the peer does not speak the link service: each side delivers by itself, in the order of arrival'
    return {
      ...common,
      state: 'unagreed',
      reason,
      warnings: [...warnings, 'equal keys at both sites are only as good as the peer: nothing compares them'],
    }
  }
  if (facts.journalProblem !== undefined) {
    return {
      ...common,
      state: 'waiting',
      reason: `the journal cannot be written: ${facts.journalProblem}`,
      needs: 'room in the state folder',
    }
  }
  if (session.state !== 'started')
    return { ...common, state: unsettled.here + unsettled.there > 0 ? 'owed' : 'idle', reason: 'no session' }
  const blocked = facts.blocked ?? streamBlocked(state)
  if (blocked !== undefined) return { ...common, state: 'waiting', reason: blocked }
  return { ...common, state: state.flight === undefined && counts.held === 0n ? 'idle' : 'delivering' }
}

function reportFacts({ state, facts, counts }: LinkReportInput): { [key: string]: JsonValue | undefined } {
  const { here, there } = owed(state)
  return {
    role: state.role,
    received: counts.received.toString(),
    delivered: counts.delivered.toString(),
    held: counts.held.toString(),
    sacrificed: counts.sacrificed.toString(),
    dropped: Object.fromEntries(Object.entries(counts.dropped).map(([reason, keys]) => [reason, keys.toString()])),
    inferred: facts.inferredKeys.toString(),
    owedHere: here,
    owedThere: there,
    proposed: state.proposed?.count ?? 0,
    verified: state.kept.reduce((keys, { count }) => keys + count, 0),
    inFlight: state.flight?.count ?? 0,
    inDoubt: state.doubts.reduce((keys, { count }) => keys + count, 0),
    position: state.position,
    siteTotal: state.store.total?.toString(),
    lastConfirmedMs: facts.lastConfirmedMs,
    confirmation: state.site.confirmation,
    otherConfirmation: state.peer?.site.confirmation,
    otherReady: state.connection === 'up' && state.peer?.site.ready === true,
    differenceAccepted: state.offset === 'adopt' ? 'next batch' : state.offset.toString(),
    mismatches: state.mismatches,
  }
}
