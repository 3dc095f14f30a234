/** Makes the link of one gateway: journal, peer, agreement, and the pair's hooks where the device makes keys in pairs. */
import { join } from 'node:path'
import type { ChannelCredentials } from '@grpc/grpc-js'
import type { Device } from '../device/contract.js'
import { isPairDevice } from '../device/pair-contract.js'
import { fileJournal } from '../link/journal.js'
import { createLink, type AgreedLink } from '../link/link.js'
import type { LinkCounts } from '../link/contract.js'
import { createPeerConnector } from '../link/peer-client.js'
import type { Logger } from '../observe/log.js'
import type { Statistics } from '../observe/statistics.js'
import type { SiteTotals } from '../rpc/site-totals.js'
import { pairHooksOf } from './compose-pair.js'
import type { HostProcess } from './host.js'
import type { Plan } from './plan.js'
import { safeFileName } from './state-folder.js'

const fallbackKeyBytes = 32

/** Without a SiteAgent nobody tells totals. */
const noTotals: SiteTotals = { dialect: () => 'unknown', onTotal: () => () => {}, reporting: () => false }

export interface LinkParts {
  readonly plan: Plan
  readonly host: HostProcess
  readonly log: Logger
  readonly device: Device
  readonly totals: SiteTotals | undefined
  readonly controlAddress: () => string | undefined
  readonly peerCredentials: () => ChannelCredentials | undefined
}

/** The journal of a device's link; one file an id. */
export function journalPath(stateFolder: string, id: string): string {
  return join(stateFolder, `${safeFileName(id)}.journal`)
}

export function composeLink(parts: LinkParts): AgreedLink {
  const { plan, host, log, device } = parts
  const { smallestBatchKeys, longestWaitMs, maxHeldKeys, maxHeldAgeMs } = plan.config.link ?? {}
  const link: AgreedLink = createLink({
    kind: plan.device.kind,
    // A device that yields no key has no key length; the link wants one all the same.
    bytesPerKey: plan.device.bytesPerKey === 0 ? fallbackKeyBytes : plan.device.bytesPerKey,
    controlAddress: parts.controlAddress,
    totals: parts.totals ?? noTotals,
    connector: createPeerConnector({ credentials: parts.peerCredentials }),
    journal: fileJournal(journalPath(plan.stateFolder, plan.device.id)),
    clock: host.clock,
    random: host.random,
    log,
    batch: {
      ...(smallestBatchKeys === undefined ? {} : { minKeys: smallestBatchKeys }),
      ...(longestWaitMs === undefined ? {} : { maxWaitMs: longestWaitMs }),
    },
    hold: {
      ...(maxHeldKeys === undefined ? {} : { maxKeys: maxHeldKeys }),
      ...(maxHeldAgeMs === undefined ? {} : { maxAgeMs: maxHeldAgeMs }),
    },
    ...(isPairDevice(device) ? { pair: pairHooksOf(device, parts.peerCredentials, log) } : {}),
  })
  return link
}

/** Logs the session's steps, with an account at its end, and puts the peer into the statistics' parameters. */
export function followSession(link: AgreedLink, statistics: Statistics, log: Logger): void {
  let begun: { peer: string; counts: LinkCounts } | undefined
  link.session.subscribe((state) => {
    if (state.state !== 'started') {
      if (begun !== undefined) {
        statistics.sessionEnded()
        const { text, facts } = accountOf(link, begun.counts)
        log.info({ part: 'session', ...facts }, `session with ${begun.peer} ended: ${text}`)
        begun = undefined
      }
      if (state.state === 'starting' && state.reason !== '') log.warn({ part: 'session' }, `session: ${state.reason}`)
      if (state.state === 'none' && state.errorCode !== 0) log.warn({ part: 'session' }, `no session: ${state.reason}`)
      return
    }
    if (begun?.peer === state.peerAddress) return
    begun = { peer: state.peerAddress, counts: link.counts() }
    statistics.sessionStarted(begun.peer)
    // The initiator's call is the last of the eight steps; the left side is who receives it.
    const step = state.role === 'left' ? { step: 8, name: 'SessionStarting' } : {}
    log.info(
      { part: 'session', role: state.role, ...step },
      `session with ${begun.peer} started; this is the ${state.role} side`,
    )
  })
}

/** What a session came to: the counts since its beginning, and where both SiteAgents stand. */
function accountOf(link: AgreedLink, before: LinkCounts): { text: string; facts: Record<string, unknown> } {
  const now = link.counts()
  const { sites, owedHere, owedThere } = link.figures()
  const dropped: Record<string, number> = {}
  for (const [reason, keys] of Object.entries(now.dropped)) {
    const more = Number(keys - (before.dropped[reason] ?? 0n))
    if (more > 0) dropped[reason] = more
  }
  const facts = {
    received: Number(now.received - before.received),
    delivered: Number(now.delivered - before.delivered),
    sacrificed: Number(now.sacrificed - before.sacrificed),
    dropped,
    held: Number(now.held),
    owedHere,
    owedThere,
    siteTotal: sites.here.total?.toString(),
    otherTotal: sites.there.total?.toString(),
    skewMaxMs: sites.skewMaxMs === undefined ? undefined : Math.round(sites.skewMaxMs * 100) / 100,
  }
  const lost = Object.values(dropped).reduce((sum, keys) => sum + keys, 0)
  const owed = owedHere + owedThere
  const parts = [
    `${facts.delivered} keys delivered`,
    `${facts.sacrificed} sacrificed`,
    `${lost} dropped`,
    `${facts.held} held`,
    ...(owed > 0 ? [`${owed} owed to ${owedHere > 0 ? 'this' : 'the other'} site`] : []),
    `totals ${facts.siteTotal ?? 'unknown'} here and ${facts.otherTotal ?? 'unknown'} there`,
  ]
  return { text: parts.join(', '), facts }
}

/**
 * What of the link's changes somebody should know and the link does not log itself; batches that come and go are for
 * debugging.
 */
export function followLink(link: AgreedLink, log: Logger): void {
  link.condition.subscribe(({ state, reason, needs }) => {
    const why = reason === undefined ? '' : `: ${reason}`
    const text = `link ${state}${why}${needs === undefined ? '' : `; it needs ${needs}`}`
    const stalled = state === 'waiting' && reason?.includes('does not read') === true
    const worth = stalled || state === 'owed' || state === 'unagreed'
    log[worth ? 'warn' : 'debug']({ part: 'link', state }, text)
  })
}
