/** When a link is to be started again. Pure: what is seen and when goes in, what to do comes out. */
import type { EndView } from './link-watch.js'

/** What is known at one moment. Times are ms of the monotonic clock. */
export interface LinkView {
  readonly nowMs: number
  readonly left: EndView
  readonly right: EndView
  /** Whether both SiteAgents tell what they take in. */
  readonly totalsKnown: boolean
  /** When the SiteAgent that is further behind last took keys in; undefined while none came. */
  readonly keysAtMs: number | undefined
  /** False while a batch is on its way that the other site must still get or drop. */
  readonly settled: boolean
  /** What the gateway that keeps the link up knows of its own end, where there is one; 'waiting' may mend by itself. */
  readonly own?: 'running' | 'stopped' | 'waiting'
  /** What our own end lacks so that a start would be in vain, where there is such. */
  readonly ownLacks?: string
}

export interface KeepUpMemory {
  /** When watching began. */
  readonly beganMs: number
  /** Since when something is wrong with the link; undefined while it runs. */
  readonly faultSinceMs: number | undefined
  /** When it was last started from here, and how often since keys last came. */
  readonly startedAtMs: number | undefined
  readonly starts: number
}

export interface KeepUpLimits {
  /** A device that waits, or a link that was just started, is given so long. */
  readonly graceMs: number
  /** Keys that stay away for so long count as stopped, whatever the devices say. */
  readonly stalledAfterMs: number
  /** Pause after the n-th start (from 1) that brought no key, ms. */
  readonly pauseMs: (starts: number) => number
}

/** `state` and `reason` are for people. */
export type KeepUpDecision =
  { action: 'wait'; state: string; memory: KeepUpMemory } | { action: 'start'; reason: string; memory: KeepUpMemory }

export function freshMemory(nowMs: number): KeepUpMemory {
  return { beganMs: nowMs, faultSinceMs: undefined, startedAtMs: undefined, starts: 0 }
}

export function decideKeepUp(view: LinkView, memory: KeepUpMemory, limits: KeepUpLimits): KeepUpDecision {
  const wait = (state: string, change: Partial<KeepUpMemory>): KeepUpDecision => ({
    action: 'wait',
    state,
    memory: { ...memory, ...change },
  })
  const missing = missingPart(view) ?? view.ownLacks
  // A site or device that is away is no reason to start: it comes back first.
  if (missing !== undefined) return wait(missing, { faultSinceMs: undefined })
  const fault = faultOf(view, memory, limits)
  if (fault === undefined) {
    const keysCame = memory.startedAtMs !== undefined && (view.keysAtMs ?? 0) > memory.startedAtMs
    return wait(runningState(view), { faultSinceMs: undefined, ...(keysCame ? { starts: 0 } : {}) })
  }
  const faultSinceMs = memory.faultSinceMs ?? view.nowMs
  if (!view.settled) return wait(`${fault.reason}; a batch is being settled first`, { faultSinceMs })
  const patienceMs = fault.maybeMends ? faultSinceMs + limits.graceMs : 0
  const pauseMs = memory.starts === 0 ? 0 : Math.max(limits.graceMs, limits.pauseMs(memory.starts))
  const dueMs = Math.max(patienceMs, (memory.startedAtMs ?? 0) + pauseMs)
  if (view.nowMs < dueMs) return wait(fault.reason, { faultSinceMs })
  return {
    action: 'start',
    reason: fault.reason,
    memory: { ...memory, faultSinceMs, startedAtMs: view.nowMs, starts: memory.starts + 1 },
  }
}

function missingPart({ left, right }: LinkView): string | undefined {
  for (const [name, end] of [
    ['left', left],
    ['right', right],
  ] as const) {
    if (end.siteUrl === undefined) return `the ${name} SiteAgent does not answer (${end.trouble ?? 'no reason given'})`
    if (end.controlAddress === undefined) return `the ${name} device is not registered at ${end.siteUrl}`
  }
  return undefined
}

function isHidden(view: LinkView): boolean {
  return view.own === undefined && view.left.device === 'hidden' && view.right.device === 'hidden'
}

function runningState(view: LinkView): string {
  if (isHidden(view) && !view.totalsKnown) return 'started; nothing here shows whether keys flow'
  return 'the link runs'
}

interface Fault {
  readonly reason: string
  /** It may pass by itself within the grace. */
  readonly maybeMends: boolean
}

function faultOf(view: LinkView, memory: KeepUpMemory, limits: KeepUpLimits): Fault | undefined {
  if (view.own === 'stopped' || view.own === 'waiting') {
    return { reason: 'our own device has no session', maybeMends: view.own === 'waiting' }
  }
  for (const name of ['left', 'right'] as const) {
    if (view[name].device === 'inactive') {
      return { reason: `the ${name} device has no session and nobody waits for its keys`, maybeMends: false }
    }
  }
  for (const name of ['left', 'right'] as const) {
    if (view[name].device === 'listening') return { reason: `the ${name} device waits for a session`, maybeMends: true }
  }
  if (!view.totalsKnown) {
    if (!isHidden(view) || memory.startedAtMs !== undefined) return undefined
    return { reason: 'nothing shows that the link runs', maybeMends: false }
  }
  const lastMs = Math.max(view.keysAtMs ?? 0, memory.startedAtMs ?? 0, memory.beganMs)
  if (view.nowMs - lastMs < limits.stalledAfterMs) return undefined
  const seconds = Math.round(limits.stalledAfterMs / 1000)
  return { reason: `no key has reached both SiteAgents for ${seconds} s`, maybeMends: false }
}
