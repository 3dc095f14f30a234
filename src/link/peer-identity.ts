/** Who a caller is to the session that runs, and whether that session lives: a stranger must not end one that does. */
import type { Clock } from '../base/clock.js'
import { parseHostPort } from '../base/host-port.js'
import type { Originator } from '../rpc/device-port.js'
import { type ActiveSession, hasToken } from './active-session.js'
import type { Conversation } from './conversation.js'

export type PeerVerdict = 'peer' | 'stranger' | 'no session'

/** Where a session of ours shows that it lives. */
export interface LifeSigns {
  readonly talk: Conversation
  readonly clock: Clock
}

/** How long a session whose link is not open yet keeps its place, ms. */
const OPENING_GRACE_MS = 2_000
/** How long a running session has to show that it lives, ms. */
const LIFE_SIGN_MS = 800

/** Its link is about to open. */
const isOpening = (active: ActiveSession, clock: Clock): boolean =>
  clock.monotonicMs() - active.begunMs < OPENING_GRACE_MS

/** Whether a caller is the other device of `active`; 'no session' where that one is dead and anybody may take its place. */
export function peerCheck(
  active: ActiveSession,
  originator: Originator,
  metadata: ReadonlyMap<string, string>,
  { talk, clock }: LifeSigns,
): PeerVerdict {
  if (hasToken(active, metadata)) return 'peer'
  if (active.ours) return talk.connected || isOpening(active, clock) ? 'stranger' : 'no session'
  if (originator.via !== 'hidden' && active.originator?.address === originator.address) return 'peer'
  const host = parseHostPort(active.peerAddress, 'peer').host
  return host === originator.address ? 'peer' : 'stranger'
}

/** Whether `active` is still somebody's, when a caller without its token wants to begin another one from `address`. */
export async function isAlive(
  active: ActiveSession,
  address: string,
  originator: Originator,
  { talk, clock }: LifeSigns,
): Promise<boolean> {
  // A device that is no gateway shows no life; it is believed to have begun anew itself.
  if (!active.ours) return active.peerAddress !== address && active.originator?.address !== originator.address
  if (!talk.connected) return isOpening(active, clock)
  const before = talk.lastHeardMs
  talk.ping()
  const untilMs = clock.monotonicMs() + LIFE_SIGN_MS
  while (clock.monotonicMs() < untilMs) {
    if (talk.lastHeardMs > before) return true
    if (!talk.connected) return false
    await new Promise<void>((resolve) => clock.after(20, resolve))
  }
  return false
}
