import { rootCertificates } from 'node:tls'
import { type ChannelCredentials, experimental, type ServerCredentials } from '@grpc/grpc-js'
import type { Clock, Timer } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Logger } from '../observe/log.js'
import { readCertificateFiles, type CertificateFiles, type CertificateMaterial } from './certificate-files.js'

const DEFAULT_REFRESH_MS = 10_000
/** A certificate that ends sooner is warned about. */
const WARN_BEFORE_END_MS = 14 * 86_400_000

export interface CredentialsOptions {
  readonly clock: Clock
  readonly log: Logger
  /** How often the files are looked at; default 10 s. */
  readonly refreshMs?: number
}

export interface ServerTlsOptions extends CredentialsOptions {
  readonly files: CertificateFiles & { readonly certificate: string; readonly privateKey: string }
  /**
   * Turn away who shows no certificate of `authorities`. Without it a certificate is asked for where `authorities` is
   * given, and names its caller: a C++ SiteAgent shows one only if its configuration has one.
   */
  readonly requireClientCertificate?: boolean
}

/** TLS credentials that follow their files: what is new is checked first, what does not hold is not taken. */
export interface FollowingCredentials<C> {
  readonly credentials: C
  /** Name on the own certificate. */
  readonly subject: () => string | undefined
  /** Sentences for the status. */
  readonly warnings: () => readonly string[]
  /** Looks at the files now. Never rejects: what fails is logged and shown as a warning. */
  readonly reload: () => Promise<void>
  readonly close: () => void
}

/** TLS of our server. TLS 1.2 with ECDHE and AES-GCM or 1.3, which is what the peers speak. Rejects as `readCertificateFiles`. */
export async function serverCredentials(options: ServerTlsOptions): Promise<FollowingCredentials<ServerCredentials>> {
  // Without authorities no certificate of a caller can be checked: our own, which signed nobody, stands in for them.
  const source = await followFiles(options.files, options, ({ certificate }) => certificate)
  const credentials = experimental.createCertificateProviderServerCredentials(
    source.provider,
    source.provider,
    options.requireClientCertificate ?? false,
  )
  return { ...source.following, credentials }
}

/** TLS towards SiteAgents and peers; the authorities of the system where none are given. */
export async function clientCredentials(
  options: CredentialsOptions & { readonly files: CertificateFiles },
): Promise<FollowingCredentials<ChannelCredentials>> {
  const source = await followFiles(options.files, options, () => Buffer.from(rootCertificates.join('\n')))
  const credentials = experimental.createCertificateProviderChannelCredentials(
    source.provider,
    options.files.certificate === undefined ? null : source.provider,
  )
  return { ...source.following, credentials }
}

type Provider = experimental.CertificateProvider
type CaListener = Parameters<Provider['addCaCertificateListener']>[0]
type IdentityListener = Parameters<Provider['addIdentityCertificateListener']>[0]

async function followFiles(
  files: CertificateFiles,
  { clock, log, refreshMs = DEFAULT_REFRESH_MS }: CredentialsOptions,
  otherAuthorities: (material: CertificateMaterial) => Buffer | undefined,
): Promise<{ provider: Provider; following: Omit<FollowingCredentials<never>, 'credentials'> }> {
  let material = await readCertificateFiles(files)
  let failure: string | undefined
  let timer: Timer | undefined
  let closed = false
  const caListeners = new Set<CaListener>()
  const identityListeners = new Set<IdentityListener>()

  const tellCa = (listener: CaListener): void => {
    const caCertificate = material.authorities ?? otherAuthorities(material)
    if (caCertificate !== undefined) listener({ caCertificate })
  }
  const tellIdentity = (listener: IdentityListener): void => {
    const { certificate, privateKey } = material
    if (certificate !== undefined && privateKey !== undefined) listener({ certificate, privateKey })
  }
  // The first answer comes at once: a connection made before it would be turned away.
  const provider: Provider = {
    addCaCertificateListener(listener) {
      caListeners.add(listener)
      tellCa(listener)
    },
    removeCaCertificateListener: (listener) => void caListeners.delete(listener),
    addIdentityCertificateListener(listener) {
      identityListeners.add(listener)
      tellIdentity(listener)
    },
    removeIdentityCertificateListener: (listener) => void identityListeners.delete(listener),
  }

  const reload = async (): Promise<void> => {
    try {
      const next = await readCertificateFiles(files)
      failure = undefined
      if (sameMaterial(next, material)) return
      material = next
      caListeners.forEach(tellCa)
      identityListeners.forEach(tellIdentity)
      log.info({ subject: material.subject }, 'new certificates are in use')
    } catch (error) {
      const text = messageOf(error)
      if (failure !== text) log.error({ err: error }, 'the certificates in use stay: the new files do not hold')
      failure = text
    }
  }
  const schedule = (): void => {
    timer = clock.after(refreshMs, () => {
      void reload().then(() => {
        if (!closed) schedule()
      })
    })
  }
  schedule()

  return {
    provider,
    following: {
      subject: () => material.subject,
      warnings: () => warningsOf(files, material, failure, clock.nowMs()),
      reload,
      close() {
        closed = true
        timer?.cancel()
      },
    },
  }
}

function sameMaterial(a: CertificateMaterial, b: CertificateMaterial): boolean {
  const same = (x: Buffer | undefined, y: Buffer | undefined): boolean =>
    x === undefined || y === undefined ? x === y : x.equals(y)
  return same(a.certificate, b.certificate) && same(a.privateKey, b.privateKey) && same(a.authorities, b.authorities)
}

function warningsOf(
  files: CertificateFiles,
  material: CertificateMaterial,
  failure: string | undefined,
  nowMs: number,
): string[] {
  const found: string[] = []
  if (failure !== undefined) found.push(`the certificates in use are the earlier ones: ${failure}`)
  const leftMs = material.validToMs - nowMs
  if (leftMs < 0) found.push(`the certificate ${files.certificate} has ended: nobody will accept it`)
  else if (leftMs < WARN_BEFORE_END_MS) {
    found.push(`the certificate ${files.certificate} ends in ${Math.ceil(leftMs / 86_400_000)} days`)
  }
  if (material.keyReadableByOthers)
    found.push(`the private key ${files.privateKey} can be read by others: chmod 600 it`)
  return found
}
