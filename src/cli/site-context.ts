/** What every action of `qkd-gw site` uses: connections to SiteAgents, deadlines, output. */
import { readFileSync } from 'node:fs'
import { credentials, type ChannelCredentials } from '@grpc/grpc-js'
import { GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, parseHostPort, type HostPort } from '../base/host-port.js'
import { openChannel } from '../rpc/channel.js'
import { ISiteAgent, type Site } from '../rpc/gen/cqp/remote/site_pb.js'
import { openSiteConnection, type OpenSiteChannel, type SiteConnection } from '../site/site-connection.js'
import type { CliEnvironment } from './environment.js'
import type { SiteAction, SiteFlags } from './site-flags.js'

export interface SiteRequest {
  readonly address: string
  readonly action: SiteAction
  readonly what: string | undefined
  readonly flags: SiteFlags
  readonly env: CliEnvironment
}

export class SiteContext {
  readonly address: HostPort
  readonly timeoutMs: number
  readonly signal: AbortSignal
  readonly #connections: SiteConnection[] = []
  readonly #credentials: ChannelCredentials | undefined

  constructor(readonly request: SiteRequest) {
    this.address = parseHostPort(request.address, 'address of the SiteAgent')
    this.timeoutMs = request.flags.timeout * 1000
    this.signal = request.env.signal
    this.#credentials = credentialsOf(request.flags)
  }

  opener(address: HostPort): OpenSiteChannel {
    const given = this.#credentials
    return () =>
      openChannel({
        address: formatHostPort(address),
        what: 'SiteAgent',
        ...(given === undefined ? {} : { credentials: given }),
      })
  }

  connect(address: HostPort): SiteConnection {
    const connection = openSiteConnection(address, this.opener(address))
    this.#connections.push(connection)
    return connection
  }

  here(): SiteConnection {
    return this.connect(this.address)
  }

  /** The other SiteAgent, which this action needs. */
  otherAddress(): HostPort {
    return parseHostPort(this.what('the other SiteAgent, host:port'), 'address of the other SiteAgent')
  }

  what(expected: string): string {
    const { what, action, address } = this.request
    if (what === undefined) {
      throw new GatewayError('E_USAGE', `site ${address} ${action}: ${expected} is missing`)
    }
    return what
  }

  details(connection: SiteConnection): Promise<Site> {
    return connection.call(ISiteAgent.method.getSiteDetails, {}, this.timeoutMs, this.signal)
  }

  /** JSON if asked for, otherwise the text. */
  print(document: unknown, text: string): void {
    const { env, flags } = this.request
    env.stdout.write(flags.json === true ? `${JSON.stringify(document, null, 2)}\n` : `${text}\n`)
  }

  line(document: object, text: string): void {
    const { env, flags } = this.request
    env.stdout.write(flags.json === true ? `${JSON.stringify(document)}\n` : `${text}\n`)
  }

  async close(): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close()))
  }
}

function credentialsOf({ tls, rootca, cert, key }: SiteFlags): ChannelCredentials | undefined {
  if (tls !== true) {
    if (rootca !== undefined || cert !== undefined || key !== undefined) {
      throw new GatewayError('E_USAGE', '--rootca, --cert and --key are for TLS', { remedy: 'add --tls' })
    }
    return undefined
  }
  if ((cert === undefined) !== (key === undefined)) {
    throw new GatewayError('E_USAGE', 'a certificate and its key go together', { remedy: 'give both --cert and --key' })
  }
  const read = (file: string | undefined, option: string): Buffer | null => {
    if (file === undefined) return null
    try {
      return readFileSync(file)
    } catch (error) {
      throw new GatewayError('E_CONFIG', `${option} ${file}: ${messageOf(error)}`, { cause: error })
    }
  }
  return credentials.createSsl(read(rootca, '--rootca'), read(key, '--key'), read(cert, '--cert'))
}
