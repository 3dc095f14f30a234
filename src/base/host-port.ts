import { GatewayError } from './errors.js'

/** A host (name, IPv4 or IPv6 without brackets) and a TCP port. */
export interface HostPort {
  host: string
  port: number
}

/**
 * Reads `host:port`, `[v6]:port`, and gRPC's and CQPToolkit's spellings (`dns:…`, `dns:///…`, `ipv4:…`, `ipv6:[…]:port`,
 * `//host:port`). `what` names the option or field in errors. Throws E_USAGE.
 */
export function parseHostPort(text: string, what: string, defaultPort?: number): HostPort {
  const bare = text.trim().replace(/^(dns:\/\/\/|dns:|ipv4:|ipv6:|\/\/)/, '')
  const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^:[\]\s/]+))(?::(\d{1,5}))?$/.exec(bare)
  const host = match?.[1] ?? match?.[2]
  const port = match?.[3] === undefined ? defaultPort : Number(match[3])
  if (host === undefined || port === undefined || port > 65_535) {
    throw new GatewayError('E_USAGE', `${what}: "${text}" is no host:port`, {
      remedy: 'write it as host:port, for example 45.55.2.5:9000 or [2001:db8::5]:9000',
    })
  }
  return { host, port }
}

/** The inverse, brackets around IPv6. */
export function formatHostPort(address: HostPort): string {
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}
