/**
 * The back end `openssh+ssh2`: ssh2 spoken over the byte stream of `ssh -W` to the same sshd. Post-quantum outside,
 * originators and direct hand-over inside.
 */
import { GatewayError } from '../base/errors.js'
import { formatHostPort } from '../base/host-port.js'
import { CarriedStream } from './carried-stream.js'
import { shownKeyOf } from './host-key.js'
import type { Identities } from './identities.js'
import type { LinkTaker, TunnelBackend, TunnelLink } from './link.js'
import { NO_SHARING, rememberedAbility } from './openssh-command.js'
import { LOST } from './openssh-errors.js'
import { OpensshProcess } from './openssh-process.js'
import { prepareOpenssh, serverAddressOf, untilAuthenticated } from './openssh-session.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { ownSshdOf } from './server-address.js'
import { DEFAULT_MAX_CONNECTIONS } from './ssh2-backend.js'
import { loginWithSsh2, type Ssh2Connection, type Ssh2Login } from './ssh2-handshake.js'
import { Ssh2Link } from './ssh2-link.js'
import { ssh2LoginTo } from './transport.js'

/** Marks errors after which plain ssh2 may still work: the server does not let us through to itself. */
export const INNER_STEP = 'inner'

function noWayInside(target: string, said: string): GatewayError {
  return new GatewayError('E_CONNECT', `the server does not let us through to its own sshd at ${target} (${said})`, {
    remedy: /prohibited/.test(said)
      ? `permit it: permitopen="${target}" on the key's line in authorized_keys (qkd-gw tunnel server-config)`
      : `say where sshd listens on the server itself (--own-sshd host:port, tunnel.ownSshd), or let it listen there too`,
    details: { step: INNER_STEP },
  })
}

/** Nothing was sent there but a greeting. */
function anotherSshd(target: string, cause: GatewayError): GatewayError {
  const { code, message, details } = cause
  return new GatewayError(code, `at ${target} on the server there is another sshd than its own: ${message}`, {
    remedy: 'name the sshd that the tunnel logs in to, as the server itself reaches it (--own-sshd, tunnel.ownSshd)',
    details,
    cause,
  })
}

export function createNestedBackend(
  options: TunnelOptions,
  timings: TunnelTimings,
  identities: () => Promise<Identities>,
): TunnelBackend {
  const { server, clock } = options
  const inner = formatHostPort(ownSshdOf(options))
  const ability = rememberedAbility(options.sshProgram ?? 'ssh')
  return {
    name: 'openssh+ssh2',
    knowsOriginators: true,
    async connect(taker: LinkTaker, signal: AbortSignal): Promise<TunnelLink> {
      const keys = await identities()
      const plain = await ssh2LoginTo(server, options, options.pinnedFingerprints ?? [], keys)
      const session = await prepareOpenssh(options, timings, keys, ability, signal)
      const args = [...NO_SHARING, ...session.args, '-v', '-W', inner, '--', server.host]
      const ssh = OpensshProcess.piped(session.program, args, clock, session.env)
      const outer = await untilAuthenticated(ssh, session, options, timings, signal)
      const stream = new CarriedStream({ readable: ssh.stdout, writable: ssh.stdin, kill: () => ssh.kill() })
      stream.on('error', () => {})
      const verified = ssh.facts.hostKey
      const login: Ssh2Login = {
        ...plain,
        acceptedTypes: verified === undefined ? plain.acceptedTypes : [verified.type],
        checkHostKey: (blob) => {
          // The same sshd: what ssh has verified outside holds inside.
          if (shownKeyOf(blob).fingerprint === verified?.fingerprint) return
          try {
            plain.checkHostKey(blob)
          } catch (error) {
            const isNamed = options.innerTarget !== undefined && error instanceof GatewayError
            throw isNamed ? anotherSshd(inner, error) : error
          }
        },
      }
      let connection: Ssh2Connection
      try {
        connection = await loginWithSsh2(stream, login, timings, clock, signal)
      } catch (error) {
        ssh.kill()
        if (signal.aborted) throw error
        await ssh.exited
        const said = ssh.facts.said.findLast((line) => line.includes('open failed')) ?? ssh.facts.said.at(-1) ?? ''
        if (/open failed|forwarding failed/.test(said)) throw noWayInside(inner, said)
        // Closed before the banner: the connection outside was lost, else the sshd inside refuses us for now.
        if (LOST.test(ssh.facts.said.join('\n'))) throw await session.explain(ssh.facts)
        throw error
      }
      const limits = { ...timings, maxConnections: options.maxForwardedConnections ?? DEFAULT_MAX_CONNECTIONS }
      const facts = {
        address: serverAddressOf(ssh.facts, options),
        resolved: [],
        outerKeyExchange: outer.keyExchange,
        postQuantum: outer.postQuantum,
        lastWords: () => ssh.facts.said.at(-1),
      }
      return new Ssh2Link(connection, stream, facts, taker, limits, clock)
    },
  }
}
