import { X509Certificate } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { wipe } from '../base/wipe.js'

/** PEM files of one end of TLS. */
export interface CertificateFiles {
  /** Own certificate first, then its issuers; comes with its key or not at all. */
  readonly certificate?: string
  readonly privateKey?: string
  /** Authorities that the other end is checked against. */
  readonly authorities?: string
}

/** What the files held, checked: the key belongs to the certificate, everything can be read as what it should be. */
export interface CertificateMaterial {
  readonly certificate?: Buffer
  readonly privateKey?: Buffer
  readonly authorities?: Buffer
  /** Name on the own certificate. */
  readonly subject: string | undefined
  /** Unix ms at which the own certificate ends; Infinity where there is none. */
  readonly validToMs: number
  /** The key file may be read by others than its owner. */
  readonly keyReadableByOthers: boolean
}

const REMEDY = '`qkd-gw keys init` makes a set of certificates that fit each other'

/** Throws E_KEY_FILE for the private key, E_CONFIG for everything else; both name the file. */
export async function readCertificateFiles(files: CertificateFiles): Promise<CertificateMaterial> {
  const { certificate: certificateFile, privateKey: keyFile, authorities: authoritiesFile } = files
  if ((certificateFile === undefined) !== (keyFile === undefined)) {
    throw new GatewayError('E_CONFIG', 'a certificate and its private key must be given together', { remedy: REMEDY })
  }
  const certificate = certificateFile === undefined ? undefined : await read(certificateFile, 'E_CONFIG')
  const privateKey = keyFile === undefined ? undefined : await read(keyFile, 'E_KEY_FILE')
  const authorities = authoritiesFile === undefined ? undefined : await read(authoritiesFile, 'E_CONFIG')
  const own = certificate === undefined ? undefined : parse(certificate, certificateFile)
  if (authorities !== undefined) parse(authorities, authoritiesFile)
  try {
    createSecureContext({ cert: certificate, key: privateKey, ca: authorities })
  } catch (error) {
    wipe(privateKey)
    throw new GatewayError('E_KEY_FILE', `${keyFile} is no private key of ${certificateFile}: ${messageOf(error)}`, {
      remedy: `give the key that belongs to the certificate, without a passphrase; ${REMEDY}`,
    })
  }
  return {
    ...(certificate === undefined ? {} : { certificate }),
    ...(privateKey === undefined ? {} : { privateKey }),
    ...(authorities === undefined ? {} : { authorities }),
    subject: /^CN=(.*)$/m.exec(own?.subject ?? '')?.[1],
    validToMs: own === undefined ? Infinity : Date.parse(own.validTo),
    keyReadableByOthers: keyFile !== undefined && ((await stat(keyFile)).mode & 0o077) !== 0,
  }
}

async function read(path: string, code: 'E_CONFIG' | 'E_KEY_FILE'): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    const why = codeOf(error) === 'ENOENT' ? 'is not there' : `cannot be read (${codeOf(error) ?? messageOf(error)})`
    throw new GatewayError(code, `${path} ${why}`, { remedy: REMEDY, cause: error, details: { file: path } })
  }
}

function parse(pem: Buffer, path: string | undefined): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (error) {
    throw new GatewayError('E_CONFIG', `${path} is no certificate in PEM form: ${messageOf(error)}`, { remedy: REMEDY })
  }
}
