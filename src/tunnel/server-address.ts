import { userInfo } from 'node:os'
import { GatewayError } from '../base/errors.js'
import { formatHostPort, parseHostPort, type HostPort } from '../base/host-port.js'

/** An SSH server and the user to log in as. */
export interface ServerAddress extends HostPort {
  user: string
}

/**
 * Reads `user@host`, `user@host:port`, `user@[v6]:port`; port 22 and the present user where absent. Throws E_USAGE.
 * `what` names the option or field in errors.
 */
export function parseServerAddress(text: string, what: string): ServerAddress {
  const at = text.lastIndexOf('@')
  const user = at === -1 ? userInfo().username : text.slice(0, at)
  if (user === '' || /[\s:]/.test(user) || user.startsWith('-')) {
    throw new GatewayError('E_USAGE', `${what}: "${text}" names no user`, {
      remedy: 'write it as user@host or user@host:port, for example ubuntu@45.55.2.5',
    })
  }
  const { host, port } = parseHostPort(text.slice(at + 1), what, 22)
  // The system's ssh would take such a name for an option.
  if (host.startsWith('-')) throw new GatewayError('E_USAGE', `${what}: "${host}" is no host name`)
  return { user, host, port }
}

/**
 * Reads `host:port` of where a server reaches its own sshd. Throws E_USAGE, also for what would permit more than that
 * one address where it stands in `permitopen`.
 */
export function parseOwnSshd(text: string, what: string): HostPort {
  const target = parseHostPort(text, what)
  if (!/^[\w.:%][\w.:%-]*$/.test(target.host) || target.port === 0) {
    throw new GatewayError('E_USAGE', `${what}: "${text}" is no address of one sshd`, {
      remedy: 'write it as host:port, as the server itself would dial its sshd, for example localhost:22',
    })
  }
  return target
}

/** Where the server reaches its own sshd: as said, else at localhost and the port that is dialled. */
export function ownSshdOf(options: {
  readonly server: HostPort
  readonly innerTarget?: HostPort | undefined
}): HostPort {
  return options.innerTarget ?? { host: 'localhost', port: options.server.port }
}

/** The inverse of `parseServerAddress`. */
export function formatServerAddress(server: ServerAddress): string {
  return `${server.user}@${server.port === 22 ? server.host : formatHostPort(server)}`
}

/** Whether a host is this machine as seen by itself. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^::ffff:/i, '').toLowerCase()
  return bare === 'localhost' || bare === '::1' || /^127\.\d+\.\d+\.\d+$/.test(bare)
}

/** Whether a bind address stands for all addresses. */
export function isWildcard(host: string): boolean {
  return host === '' || host === '*' || host === '0.0.0.0' || host === '::'
}
