/** One account of all parts, for `qkd-gw status`. */
import { formatHostPort } from '../base/host-port.js'
import { version } from '../base/version.js'
import type { ReadonlyCell } from '../base/cell.js'
import type { Device } from '../device/contract.js'
import type { Link } from '../link/contract.js'
import type { PartStatus } from '../observe/status.js'
import type { DeviceServer } from '../rpc/server.js'
import type { Site } from '../site/contract.js'
import type { Tunnel } from '../tunnel/contract.js'
import type { DeviceFeed } from './device-feed.js'
import type { DirectProof } from './direct-proof.js'
import { kmsForecast } from './kms-forecast.js'
import { reasonOf } from './narrate.js'
import type { Plan } from './plan.js'
import type { ServingState } from './serving.js'
import type { GatewayStatus } from './status-socket.js'

export interface GatewayParts {
  readonly plan: Plan
  readonly device: Device
  readonly feed: DeviceFeed
  readonly server: DeviceServer
  readonly serving: ReadonlyCell<ServingState>
  readonly tunnel: Tunnel | undefined
  readonly direct: DirectProof | undefined
  readonly site: Site | undefined
  readonly link: Link
  /** Where the metrics are, or why they are not. */
  readonly metrics: string
  /** Sentences of the access policy. */
  readonly policyWarnings: () => readonly string[]
}

function ofCell<S extends { state: string }>(cell: ReadonlyCell<S>, facts: PartStatus['facts'] = {}): PartStatus {
  return { state: cell.value.state, sinceMs: cell.sinceMs, ...reasonOf(cell.value), facts }
}

function tunnelPart({ tunnel, direct }: GatewayParts, startedAtMs: number): PartStatus {
  if (tunnel !== undefined) {
    const state = tunnel.state.value
    const address = 'controlAddress' in state ? { controlAddress: formatHostPort(state.controlAddress) } : {}
    const proof =
      state.state === 'proven'
        ? { via: state.via, provenAtMs: state.provenAtMs, roundTripMs: Math.round(state.roundTripMs * 100) / 100 }
        : {}
    return { ...ofCell(tunnel.state, { ...address, ...proof, ...tunnel.facts() }), warnings: [...tunnel.warnings()] }
  }
  if (direct !== undefined) {
    const state = direct.state.value
    const address = state.state === 'proven' ? { controlAddress: formatHostPort(state.controlAddress) } : {}
    return ofCell(direct.state, { tunnel: 'none', ...address })
  }
  return { state: 'off', sinceMs: startedAtMs, reason: 'no tunnel configured', needs: '--tunnel user@host' }
}

/** Behind a Java SiteAgent stands a KMS that hands out nothing for long: when it will. */
function kmsFacts({ site, plan, link, feed }: GatewayParts): NonNullable<PartStatus['facts']> {
  if (site?.dialect() !== 'java' || plan.device.bytesPerKey === 0) return {}
  const { delivered } = link.counts()
  const { bytesPerKey } = plan.device
  const { sentence, facts } = kmsForecast({ delivered, keysPerSecond: feed.keysPerSecond(), bytesPerKey })
  return { kms: sentence, kmsForecast: { ...facts } }
}

function registrationPart(parts: GatewayParts, startedAtMs: number): PartStatus {
  const { site, plan } = parts
  if (site === undefined) {
    return { state: 'off', sinceMs: startedAtMs, reason: 'no SiteAgent configured', needs: '--site-agent host:port' }
  }
  return {
    ...ofCell(site.state, { id: plan.device.id, kind: plan.device.kind, ...site.facts(), ...kmsFacts(parts) }),
    warnings: [...site.warnings()],
  }
}

function tenths(value: number): number {
  return Math.round(value * 10) / 10
}

function counts(parts: GatewayParts): GatewayStatus['counts'] {
  const { received, delivered, held, sacrificed, dropped } = parts.link.counts()
  const text = (value: bigint): string | number =>
    value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString()
  return {
    received: text(received),
    delivered: text(delivered),
    held: text(held),
    sacrificed: text(sacrificed),
    dropped: Object.fromEntries(Object.entries(dropped).map(([reason, value]) => [reason, text(value)])),
    discardedByDevice: { ...parts.feed.discarded() },
    deliveredPerSecond: tenths(parts.feed.keysPerSecond()),
    sacrificedPerSecond: tenths(parts.feed.sacrificedPerSecond()),
  }
}

export function statusOf(parts: GatewayParts, startedAtMs: number): GatewayStatus {
  const { plan, device, serving, link, server } = parts
  const chain: GatewayStatus['parts'] = {
    device: ofCell(device.state, { driver: plan.device.descriptor.name, side: plan.device.side, ...device.facts() }),
    server: ofCell(serving, { ...serverFacts(serving.value, server), metrics: parts.metrics }),
    tunnel: tunnelPart(parts, startedAtMs),
    registration: registrationPart(parts, startedAtMs),
    session: link.sessionStatus(),
    link: link.linkStatusReport(),
  }
  const warnings = [...plan.warnings, ...parts.policyWarnings()]
  for (const part of Object.values(chain)) warnings.push(...(part.warnings ?? []))
  return {
    version,
    pid: process.pid,
    id: plan.device.id,
    device: plan.device.name,
    startedAtMs,
    parts: chain,
    warnings: [...new Set(warnings)],
    counts: counts(parts),
  }
}

function serverFacts(state: ServingState, server: DeviceServer): PartStatus['facts'] {
  const { refusals, ...rest } = server.counts()
  return { ...(state.state === 'serving' ? { address: state.address } : {}), ...rest, refusals: { ...refusals } }
}
