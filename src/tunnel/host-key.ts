/** Whether a server's host key is the one that was accepted. */
import { GatewayError } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import { matchesHosts, type KnownHostsLine } from './known-hosts.js'
import { fingerprintOf, normalFingerprint, readPublicKey } from './ssh-wire.js'

/** A host key as a server showed it. */
export interface ShownKey {
  /** `ssh-ed25519` … */
  readonly type: string
  /** `SHA256:…` */
  readonly fingerprint: string
}

export function shownKeyOf(blob: Buffer): ShownKey {
  return { type: readPublicKey(blob)?.type ?? 'unknown type', fingerprint: fingerprintOf(blob) }
}

export interface HostKeyTrust {
  readonly lines: readonly KnownHostsLine[]
  readonly files: readonly string[]
  /** `SHA256:…`; where there are any, the key must have one of these fingerprints, whatever known_hosts says. */
  readonly pinned: readonly string[]
}

/** What stands there for a host. As with OpenSSH, a name without a port is for each port that has no key of its own. */
function linesFor(server: HostPort, all: readonly KnownHostsLine[]): KnownHostsLine[] {
  const own = all.filter((line) => matchesHosts(line.hosts, server))
  if (server.port === 22 || own.some((line) => line.marker === 'none')) return own
  return [...own, ...all.filter((line) => matchesHosts(line.hosts, { ...server, port: 22 }))]
}

/** How people write the host on our command line: the port only where it is not 22. */
export function hostArgument(server: HostPort): string {
  return server.port === 22 ? server.host : formatHostPort(server)
}

function trustCommand(server: HostPort, fingerprint: string): string {
  return `qkd-gw tunnel trust ${hostArgument(server)} --fingerprint ${fingerprint}`
}

/** Throws E_CONFIG where a pinned fingerprint is none. */
export function checkPins(pinned: readonly string[]): string[] {
  return pinned.map((text) => {
    const normal = normalFingerprint(text)
    if (normal !== undefined) return normal
    throw new GatewayError('E_CONFIG', `pinned fingerprint "${text}" is no SHA-256 fingerprint`, {
      remedy: 'write it as ssh-keygen -l prints it: SHA256: and 43 letters, digits, + or /',
    })
  })
}

/**
 * Returns where the key is accepted. Throws E_HOST_KEY_REVOKED, E_HOST_KEY_CHANGED (with both fingerprints, file and
 * line) or E_HOST_KEY_UNKNOWN (with the fingerprint and the command that accepts it).
 */
export function checkHostKey(server: HostPort, shown: ShownKey, trust: HostKeyTrust): void {
  const { type, fingerprint: seen } = shown
  const isShown = (line: KnownHostsLine): boolean => fingerprintOf(line.key.blob) === seen
  const where = formatHostPort(server)
  // A key that stands for the name without a port is accepted or revoked; another one there says nothing of this port.
  const lines = linesFor(server, trust.lines).filter((line) => matchesHosts(line.hosts, server) || isShown(line))
  const details = { host: server.host, port: server.port, seen, keyType: type }
  const revoked = lines.find((line) => line.marker === 'revoked' && isShown(line))
  if (revoked !== undefined) {
    throw new GatewayError(
      'E_HOST_KEY_REVOKED',
      `${where} shows the ${type} key ${seen}, which ${revoked.file} line ${revoked.line} revokes`,
      { remedy: 'ask who runs the server; nothing is sent to it', details },
    )
  }
  if (trust.pinned.length > 0) {
    if (trust.pinned.includes(seen)) return
    throw new GatewayError(
      'E_HOST_KEY_CHANGED',
      `${where} shows the ${type} key ${seen}, pinned is ${trust.pinned.join(' or ')}`,
      {
        remedy: 'compare with ssh-keygen -l on the server; change the pinned fingerprint only if they are equal',
        details: { ...details, expected: trust.pinned.join(' ') },
      },
    )
  }
  const accepted = lines.filter((line) => line.marker === 'none')
  if (accepted.some(isShown)) return
  const other = accepted.find((line) => line.key.type === type) ?? accepted[0]
  if (other !== undefined) {
    const expected = fingerprintOf(other.key.blob)
    throw new GatewayError(
      'E_HOST_KEY_CHANGED',
      `${where} shows the ${type} key ${seen}; accepted was the ${other.key.type} key ${expected} (${other.file} line ${other.line})`,
      {
        remedy: `somebody may be in between. Compare with ssh-keygen -l on the server itself, and only if they are equal: ${trustCommand(server, seen)}`,
        details: { ...details, expected, file: other.file, line: other.line },
      },
    )
  }
  const authority = lines.find((line) => line.marker === 'cert-authority')
  const certificates =
    authority === undefined
      ? ''
      : ` (${authority.file} line ${authority.line} trusts a certificate authority for it, which only the back end openssh can check)`
  throw new GatewayError(
    'E_HOST_KEY_UNKNOWN',
    `${where} shows the ${type} key ${seen}, which nobody has accepted in ${trust.files.join(', ')}${certificates}`,
    {
      remedy: `compare with ssh-keygen -l on the server itself, then: ${trustCommand(server, seen)}`,
      details: { ...details, file: trust.files[0] ?? '' },
    },
  )
}

/** Types of the keys that are accepted for a host: to be asked for first, so that a server with several shows one of them. */
export function acceptedKeyTypes(server: HostPort, lines: readonly KnownHostsLine[]): string[] {
  const types = linesFor(server, lines)
    .filter((line) => line.marker === 'none')
    .map((line) => line.key.type)
  return [...new Set(types)]
}
