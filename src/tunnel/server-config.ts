/** What the SSH server should hold for a tunnel: sshd settings and the key's line in authorized_keys. */
import { formatHostPort, type HostPort } from '../base/host-port.js'
import { isWildcard, ownSshdOf } from './server-address.js'

export interface ServerConfigInput {
  /** The user that the gateway logs in as. */
  readonly user: string
  /** Name or address of the server as it is dialled. */
  readonly server: HostPort
  readonly remoteListen: HostPort
  readonly controlAddress: HostPort
  readonly portPool: readonly number[]
  /** The server may choose a port. */
  readonly anyPort: boolean
  /** `openssh+ssh2`: through to the server's own sshd. */
  readonly nested: boolean
  /** Where the server reaches that; default localhost and the port that is dialled. */
  readonly innerTarget?: HostPort | undefined
  /** Looks at the server's loopback addresses: a loopback-only listener told from a firewall for certain. */
  readonly diagnosis: boolean
  /** The SiteAgent, where it is called through the tunnel. */
  readonly siteAgent: HostPort | undefined
  /** `type base64 [comment]`, one a line in authorized_keys. */
  readonly publicKeys: readonly string[]
  /** Only from these addresses; empty: from anywhere. */
  readonly from: readonly string[]
}

export interface ServerConfig {
  /** Lines for a file in /etc/ssh/sshd_config.d. */
  readonly sshdConfig: readonly string[]
  /** Lines for the user's authorized_keys. */
  readonly authorizedKeys: readonly string[]
  /** What each permission is for, in the order of the options. */
  readonly permissions: readonly { option: string; what: string }[]
  /** TCP ports that a firewall must let in. */
  readonly openPorts: readonly number[]
  /** What is off without further permissions, a sentence each. */
  readonly off: readonly string[]
}

/** Settings that free the listener of a dead client: about three times their product later. */
export const CLIENT_ALIVE_INTERVAL_S = 5
export const CLIENT_ALIVE_COUNT_MAX = 2

function listenPermissions(input: ServerConfigInput): { option: string; what: string }[] {
  const { remoteListen, portPool, anyPort } = input
  const host = isWildcard(remoteListen.host) ? '*' : remoteListen.host
  const permit = (port: string): string => `permitlisten="${host.includes(':') ? `[${host}]` : host}:${port}"`
  if (anyPort || remoteListen.port === 0) {
    return [{ option: permit('*'), what: 'the listener, on any port (asked for with any-port or port 0)' }]
  }
  const pool = portPool.filter((port) => port !== remoteListen.port)
  return [
    { option: permit(String(remoteListen.port)), what: 'the listener' },
    ...pool.map((port) => ({ option: permit(String(port)), what: 'the listener, while its own port is held' })),
  ]
}

function openPermissions(input: ServerConfigInput): { option: string; what: string }[] {
  const { remoteListen, portPool, controlAddress, nested, diagnosis, siteAgent } = input
  const wanted: { target: string; what: string }[] = []
  if (nested) {
    wanted.push({ target: formatHostPort(ownSshdOf(input)), what: 'openssh+ssh2: through to this sshd itself' })
  }
  const fixed = [remoteListen.port, ...portPool].filter((port) => port !== 0)
  const ports = fixed.length === 0 || input.anyPort ? ['*'] : fixed.map(String)
  const host = controlAddress.host.includes(':') ? `[${controlAddress.host}]` : controlAddress.host
  for (const port of ports) {
    const moved = port === String(remoteListen.port) && controlAddress.port !== 0 ? String(controlAddress.port) : port
    wanted.push({ target: `${host}:${moved}`, what: 'proof from the side of the server; who holds a port' })
    if (!diagnosis) continue
    for (const loopback of ['127.0.0.1', '127.0.0.2']) {
      wanted.push({ target: `${loopback}:${port}`, what: 'loopback-only listener told from a firewall for certain' })
    }
  }
  if (siteAgent !== undefined) {
    wanted.push({ target: formatHostPort(siteAgent), what: 'calls to the SiteAgent through the tunnel' })
  }
  const unique = wanted.filter((one, index) => wanted.findIndex((other) => other.target === one.target) === index)
  return unique.map(({ target, what }) => ({ option: `permitopen="${target}"`, what }))
}

/** Settings and the line, for exactly the features that the input names. */
export function serverConfig(input: ServerConfigInput): ServerConfig {
  const permissions = [...listenPermissions(input), ...openPermissions(input)]
  const options = [
    'restrict',
    'port-forwarding',
    ...(input.from.length === 0 ? [] : [`from="${input.from.join(',')}"`]),
    ...permissions.map((one) => one.option),
  ].join(',')
  const off: string[] = []
  if (!input.nested) {
    off.push(
      'openssh+ssh2 (post-quantum with originators) is off: the server does not let the gateway through to itself',
    )
  }
  if (!input.diagnosis) {
    off.push(
      'a look at the loopback addresses of the server is off (--diagnosis): a loopback-only listener and a closed firewall are told apart by what the control address answers, which is likely and not certain',
    )
  }
  if (input.siteAgent === undefined) {
    off.push('calls to the SiteAgent through the tunnel (--via-tunnel) are off: they cross the network by themselves')
  }
  return {
    sshdConfig: [
      `Match User ${input.user}`,
      '    AuthenticationMethods publickey',
      '    AllowTcpForwarding yes',
      '    GatewayPorts clientspecified',
      `    ClientAliveInterval ${CLIENT_ALIVE_INTERVAL_S}`,
      `    ClientAliveCountMax ${CLIENT_ALIVE_COUNT_MAX}`,
      '    AllowAgentForwarding no',
      '    AllowStreamLocalForwarding no',
      '    X11Forwarding no',
      '    PermitTTY no',
      '    PermitTunnel no',
    ],
    authorizedKeys: input.publicKeys.map((key) => `${options} ${key}`),
    permissions,
    openPorts: [input.remoteListen.port, ...input.portPool].filter((port) => port !== 0),
    off,
  }
}
