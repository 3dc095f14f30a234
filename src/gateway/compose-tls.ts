/** TLS of one gateway: its own server, its calls to SiteAgent and peer, and the probe that calls itself. */
import { readFileSync } from 'node:fs'
import { ChannelCredentials, type ServerCredentials } from '@grpc/grpc-js'
import type { Clock } from '../base/clock.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import type { Logger } from '../observe/log.js'
import { clientCredentials, serverCredentials } from '../rpc/credentials.js'
import type { Config } from './config/schema.js'

export interface GatewayTls {
  /** Absent: plain text. */
  readonly server: ServerCredentials | undefined
  /** Towards the SiteAgent and towards peers: a site with TLS reaches only devices with TLS. */
  readonly client: ChannelCredentials | undefined
  /** For the call to ourselves, which a nonce authenticates and not a name. */
  readonly probe: ChannelCredentials | undefined
  warnings(): readonly string[]
  close(): void
}

const plainText: GatewayTls = {
  server: undefined,
  client: undefined,
  probe: undefined,
  warnings: () => [],
  close: () => {},
}

function read(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new GatewayError('E_CONFIG', `${file}: ${codeOf(error) ?? messageOf(error)}`, {
      details: { file },
      cause: error,
    })
  }
}

/** Rejects with E_CONFIG, naming the file, for certificates or keys that cannot be used. */
export async function composeTls(config: Config, clock: Clock, log: Logger): Promise<GatewayTls> {
  const own = config.server?.tls
  const towardsSite = config.site?.tls
  if (own === undefined && (towardsSite === undefined || towardsSite === false)) return plainText
  const server =
    own === undefined
      ? undefined
      : await serverCredentials({
          files: {
            certificate: own.certificate,
            privateKey: own.key,
            ...(own.rootCertificates === undefined ? {} : { authorities: own.rootCertificates }),
          },
          requireClientCertificate: own.requireClientCertificate ?? false,
          clock,
          log,
        })
  const site = typeof towardsSite === 'object' ? towardsSite : {}
  const certificate = site.certificate ?? own?.certificate
  const privateKey = site.key ?? own?.key
  const authorities = site.rootCertificates ?? own?.rootCertificates
  const client =
    towardsSite === false
      ? undefined
      : await clientCredentials({
          files: {
            ...(certificate === undefined || privateKey === undefined ? {} : { certificate, privateKey }),
            ...(authorities === undefined ? {} : { authorities }),
          },
          clock,
          log,
        })
  const probe =
    own === undefined
      ? undefined
      : ChannelCredentials.createSsl(null, read(own.key), read(own.certificate), {
          rejectUnauthorized: false,
          checkServerIdentity: () => undefined,
        })
  return {
    server: server?.credentials,
    client: client?.credentials,
    probe,
    warnings: () => [...(server?.warnings() ?? []), ...(client?.warnings() ?? [])],
    close: () => {
      server?.close()
      client?.close()
    },
  }
}
