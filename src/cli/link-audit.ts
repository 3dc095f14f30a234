/** `qkd-gw link audit`: do the two sites of a link hold the same keys? */
import { setTimeout as pause } from 'node:timers/promises'
import { EXIT } from '../base/error-codes.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { audit, compareStores, type AuditResult, type SiteEvidence } from '../link/audit.js'
import type { CliEnvironment } from './environment.js'
import { findSource, type AuditSource } from './link-sources.js'
import { spendKey, watchStore, type SpentKey, type WatchedStore } from './link-stores.js'

export interface AuditFlags {
  json?: boolean
  spendKey?: boolean
  siteAgents?: string
  stateFolder?: string
  wait: number
}

/** Between two looks at what is moving. */
const lookMs = 25
/** Looks that are kept to find two that show both sites at the same batch. */
const kept = 60

interface Finding extends Omit<AuditResult, 'verdict'> {
  readonly verdict: AuditResult['verdict'] | 'unreachable'
}

/** Runs one audit and says what came out. */
export async function runAudit(
  given: readonly [string, string],
  flags: AuditFlags,
  stateFolder: string,
  env: CliEnvironment,
): Promise<void> {
  const sources: AuditSource[] = []
  for (const [index, text] of given.entries()) {
    const name = index === 0 ? 'A' : 'B'
    try {
      sources.push(await findSource(name, text, stateFolder))
    } catch (error) {
      if (codeOf(error) !== 'E_NOT_RUNNING') throw error
      const sentence = `${name} cannot be reached: ${messageOf(error)}`
      return show({ verdict: 'unreachable', sentence }, sources, undefined, flags, env)
    }
  }
  const [a, b] = sources
  if (a === undefined || b === undefined) throw new GatewayError('E_USAGE', 'two sites are to be named')
  const addresses = addressesOf(a, b, flags)
  // A running gateway hears its own SiteAgent's reports; where none runs they are heard here.
  const listen = async (source: AuditSource, address: string | undefined): Promise<WatchedStore | undefined> =>
    source.kind === 'gateway' || address === undefined ? undefined : watchStore(address, env.signal)
  const stores = await Promise.all([listen(a, addresses[0]), listen(b, addresses[1])])
  try {
    const found = await compare([a, b], stores, flags.wait * 1_000, env.signal)
    const spent = flags.spendKey === true ? await spend(addresses, env) : undefined
    show(found, sources, spent, flags, env)
  } finally {
    await Promise.all(stores.map(async (store) => store?.close()))
  }
}

/** host:port of both SiteAgents, where they are known. */
function addressesOf(
  a: AuditSource,
  b: AuditSource,
  flags: AuditFlags,
): readonly [string | undefined, string | undefined] {
  if (flags.siteAgents === undefined) return [a.siteAgent, b.siteAgent]
  const [addressA, addressB, more] = flags.siteAgents.split(',')
  if (addressA === undefined || addressB === undefined || more !== undefined) {
    throw new GatewayError('E_USAGE', '--site-agents A,B: host:port of both SiteAgents')
  }
  return [addressA, addressB]
}

async function spend(
  [a, b]: readonly [string | undefined, string | undefined],
  env: CliEnvironment,
): Promise<SpentKey> {
  if (a === undefined || b === undefined) {
    throw new GatewayError('E_USAGE', '--spend-key needs both SiteAgents', {
      remedy: 'name them with --site-agents host:port,host:port; running gateways know their own',
    })
  }
  return spendKey(a, b, env.signal)
}

/** Looks again while something moves, for `waitMs` at most; the last finding counts. */
async function compare(
  sources: readonly [AuditSource, AuditSource],
  stores: readonly (WatchedStore | undefined)[],
  waitMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  for (const [index, store] of stores.entries()) {
    const problem = store?.problem()
    if (problem !== undefined && sources[index]?.kind === 'siteAgent') {
      return { verdict: 'unreachable', sentence: `${sources[index].name} cannot be reached: ${problem}` }
    }
  }
  const moving = sources.some(({ kind }) => kind !== 'journal') || stores.some((store) => store !== undefined)
  const untilMs = performance.now() + (moving ? waitMs : 0)
  const seen: [SiteEvidence[], SiteEvidence[]] = [[], []]
  for (;;) {
    let found: Finding
    try {
      found = await look(sources, stores, seen)
    } catch (error) {
      if (codeOf(error) !== 'E_NOT_RUNNING') throw error
      found = { verdict: 'unreachable', sentence: `a gateway has gone meanwhile: ${messageOf(error)}` }
    }
    const sure =
      found.verdict === 'agree' || (found.verdict === 'differ' && found.sentence.includes('say so themselves'))
    if (sure || performance.now() >= untilMs || signal.aborted) return found
    await pause(lookMs, undefined, { signal }).catch(() => {})
  }
}

async function look(
  sources: readonly [AuditSource, AuditSource],
  stores: readonly (WatchedStore | undefined)[],
  seen: readonly [SiteEvidence[], SiteEvidence[]],
): Promise<Finding> {
  const [a, b] = sources
  if (a.kind === 'siteAgent' || b.kind === 'siteAgent') {
    const totals = await Promise.all(
      sources.map(async (source, index) => {
        const told = stores[index]?.total()
        if (source.kind === 'siteAgent') return { name: source.name, total: told }
        const { journal } = await source.look()
        return { name: source.name, total: told ?? journal.state.total }
      }),
    )
    const [first, second] = totals
    if (first === undefined || second === undefined) throw new Error('two sites are compared')
    return compareStores(first, second)
  }
  const present = await Promise.all([a.look(), b.look()])
  const [nowA, nowB] = present.map((evidence, index): SiteEvidence => {
    const total = stores[index]?.total()
    return total === undefined ? evidence : { ...evidence, total }
  })
  if (nowA === undefined || nowB === undefined) throw new Error('two sites are compared')
  seen[0].unshift(nowA)
  seen[1].unshift(nowB)
  for (const list of seen) list.length = Math.min(list.length, kept)
  const latest = audit(nowA, nowB)
  if (latest.verdict === 'agree' || latest.verdict === 'differ') return latest
  // While keys flow, the two are rarely seen at the same batch at once: an earlier look at one may fit the other.
  for (const earlier of seen[1]) if (audit(nowA, earlier).verdict === 'agree') return audit(nowA, earlier)
  for (const earlier of seen[0]) if (audit(earlier, nowB).verdict === 'agree') return audit(earlier, nowB)
  return latest
}

function show(
  found: Finding,
  sources: readonly AuditSource[],
  spent: SpentKey | undefined,
  flags: AuditFlags,
  env: CliEnvironment,
): void {
  const compared = spent !== undefined && 'equal' in spent ? spent : undefined
  const differ = found.verdict === 'differ' || compared?.equal === false
  // A key that is the same at both is worth more than totals that nobody told.
  const proven = compared?.equal === true && found.verdict === 'unknown'
  const verdict = differ ? 'differ' : proven ? 'agree' : found.verdict
  if (flags.json === true) {
    const document = {
      verdict,
      sentence: found.sentence,
      ...(found.firstDifferingKey === undefined ? {} : { firstDifferingKey: found.firstDifferingKey.toString() }),
      ...(found.keys === undefined ? {} : { keys: found.keys }),
      ...(spent === undefined ? {} : { spentKey: spent }),
      sites: sources.map(({ name, kind, what }) => ({ name, kind, what })),
    }
    env.stdout.write(`${JSON.stringify(document)}\n`)
  } else {
    const basis = sources.map(({ name, what }) => `${name}: ${what}`).join('; ')
    env.stdout.write(`${found.sentence}${spentText(spent)}${basis === '' ? '' : ` [${basis}]`}\n`)
  }
  if (differ) env.setExitCode(EXIT.keysDiffer)
  else if (verdict !== 'agree' || (spent !== undefined && compared === undefined)) env.setExitCode(EXIT.checkFailed)
}

function spentText(spent: SpentKey | undefined): string {
  if (spent === undefined) return ''
  if ('problem' in spent) return `; no key was compared: ${spent.problem}`
  return `; key ${spent.keyId}, taken at both, is ${spent.equal ? 'the same' : 'NOT the same'}`
}
