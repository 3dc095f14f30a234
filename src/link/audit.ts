/** Do two sites agree, as far as both journals and the SiteAgents' reports say? Pure. */
import type { BatchRef } from './agreement/state.js'
import type { JournalRecord } from './journal.js'

/** What is known of one site. */
export interface SiteEvidence {
  readonly name: string
  readonly journal: JournalRecord
  /** The SiteAgent's latest total, where something tells one that is newer than the journal's. */
  readonly total?: bigint
  /** A running gateway has this batch on its way in good order: its fate is not in doubt. */
  readonly moving?: BatchRef
}

export type AuditVerdict =
  /** Everything that one site has the other has as well. */
  | 'agree'
  /** One site is ahead by a batch that its gateways still know and will pay. */
  | 'owed'
  /** A batch was on its way when the journals were written: look again. */
  | 'unsettled'
  | 'differ'
  /** The journals cannot tell: nothing delivered yet, or not two ends of one link. */
  | 'unknown'

export interface AuditResult {
  readonly verdict: AuditVerdict
  /** One line for a person. */
  readonly sentence: string
  readonly firstDifferingKey?: bigint
  readonly keys?: number
}

export function audit(a: SiteEvidence, b: SiteEvidence): AuditResult {
  const [left, right] = [a.journal.state, b.journal.state]
  const parted = [left.diverged, right.diverged].filter((one) => one !== undefined)
  const [first] = parted.sort((x, y) => (x.firstDifferingKey < y.firstDifferingKey ? -1 : 1))
  if (first !== undefined) {
    return differing(first.firstDifferingKey, `the gateways say so themselves: ${first.reason}`)
  }
  if (left.lineage === '' || right.lineage === '') {
    const empty = left.lineage === '' ? a : b
    return { verdict: 'unknown', sentence: `the journal of ${empty.name} tells of no agreed batch yet` }
  }
  if (left.lineage !== right.lineage) {
    return {
      verdict: 'unknown',
      sentence: 'the two journals are not of one link, or one of them was lost and begun anew',
    }
  }
  const sending = [...doubtful(a), ...doubtful(b)]
  if (sending.length > 0) {
    const keys = sending.reduce((sum, { count }) => sum + count, 0)
    return {
      verdict: 'unsettled',
      keys,
      sentence: `a batch of ${keys} keys was on its way: look again once it is settled`,
    }
  }
  return standing(a, b)
}

/** What was being sent and is not simply on its way. */
function doubtful({ journal, moving }: SiteEvidence): readonly BatchRef[] {
  return journal.state.sending.filter(({ serial, foreseen }) => serial !== moving?.serial && foreseen !== true)
}

/** What is known where the gateways are not asked, only their SiteAgents. */
export interface StoreEvidence {
  readonly name: string
  /** As the SiteAgent reported last; undefined where it reported nothing. */
  readonly total: bigint | undefined
}

/** The weaker comparison: two totals. Equal numbers are no proof of equal keys. */
export function compareStores(a: StoreEvidence, b: StoreEvidence): AuditResult {
  const silent = [a, b].filter(({ total }) => total === undefined).map(({ name }) => name)
  if (a.total === undefined || b.total === undefined) {
    return {
      verdict: 'unknown',
      sentence: `${silent.join(' and ')} told no total: SiteAgents tell changes only, and Java ones nothing; --spend-key compares a key`,
    }
  }
  if (a.total === b.total) {
    return {
      verdict: 'agree',
      sentence: `both SiteAgents took in ${a.total} keys; that these are the same, only their gateways or --spend-key can tell`,
    }
  }
  const [ahead, behind] = a.total > b.total ? [a, b] : [b, a]
  const [more, fewer] = a.total > b.total ? [a.total, b.total] : [b.total, a.total]
  return {
    verdict: 'unsettled',
    keys: Number(more - fewer),
    sentence: `${ahead.name} took in ${more} keys and ${behind.name} ${fewer}: on their way, owed or parted, which only the gateways can tell`,
  }
}

/** Both journals are of one sequence, and nothing is on its way. */
function standing(a: SiteEvidence, b: SiteEvidence): AuditResult {
  const owing = [
    { ahead: a, behind: b },
    { ahead: b, behind: a },
  ].find(({ ahead, behind }) => lacking(ahead, behind).length > 0)
  const [takenA, takenB] = [lastTaken(a), lastTaken(b)]
  if (owing !== undefined) {
    const { ahead, behind } = owing
    const keys = lacking(ahead, behind).reduce((sum, { count }) => sum + count, 0)
    const next = (totalOf(behind) ?? BigInt(behind.journal.state.position)) + 1n
    return {
      verdict: 'owed',
      keys,
      firstDifferingKey: next,
      sentence: `${ahead.name} is ahead by ${keys} keys, which ${behind.name} is owed: key ${next} is the first that it lacks`,
    }
  }
  if (takenA !== takenB) {
    return { verdict: 'unknown', sentence: 'one journal is older than the other: look at both at the same time' }
  }
  const [totalA, totalB] = [totalOf(a), totalOf(b)]
  const { offset } = a.journal.state
  if (totalA === undefined || totalB === undefined || offset === 'adopt') {
    return {
      verdict: 'agree',
      sentence: `the sites agree after batch ${takenA}, by what both gateways know; not both SiteAgents tell totals`,
    }
  }
  if (totalA - totalB !== offset) {
    const lower = totalA < totalB ? totalA : totalB
    return differing(lower + 1n, `${a.name} holds ${totalA} keys and ${b.name} ${totalB}`)
  }
  const moving = [a, b].flatMap((site) => (site.moving === undefined ? [] : [site.moving.count]))
  const onTheirWay = moving.length === 0 ? '' : `; ${Math.max(...moving)} more are on their way`
  const difference = offset === 0n ? '' : ` (they differ by ${offset} keys, as was accepted)`
  return { verdict: 'agree', sentence: `the sites agree: ${totalA} and ${totalB} keys${difference}${onTheirWay}` }
}

/** Batches of `ahead` that `behind` has not taken in. */
function lacking(ahead: SiteEvidence, behind: SiteEvidence): readonly { readonly count: number }[] {
  const taken = lastTaken(behind)
  return ahead.journal.state.ahead.filter(({ serial }) => serial > taken)
}

function lastTaken({ journal }: SiteEvidence): number {
  return journal.state.ahead.at(-1)?.serial ?? journal.state.settled
}

function totalOf({ total, journal }: SiteEvidence): bigint | undefined {
  return total ?? journal.state.total
}

function differing(firstDifferingKey: bigint, why: string): AuditResult {
  return { verdict: 'differ', firstDifferingKey, sentence: `the sites differ from key ${firstDifferingKey} on: ${why}` }
}
