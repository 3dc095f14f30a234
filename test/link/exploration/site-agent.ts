/** What a SiteAgent does of itself. */
import { type End, ENDS, QUESTION, siteKind, totalOf } from './parts.js'
import type { Actor } from './world.js'

/** Reads the next message of a stream: takes its keys in, or answers where it has none. */
export function takeIn(actor: Actor, end: End, stream: string): void {
  const { open, store, reports, sessions } = actor.world.sites[end]
  const [message, ...wire] = open.find((one) => one.stream === stream)?.wire ?? []
  if (message === undefined) return
  const kind = siteKind(end, actor.rules)
  const isQuestion = message === QUESTION
  const next = isQuestion ? store : [...store, message]
  const tells = kind === 'cpp' || (kind === 'mute' && !isQuestion)
  const before = sessions.find((session) => session.stream === stream)?.units ?? []
  actor.site(end, {
    store: next,
    reports: tells ? [...reports, totalOf(next, actor.rules)] : reports,
    open: open.map((one) => (one.stream === stream ? { stream, wire } : one)),
    // Only what a Java site promises is told by them: elsewhere they would keep equal worlds apart.
    sessions:
      isQuestion || !actor.rules.sites.includes('java')
        ? sessions
        : [...sessions.filter((session) => session.stream !== stream), { stream, units: [...before, message] }],
  })
}

export function report(actor: Actor, end: End): void {
  const [total, ...reports] = actor.world.sites[end].reports
  if (total === undefined) return
  actor.site(end, { reports })
  actor.event(end, { type: 'total', storeId: 1n, total: BigInt(total), nowMs: 0 })
}

/** The SiteAgent dies and is started again with an empty store. */
export function crash(actor: Actor, end: End): void {
  const { open, restarts } = actor.world.sites[end]
  const noticed = siteKind(end, actor.rules) === 'java'
  actor.site(end, { store: [], open: [], reports: [], restarts: restarts + 1, unnoticed: !noticed, stalled: false })
  for (const { stream } of open) actor.event(end, { type: 'streamEnded', stream, nowMs: 0 })
  subscribeAgain(actor, end)
}

export function crashBoth(actor: Actor): void {
  for (const end of ENDS) crash(actor, end)
}

/** The gateway finds that its registration is gone. */
export function restartNoticed(actor: Actor, end: End): void {
  actor.site(end, { unnoticed: false })
  actor.event(end, { type: 'siteRestarted', store: `${end}-store${actor.world.sites[end].restarts}`, nowMs: 0 })
}

export function interruptReports(actor: Actor, end: End): void {
  actor.site(end, { reports: [] })
  subscribeAgain(actor, end)
}

function subscribeAgain(actor: Actor, end: End): void {
  if (siteKind(end, actor.rules) === 'java') return
  actor.event(end, { type: 'reportsInterrupted', nowMs: 0 })
  actor.event(end, { type: 'siteFacts', confirmation: 'none', restartsNumbering: false, nowMs: 0 })
  actor.tellFacts(end)
}

export function stall(actor: Actor, end: End, stalled: boolean): void {
  actor.site(end, { stalled })
}
