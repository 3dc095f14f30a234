/** What a gateway's status says of keys that are at one site only, as numbers. */
import { DEFAULT_BATCH } from '../../../src/link/options.js'
import type { GatewayStatus } from '../../../src/gateway/status-socket.js'

export interface GatewayFigures {
  /** Another number is another gateway, whose counts began anew. */
  readonly pid: number
  /** Keys that the other site has and this one is owed. */
  readonly owedHere: number
  /** Keys that this site has and the other one is owed. */
  readonly owedThere: number
  readonly inDoubt: number
  /** Keys dropped since this gateway started because nobody can tell whether a SiteAgent has them. */
  readonly uncertain: number
}

/** Of a gateway that does not answer, nothing is known. */
export function figuresOf(status: GatewayStatus | undefined): GatewayFigures {
  const facts = status?.parts['link']?.facts ?? {}
  const count = (name: string): number => Number(facts[name] ?? 0)
  const dropped = facts['dropped']
  const byReason = typeof dropped === 'object' && dropped !== null && !Array.isArray(dropped) ? dropped : {}
  return {
    pid: status?.pid ?? 0,
    owedHere: count('owedHere'),
    owedThere: count('owedThere'),
    inDoubt: count('inDoubt'),
    uncertain: Number((byReason as Readonly<Record<string, unknown>>)['uncertain'] ?? 0),
  }
}

/** A batch for a site that tells no totals has at most so many keys, and one of them at a time is on its way. */
const mostUnreadKeys = DEFAULT_BATCH.maxInferredKeys

/**
 * Keys that a Java SiteAgent may not have read before its stream broke, and that are not sent again: what its gateway
 * dropped as uncertain since `before`, one small batch at most. A gateway that died tells no more what it had sent.
 */
export function unreadKeys(before: GatewayFigures, now: GatewayFigures): number {
  return now.pid === before.pid ? Math.min(mostUnreadKeys, now.uncertain - before.uncertain) : mostUnreadKeys
}
