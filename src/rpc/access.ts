/**
 * Who may call what, in one place: methods belong to groups, groups name the callers that may. `docs/access.md` shows
 * the same table; a test compares the two.
 */
import { BlockList, isIP } from 'node:net'
import { GatewayError } from '../base/errors.js'
import type { Originator } from './device-port.js'

/** Methods that are guarded alike. */
export type MethodGroup = 'keys' | 'session' | 'pair' | 'look' | 'open'

/**
 * What a caller is taken for, the most trusted first: the site's own SiteAgent, this machine, the device at the other
 * site, somebody allowed by name, somebody else.
 */
export type CallerClass = 'site' | 'loopback' | 'peer' | 'allowed' | 'anyone'

/** Which callers may use a group. `anyone` in group `session` holds only while no session runs and no peer is named. */
export const ACCESS_TABLE: Readonly<Record<MethodGroup, readonly CallerClass[]>> = {
  keys: ['site', 'loopback', 'allowed'],
  session: ['site', 'loopback', 'peer', 'allowed', 'anyone'],
  pair: ['site', 'loopback', 'peer', 'allowed'],
  look: ['site', 'loopback', 'peer', 'allowed'],
  open: ['site', 'loopback', 'peer', 'allowed', 'anyone'],
}

/** A service (ends with `/`) or one method of it, and its group. The longest entry that a path begins with counts. */
export const METHOD_GROUPS: Readonly<Record<string, MethodGroup>> = {
  '/cqp.remote.IDevice/WaitForSession': 'keys',
  '/cqp.remote.IDevice/RunSession': 'keys',
  '/cqp.remote.IDevice/EndSession': 'keys',
  '/cqp.remote.IDevice/GetLinkStatus': 'look',
  '/cqp.remote.IDevice/GetDetails': 'look',
  '/cqp.remote.ISession/': 'session',
  '/cqp.remote.IReporting/': 'look',
  '/cqp.remote.IDetector/': 'pair',
  '/cqp.remote.IPhotonSim/': 'pair',
  '/cqp.remote.IAlignment/': 'pair',
  '/cqp.remote.ISift/': 'pair',
  '/cqp.remote.IErrorCorrect/': 'pair',
  '/cqp.remote.IPrivacyAmplify/': 'pair',
  '/cqp.remote.ISync/': 'pair',
  '/cqp.remote.IIDQWrapper/': 'pair',
  '/cqp.remote.ITimeTagService/': 'pair',
  '/cqp.remote.IEntaglementEvent/': 'pair',
  '/qkdgw.link.v1.': 'pair',
  '/qkdgw.probe.v1.': 'open',
  '/grpc.health.v1.Health/Check': 'open',
  '/grpc.health.v1.Health/': 'look',
  '/grpc.reflection.': 'look',
}

/** A method that no entry covers is guarded like the keys. */
export function groupOf(methodPath: string): MethodGroup {
  let longest = ''
  for (const prefix of Object.keys(METHOD_GROUPS)) {
    if (methodPath.startsWith(prefix) && prefix.length > longest.length) longest = prefix
  }
  return METHOD_GROUPS[longest] ?? 'keys'
}

/** Configuration keys that open a group by name; what opens the keys opens everything, peers may look too. */
export const CONFIGURATION_KEYS: Readonly<Record<MethodGroup, string>> = {
  keys: 'server.allow',
  session: 'server.allowPeers',
  pair: 'server.allowPeers',
  look: 'server.allowLook',
  open: 'server.allowLook',
}

/** Whether a caller is the other device of the session that runs, as the link knows it (address, token, certificate). */
export type SessionPeerCheck = (
  originator: Originator,
  metadata: ReadonlyMap<string, string>,
) => 'peer' | 'stranger' | 'no session'

export interface AccessOptions {
  /** Addresses that are the tunnel's own host; asked at each call because the tunnel learns them. Names match nothing. */
  siteHostAddresses(): readonly string[]
  /** IP addresses of the peers that the configuration names, as resolved last. */
  peerAddresses?: () => readonly string[]
  /** True once the configuration names a peer (address or certificate): then nobody else may start a session. */
  peersAreNamed?: boolean
  /** Subjects (common name or DNS name) of certificates that are the own SiteAgent's, and the peers'. */
  siteCertificates?: readonly string[]
  peerCertificates?: readonly string[]
  /** Entries of `server.allow`, `server.allowPeers`, `server.allowLook`: an IP address, a CIDR block, `cert:<subject>`, `hidden`. */
  allowKeys?: readonly string[]
  allowPeers?: readonly string[]
  allowLook?: readonly string[]
  /** False where something outside forwards strangers to this machine's loopback (an `ssh -R` started by hand). */
  trustLoopback?: boolean
  sessionPeer?: SessionPeerCheck
}

export type AccessVerdict =
  | { readonly allowed: true; readonly caller: CallerClass }
  | {
      readonly allowed: false
      readonly group: MethodGroup
      /** In plain words, for the caller. */
      readonly reason: string
      /** The line of configuration that would allow it. */
      readonly allowingLine: string
    }

export interface AccessPolicy {
  decide(methodPath: string, originator: Originator, metadata: ReadonlyMap<string, string>): AccessVerdict
  /** True if the caller may do more than anyone: its connections are the last to be given up under load. */
  isKnown(originator: Originator): boolean
  /** Sentences for the status: who may take keys over plain text. `encrypted` says whether the server speaks TLS. */
  warnings(encrypted: boolean): readonly string[]
}

/** Throws E_CONFIG for an entry that is none of the allowed forms. */
export function createAccessPolicy(options: AccessOptions): AccessPolicy {
  const allow = {
    keys: parseEntries('server.allow', options.allowKeys ?? []),
    peers: parseEntries('server.allowPeers', options.allowPeers ?? []),
    look: parseEntries('server.allowLook', options.allowLook ?? []),
  }
  const siteCertificates = new Set(options.siteCertificates)
  const peerCertificates = new Set(options.peerCertificates)
  const trustLoopback = options.trustLoopback ?? true

  const isSite = (originator: Originator): boolean => {
    if (originator.certificate !== undefined && siteCertificates.has(originator.certificate)) return true
    if (originator.via === 'hidden') return false
    // Loopback as the tunnel's server sees it is that host; loopback of this machine is judged apart.
    if (originator.via === 'tunnel' && isLoopback(originator.address)) return true
    if (isLoopback(originator.address)) return false
    return options.siteHostAddresses().some((address) => sameAddress(address, originator.address))
  }
  const isLocal = (originator: Originator): boolean =>
    trustLoopback && originator.via === 'local' && isLoopback(originator.address)
  const isNamedPeer = (originator: Originator): boolean => {
    if (originator.certificate !== undefined && peerCertificates.has(originator.certificate)) return true
    if (originator.via === 'hidden') return false
    return (options.peerAddresses?.() ?? []).some((address) => sameAddress(address, originator.address))
  }
  const isAllowed = (group: MethodGroup, originator: Originator): boolean => {
    if (allow.keys.has(originator)) return true
    if (group !== 'keys' && allow.peers.has(originator)) return true
    return (group === 'look' || group === 'open') && allow.look.has(originator)
  }

  const classify = (group: MethodGroup, originator: Originator, sessionPeer: boolean): CallerClass => {
    if (isSite(originator)) return 'site'
    if (isLocal(originator)) return 'loopback'
    if (sessionPeer || isNamedPeer(originator)) return 'peer'
    return isAllowed(group, originator) ? 'allowed' : 'anyone'
  }

  return {
    decide(methodPath, originator, metadata) {
      const group = groupOf(methodPath)
      const session = options.sessionPeer?.(originator, metadata) ?? 'no session'
      const caller = classify(group, originator, session === 'peer')
      let open = ACCESS_TABLE[group].includes(caller)
      if (group === 'session') {
        if (caller === 'anyone') open = session === 'no session' && options.peersAreNamed !== true
        // A named peer of another link does not touch the session that runs.
        if (caller === 'peer' && session === 'stranger') open = false
      }
      if (open) return { allowed: true, caller }
      return {
        allowed: false,
        group,
        reason: `${methodPath.slice(1)} is not for ${describe(originator)}`,
        allowingLine: allowingLine(group, originator),
      }
    },
    isKnown: (originator) =>
      classify('look', originator, options.sessionPeer?.(originator, new Map()) === 'peer') !== 'anyone',
    warnings(encrypted) {
      const found: string[] = []
      if (!encrypted && allow.keys.entries.length > 0) {
        found.push(`keys may leave in plain text to ${allow.keys.entries.join(', ')} (server.allow)`)
      }
      if (allow.keys.entries.includes('hidden')) {
        found.push('whoever reaches the tunnel\'s listener may take keys (server.allow has "hidden")')
      }
      return found
    },
  }
}

/** How a caller is named in refusals and logs. */
export function describe(originator: Originator): string {
  const name = originator.certificate === undefined ? '' : ` (certificate "${originator.certificate}")`
  if (originator.via === 'hidden') return `a caller whose address the tunnel hides${name}`
  return `${originator.address}${name}${originator.via === 'tunnel' ? ' through the tunnel' : ''}`
}

function allowingLine(group: MethodGroup, originator: Originator): string {
  const entry =
    originator.certificate !== undefined
      ? `cert:${originator.certificate}`
      : originator.via === 'hidden'
        ? 'hidden'
        : plainAddress(originator.address)
  return `${CONFIGURATION_KEYS[group]} = [${JSON.stringify(entry)}]`
}

interface AllowList {
  readonly entries: readonly string[]
  has(originator: Originator): boolean
}

function parseEntries(key: string, entries: readonly string[]): AllowList {
  const addresses = new BlockList()
  const certificates = new Set<string>()
  let hidden = false
  for (const entry of entries) {
    const [address = '', prefix] = entry.split('/')
    const family = isIP(address)
    if (entry === 'hidden') hidden = true
    else if (entry.startsWith('cert:') && entry.length > 5) certificates.add(entry.slice(5))
    else if (family !== 0 && prefix === undefined) addresses.addAddress(address, family === 6 ? 'ipv6' : 'ipv4')
    else if (
      family !== 0 &&
      prefix !== undefined &&
      /^\d{1,3}$/.test(prefix) &&
      Number(prefix) <= (family === 6 ? 128 : 32)
    )
      addresses.addSubnet(address, Number(prefix), family === 6 ? 'ipv6' : 'ipv4')
    else {
      throw new GatewayError(
        'E_CONFIG',
        `${key}: "${entry}" is neither an IP address, a block, cert:<name> nor hidden`,
        {
          remedy: 'write for example "203.0.113.7", "203.0.113.0/24", "cert:site-a" or "hidden"',
        },
      )
    }
  }
  return {
    entries,
    has(originator) {
      if (originator.certificate !== undefined && certificates.has(originator.certificate)) return true
      if (originator.via === 'hidden') return hidden
      const address = plainAddress(originator.address)
      const family = isIP(address)
      return family !== 0 && addresses.check(address, family === 6 ? 'ipv6' : 'ipv4')
    },
  }
}

/** An IPv4 address that arrived through an IPv6 socket, as IPv4; zone and letter case dropped. */
export function plainAddress(address: string): string {
  const bare = address.replace(/%.*$/, '').toLowerCase()
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(bare)?.[1] ?? bare
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

export function isLoopback(address: string): boolean {
  const plain = plainAddress(address)
  const family = isIP(plain)
  return family !== 0 && loopback.check(plain, family === 6 ? 'ipv6' : 'ipv4')
}

function sameAddress(a: string, b: string): boolean {
  return plainAddress(a) === plainAddress(b)
}
