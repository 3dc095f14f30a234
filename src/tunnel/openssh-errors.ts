/** What the system's ssh says on stderr, as facts and as errors of ours. */
import { GatewayError } from '../base/errors.js'
import { formatHostPort } from '../base/host-port.js'
import { checkHostKey, hostArgument, type HostKeyTrust, type ShownKey } from './host-key.js'
import type { ServerAddress } from './server-address.js'

/** Read from the lines of `ssh -v`. */
export interface OpensshFacts {
  keyExchange: string | undefined
  serverVersion: string | undefined
  hostKey: ShownKey | undefined
  address: string | undefined
  authenticated: boolean
  /** The master takes requests on its control socket. */
  controlReady: boolean
  /** The master has opened the connection that a `-W` asked for. */
  muxOpened: boolean
  /** Lines that are no debugging output, the last ones. */
  said: string[]
  /** Connections from the server's side that it refused so far. */
  openFailures: number
  /** The server's own debug messages. */
  remoteSaid: string[]
}

const KEEP_LINES = 30

export function newFacts(): OpensshFacts {
  return {
    keyExchange: undefined,
    serverVersion: undefined,
    hostKey: undefined,
    address: undefined,
    authenticated: false,
    controlReady: false,
    muxOpened: false,
    said: [],
    openFailures: 0,
    remoteSaid: [],
  }
}

/** Takes one line in. */
export function noteLine(facts: OpensshFacts, line: string): void {
  const kex = /^debug1: kex: algorithm: (\S+)/.exec(line)
  if (kex !== null) facts.keyExchange = kex[1]
  const version = /remote software version (.+)$/.exec(line)
  if (version !== null) facts.serverVersion = version[1]
  const key = /^debug1: Server host key: (\S+) (SHA256:\S+)/.exec(line)
  if (key?.[1] !== undefined && key[2] !== undefined) facts.hostKey = { type: key[1], fingerprint: key[2] }
  const address = /^debug1: Connecting to .* \[(.+)\] port \d+/.exec(line)
  if (address !== null) facts.address = address[1]
  if (/^(debug1: )?Authenticated to .* using "/.test(line)) facts.authenticated = true
  if (/^debug1: .*new mux listener|^debug1: Entering interactive session/.test(line)) facts.controlReady = true
  if (/master session id: /.test(line)) facts.muxOpened = true
  const remote = /^debug1: Remote: (.*)$/.exec(line)
  if (remote?.[1] !== undefined) {
    facts.remoteSaid.push(remote[1])
    if (facts.remoteSaid.length > KEEP_LINES) facts.remoteSaid.shift()
  }
  if (/^debug\d:|^OpenSSH_|^Authenticated to |^\s*$/.test(line)) return
  if (line.includes('open failed')) facts.openFailures += 1
  facts.said.push(line)
  if (facts.said.length > KEEP_LINES) facts.said.shift()
}

/** Facts from all that an ssh wrote into a file. */
export function factsOf(text: string): OpensshFacts {
  const facts = newFacts()
  for (const line of text.split('\n')) noteLine(facts, line.replace(/\r$/, ''))
  return facts
}

/** Its connection ended, or never came about: nothing that another program would not meet as well. */
export const LOST =
  /closed by|reset by|refused|not responding|disconnect|broken pipe|timed out|unreachable|no route to host/i

/** What ssh ended for, as an error with a code. `trust` explains host keys in our own words. */
export function explainOpenssh(
  facts: OpensshFacts,
  server: ServerAddress,
  trust: HostKeyTrust,
  requirePostQuantum: boolean,
): GatewayError {
  const text = facts.said.join('\n')
  const where = formatHostPort(server)
  const last = facts.said.at(-1) ?? 'ssh ended without a word'
  const details = { host: server.host, port: server.port }
  if (/Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY/.test(text)) {
    if (facts.hostKey !== undefined) {
      try {
        checkHostKey(server, facts.hostKey, trust)
      } catch (error) {
        if (error instanceof GatewayError) return error
      }
    }
    const changed = /HAS CHANGED/.test(text)
    return new GatewayError(
      changed ? 'E_HOST_KEY_CHANGED' : 'E_HOST_KEY_UNKNOWN',
      `${where}: ssh does not accept the host key ${facts.hostKey?.fingerprint ?? ''} (${last})`,
      {
        remedy: `compare with ssh-keygen -l on the server itself, then: qkd-gw tunnel trust ${hostArgument(server)}`,
        details,
      },
    )
  }
  if (/Permission denied \(|Too many authentication failures/.test(text)) {
    return new GatewayError('E_AUTH_FAILED', `${where} refused every key for the user ${server.user} (${last})`, {
      remedy: `put the public half of one of them into authorized_keys of ${server.user} on the server, or give the right one with -i FILE`,
      details,
    })
  }
  // Its own limit for TCP and the server's first words.
  if (/timed out during banner exchange|^Connection to .* timed out/m.test(text)) {
    return new GatewayError('E_CONNECT', `${where} takes the connection and says nothing (${last})`, {
      remedy: 'the server hangs, or something in front of it holds the connection: look at sshd there',
      details: { ...details, step: 'connect' },
    })
  }
  if (/kex_exchange_identification|banner exchange|Exceeded MaxStartups|Not allowed at this time/.test(text)) {
    return new GatewayError(
      'E_BANNED',
      `${where} closes before its banner: it refuses this address for now (${last})`,
      {
        remedy:
          'look for MaxStartups, PerSourcePenalties or fail2ban on the server; the pauses between tries are long, since each try may renew the refusal',
        details,
      },
    )
  }
  const name = /Could not resolve hostname ([^:]+): (.*)/.exec(text)
  if (name !== null) {
    return new GatewayError('E_CONNECT', `the name ${name[1] ?? ''} cannot be resolved (${name[2] ?? ''})`, {
      remedy: 'check the name, and the name server of this machine',
      details: { ...details, step: 'resolve' },
    })
  }
  if (requirePostQuantum && /no matching key exchange/.test(text)) {
    return new GatewayError(
      'E_NO_POST_QUANTUM',
      `${where} offers none of the key exchanges that are allowed (${last})`,
      {
        remedy: 'OpenSSH 9 or later on the server has a post-quantum one; or do without the requirement',
        details,
      },
    )
  }
  if (/no matching (key exchange|host key|cipher|MAC)/.test(text)) {
    return new GatewayError('E_CONNECT', `${where}: ${last}`, {
      remedy: 'the server offers only algorithms that are no longer safe, or that this ssh is told not to use',
      details: { ...details, step: 'ssh' },
    })
  }
  const refused = /^ssh: connect to host .*: (.*)$/m.exec(text)
  if (refused !== null) {
    return new GatewayError('E_CONNECT', `${where} cannot be reached (${refused[1] ?? ''})`, {
      remedy: 'check that the SSH server runs there and that no firewall is in between',
      details: { ...details, step: 'connect' },
    })
  }
  return new GatewayError('E_CONNECT', `${where}: ${last}`, {
    details: { ...details, step: LOST.test(text) ? 'connect' : 'ssh' },
  })
}
