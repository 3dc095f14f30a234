import { spawn } from 'node:child_process'
import { access, chmod, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'

const CA_DAYS = 3_650
/** Longer ones are refused by some TLS stacks. */
const CERTIFICATE_DAYS = 825
const OPENSSL_TIMEOUT_MS = 30_000
/** Letters of a file name that is safe on every system. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/

/** One site: its name, and every host (name or address) under which its SiteAgent and its device's listener are called. */
export interface CaSite {
  readonly name: string
  readonly hosts: readonly string[]
}

export interface CaOptions {
  readonly folder: string
  readonly sites: readonly CaSite[]
  /** Use the authority that the folder holds instead of making one; certificates are made anew. */
  readonly renew: boolean
  readonly signal: AbortSignal
}

/** Files of one holder of a certificate, below the folder. */
export interface CaFiles {
  readonly subject: string
  readonly certificate: string
  readonly privateKey: string
}

export interface CaResult {
  readonly authority: { readonly certificate: string; readonly privateKey: string }
  readonly sites: readonly { readonly name: string; readonly siteAgent: CaFiles; readonly gateway: CaFiles }[]
}

/**
 * Makes a private authority and, for each site, the certificates of its SiteAgent and its gateway, with the system's
 * openssl (P-256; TLS 1.2 with ECDHE and AES-GCM and TLS 1.3 take them). All files are 0600, the folder 0700. Either
 * all files are there in the end or none that is new. Throws E_USAGE for names, E_CONFIG where openssl or the folder fails.
 */
export async function makePrivateCa(options: CaOptions): Promise<CaResult> {
  const { folder, sites, renew, signal } = options
  checkSites(sites)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const authority = { certificate: join(folder, 'ca.crt'), privateKey: join(folder, 'ca.key') }
  const present = await exists(authority.privateKey)
  if (present && !renew) {
    throw new GatewayError('E_USAGE', `${authority.privateKey} is there already`, {
      remedy: 'add --renew to make new certificates with that authority, or name another folder',
    })
  }
  if (!present && renew) {
    throw new GatewayError('E_USAGE', `${authority.privateKey} is not there, so nothing can be renewed with it`, {
      remedy: 'leave --renew out to make a new authority, or name the folder that holds it',
    })
  }
  const work = await mkdtemp(join(folder, '.making-'))
  const openssl = (...args: string[]): Promise<void> => runOpenssl(args, work, signal)
  const made: [from: string, to: string][] = []
  try {
    const ca = present ? authority : { certificate: join(work, 'ca.crt'), privateKey: join(work, 'ca.key') }
    if (!present) {
      await openssl(
        ...['req', '-x509', ...newKey(ca.privateKey), '-out', ca.certificate, '-days', String(CA_DAYS)],
        ...['-subj', '/CN=qkd-gw private authority', '-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
        ...['-addext', 'basicConstraints=critical,CA:TRUE'],
      )
      made.push([ca.certificate, authority.certificate], [ca.privateKey, authority.privateKey])
    }
    const result: CaResult['sites'][number][] = []
    for (const { name, hosts } of sites) {
      const holders = [`${name}-site-agent`, `${name}-gateway`].map((subject) => ({
        subject,
        certificate: join(folder, `${subject}.crt`),
        privateKey: join(folder, `${subject}.key`),
      }))
      for (const { subject, certificate, privateKey } of holders) {
        await issue({ openssl, work, ca, subject, hosts })
        made.push([join(work, `${subject}.crt`), certificate], [join(work, `${subject}.key`), privateKey])
      }
      const [siteAgent, gateway] = holders
      if (siteAgent !== undefined && gateway !== undefined) result.push({ name, siteAgent, gateway })
    }
    for (const [from] of made) await chmod(from, 0o600)
    for (const [from, to] of made) await rename(from, to)
    return { authority, sites: result }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

interface Issue {
  readonly openssl: (...args: string[]) => Promise<void>
  readonly work: string
  readonly ca: { readonly certificate: string; readonly privateKey: string }
  readonly subject: string
  readonly hosts: readonly string[]
}

/** One certificate for both ends of TLS: the same program serves and calls. */
async function issue({ openssl, work, ca, subject, hosts }: Issue): Promise<void> {
  const [key, request, certificate, extensions] = ['key', 'csr', 'crt', 'ext'].map((end) =>
    join(work, `${subject}.${end}`),
  )
  if (key === undefined || request === undefined || certificate === undefined || extensions === undefined) return
  // The own machine is always among the names: probes and tests call it there.
  const names = [...new Set([...hosts, subject, 'localhost', '127.0.0.1', '::1'])]
  await writeFile(
    extensions,
    [
      'basicConstraints=critical,CA:FALSE',
      'keyUsage=critical,digitalSignature',
      'extendedKeyUsage=serverAuth,clientAuth',
      `subjectAltName=${names.map((name) => `${isIP(name) === 0 ? 'DNS' : 'IP'}:${name}`).join(',')}`,
      '',
    ].join('\n'),
    { mode: 0o600 },
  )
  await openssl('req', '-new', ...newKey(key), '-out', request, '-subj', `/CN=${subject}`)
  await openssl(
    ...['x509', '-req', '-in', request, '-CA', ca.certificate, '-CAkey', ca.privateKey, '-out', certificate],
    // Without a serial of its own openssl leaves a file of serials beside the authority.
    ...['-set_serial', `0x${crypto.randomUUID().replaceAll('-', '').slice(0, 30)}`],
    ...['-days', String(CERTIFICATE_DAYS), '-sha256', '-extfile', extensions],
  )
}

const newKey = (path: string): string[] => [
  ...['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', path],
]

function checkSites(sites: readonly CaSite[]): void {
  const wrong = sites.find(({ name }) => !NAME.test(name))
  if (sites.length === 0 || wrong !== undefined) {
    throw new GatewayError(
      'E_USAGE',
      wrong === undefined ? 'no site is named' : `"${wrong.name}" is no name for a site`,
      {
        remedy:
          'name each site with letters and digits, and its hosts: --site A=45.55.2.5 --site B=example.org,10.0.0.7',
      },
    )
  }
  const names = sites.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new GatewayError('E_USAGE', `the site "${twice}" is named twice`)
  for (const { name, hosts } of sites) {
    const bad = hosts.find(
      (host) => isIP(host) === 0 && !/^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(host),
    )
    if (bad !== undefined || hosts.length === 0) {
      throw new GatewayError(
        'E_USAGE',
        `site ${name}: ${bad === undefined ? 'no host is named' : `"${bad}" is no host`}`,
        {
          remedy: 'name every host or address under which this site is called, without ports: --site A=45.55.2.5',
        },
      )
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

function runOpenssl(args: readonly string[], work: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('openssl', args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      // An openssl.cnf of the machine may ask for anything; RANDFILE and the like go into the folder that is removed.
      env: { PATH: process.env['PATH'], HOME: work, OPENSSL_CONF: '/dev/null' },
      signal,
      timeout: OPENSSL_TIMEOUT_MS,
    })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2_000)
    })
    child.once('error', (error) =>
      reject(
        new GatewayError(
          'E_CONFIG',
          codeOf(error) === 'ENOENT' ? 'the program openssl is not installed' : `openssl: ${messageOf(error)}`,
          { remedy: 'install it (Debian: apt-get install openssl)', cause: error },
        ),
      ),
    )
    child.once('close', (code) => {
      if (code === 0) return resolve()
      reject(new GatewayError('E_CONFIG', `openssl ${args[0]} failed: ${said.trim().split('\n').at(-1) ?? ''}`))
    })
  })
}
