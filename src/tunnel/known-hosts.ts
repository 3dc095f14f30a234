/** The lines of known_hosts files, as OpenSSH reads and writes them. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Random } from '../base/random.js'
import type { HostPort } from '../base/host-port.js'
import { readPublicKey, type PublicKey } from './ssh-wire.js'

/** One line that could be read. */
export interface KnownHostsLine {
  readonly file: string
  /** 1 is the first. */
  readonly line: number
  readonly marker: 'none' | 'cert-authority' | 'revoked'
  /** The first field as it stands: names and patterns with commas, or one hashed name. */
  readonly hosts: string
  readonly key: PublicKey
}

/** The name a host goes by in these files: bare for port 22, `[host]:port` else; lower case. */
export function knownHostsName(server: HostPort): string {
  const host = server.host.toLowerCase()
  return server.port === 22 ? host : `[${host}]:${server.port}`
}

/** Reads a file's text; lines that are empty, comments or broken are passed over, as OpenSSH does. */
export function parseKnownHosts(text: string, file: string): KnownHostsLine[] {
  const lines: KnownHostsLine[] = []
  for (const [index, raw] of text.split('\n').entries()) {
    const fields = raw.trim().split(/\s+/)
    const first = fields[0] ?? ''
    if (first === '' || first.startsWith('#')) continue
    const marker = first === '@cert-authority' ? 'cert-authority' : first === '@revoked' ? 'revoked' : 'none'
    // A marker that nobody knows makes the line void.
    if (marker === 'none' && first.startsWith('@')) continue
    const [hosts, type, base64] = marker === 'none' ? fields : fields.slice(1)
    if (hosts === undefined || type === undefined || base64 === undefined) continue
    const key = readPublicKey(Buffer.from(base64, 'base64'))
    if (key === undefined || key.type !== type) continue
    lines.push({ file, line: index + 1, marker, hosts, key })
  }
  return lines
}

function matchesHashed(hosts: string, name: string): boolean {
  const [, version, salt, hash] = hosts.split('|')
  if (version !== '1' || salt === undefined || hash === undefined) return false
  const expected = Buffer.from(hash, 'base64')
  const actual = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest()
  return expected.length === actual.length && timingSafeEqual(expected, actual)
}

function matchesPattern(pattern: string, name: string): boolean {
  const source = pattern
    .toLowerCase()
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replace(/\*/g, '.*')
    .replace(/\?/g, '.')
  return new RegExp(`^${source}$`).test(name)
}

/** Whether a first field names the host: hashed, or patterns of which none says no (`!`) and one says yes. */
export function matchesHosts(hosts: string, server: HostPort): boolean {
  const name = knownHostsName(server)
  if (hosts.startsWith('|')) return matchesHashed(hosts, name)
  let found = false
  for (const pattern of hosts.split(',')) {
    if (pattern.startsWith('!')) {
      if (matchesPattern(pattern.slice(1), name)) return false
    } else if (matchesPattern(pattern, name)) found = true
  }
  return found
}

/** A line for one host and key, hashed (`|1|salt|hash`) or plain. */
export function formatKnownHostsLine(server: HostPort, key: PublicKey, hashWith?: Random): string {
  let name = knownHostsName(server)
  if (hashWith !== undefined) {
    const salt = Buffer.from(hashWith.bytes(20))
    const hash = createHmac('sha1', salt).update(name).digest('base64')
    name = `|1|${salt.toString('base64')}|${hash}`
  }
  return `${name} ${key.type} ${key.blob.toString('base64')}`
}
