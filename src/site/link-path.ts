/** Which two devices make a link, and the path that says so, spelt as the SiteAgents spell themselves. */
import { create } from '@bufbuild/protobuf'
import { GatewayError } from '../base/errors.js'
import { Side_Type } from '../rpc/gen/cqp/remote/common_pb.js'
import type { ControlDetails } from '../rpc/gen/cqp/remote/device_pb.js'
import { PhysicalPathSchema, type PhysicalPath, type Site } from '../rpc/gen/cqp/remote/site_pb.js'

/** A device as a SiteAgent shows it, whichever numbering it was registered in. */
export interface ShownDevice {
  readonly id: string
  readonly side: 'alice' | 'bob' | 'any'
  readonly kind: string
  readonly bytesPerKey: number
  readonly switchName: string
  readonly switchPorts: readonly string[]
  readonly controlAddress: string
  /** Which numbering its registration has: both in one of ours. */
  readonly numbering: 'upstream' | 'openqkd' | 'both'
}

export interface LinkEnd {
  readonly site: string
  readonly device: ShownDevice
}

export interface LinkPair {
  /** Alice's site. */
  readonly left: LinkEnd
  readonly right: LinkEnd
}

/**
 * Only field 2 filled: upstream's control address. Only 3: OpenQKDNetwork's. Equal: one of ours. Different: a registration
 * in upstream's numbering with the SiteAgent's address in 3 shows no fourth field; with one it is OpenQKDNetwork's.
 */
export function shownDevice(details: ControlDetails): ShownDevice {
  const { config, bindAddress: field2, controlAddress: field3, siteAgentAddress: field4 } = details
  const openqkd = field2 === '' || (field3 !== '' && field4 !== '' && field2 !== field3)
  const sides = { [Side_Type.Alice]: 'alice', [Side_Type.Bob]: 'bob', [Side_Type.Any]: 'any' } as const
  return {
    id: config?.id ?? '',
    side: sides[config?.side ?? Side_Type.Alice] ?? 'any',
    kind: config?.kind ?? '',
    bytesPerKey: config?.bytesPerKey ?? 0,
    switchName: config?.switchName ?? '',
    switchPorts: config?.switchPort ?? [],
    controlAddress: openqkd ? field3 : field2,
    numbering: openqkd ? 'openqkd' : field2 === field3 ? 'both' : 'upstream',
  }
}

/** Each id once: the first entry is the one that a C++ SiteAgent uses. */
function devicesOf(site: Site, id: string | undefined): ShownDevice[] {
  const first = new Map<string, ShownDevice>()
  for (const device of site.devices.map(shownDevice)) if (!first.has(device.id)) first.set(device.id, device)
  return [...first.values()].filter((device) => id === undefined || device.id === id)
}

function fit(a: ShownDevice, b: ShownDevice): boolean {
  return a.kind === b.kind && (a.side !== b.side || a.side === 'any')
}

/**
 * The first two devices of equal kind and different sides (or side Any), Alice's on the left; ids narrow the choice.
 * Throws E_USAGE that lists what each site has.
 */
export function findPair(one: Site, other: Site, ids: { one?: string; other?: string } = {}): LinkPair {
  const here = devicesOf(one, ids.one)
  const there = devicesOf(other, ids.other)
  for (const device of here) {
    const partner = there.find((candidate) => fit(device, candidate))
    if (partner === undefined) continue
    const end = { site: one.url, device }
    const otherEnd = { site: other.url, device: partner }
    const swap = device.side === 'bob' || (device.side === 'any' && partner.side === 'alice')
    return swap ? { left: otherEnd, right: end } : { left: end, right: otherEnd }
  }
  const list = (site: Site): string =>
    `${site.url} has ${devicesOf(site, undefined)
      .map((device) => `${device.id} (${device.kind}, ${device.side})`)
      .join(', ')}`.replace(/ $/, ' none')
  throw new GatewayError('E_USAGE', `no two devices of equal kind and different sides: ${list(one)}; ${list(other)}`, {
    remedy: 'register both devices with the same kind, or name them with --id and --other-id',
  })
}

/** One end of a path, the site as it spells itself. */
export interface PathEnd {
  readonly site: string
  readonly deviceId: string
}

/** The path of one hop for StartNode and EndKeyExchange. */
export function pathOf(left: PathEnd, right: PathEnd): PhysicalPath {
  return create(PhysicalPathSchema, {
    hops: [
      {
        first: { site: left.site, deviceId: left.deviceId },
        second: { site: right.site, deviceId: right.deviceId },
      },
    ],
  })
}
