/** Private keys: found, checked, decrypted once, and kept as parsed keys. */
import { createPrivateKey } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import ssh2 from 'ssh2'
import type { ParsedKey } from 'ssh2'
import type { Clock } from '../base/clock.js'
import { codeOf, GatewayError, messageOf } from '../base/errors.js'
import { listAgentKeys } from './agent-client.js'
import { openSshEd25519, readOpenSshEnvelope } from './ssh-wire.js'

/** Asks a person for the passphrase of one key file. */
export type PassphrasePrompt = (request: { file: string; attempt: number; signal: AbortSignal }) => Promise<string>

export interface IdentityOptions {
  /** Key files in the order in which to try them. */
  readonly files: readonly string[]
  /** Path of an ssh-agent's socket. */
  readonly agent: string | undefined
  /** Absent: nobody can be asked (no terminal). */
  readonly prompt: PassphrasePrompt | undefined
  /** The system's ssh reads the files too: what only it understands (hardware keys) is fine, and it has keys of its own. */
  readonly forSystemSsh?: boolean
  readonly clock: Clock
}

export interface Identity {
  readonly file: string
  readonly key: ParsedKey
}

export interface Identities {
  readonly keys: readonly Identity[]
  /** Those of them whose file is encrypted. */
  readonly decrypted: readonly Identity[]
  readonly agent: string | undefined
  /** Files that were passed over, each a sentence. */
  readonly warnings: readonly string[]
}

const PASSPHRASE_ATTEMPTS = 3

function unusable(file: string, why: string, remedy: string, cause?: unknown): GatewayError {
  return new GatewayError('E_KEY_FILE', `key file ${file}: ${why}`, { remedy, details: { file }, cause })
}

/** Keys that were decrypted already, by file and its time stamp: nobody is asked twice for the same file. */
export type KeyCache = Map<string, { stamp: string; key: ParsedKey }>

async function readKeyFile(file: string): Promise<{ text: string; stamp: string }> {
  const found = await stat(file).catch((error: unknown) => {
    const missing = codeOf(error) === 'ENOENT'
    throw unusable(
      file,
      missing ? 'there is no such file' : messageOf(error),
      missing ? 'give the right path with -i FILE' : 'make it readable for the user that the gateway runs as',
      error,
    )
  })
  if (!found.isFile()) throw unusable(file, 'is no file', 'give the path of a private key with -i FILE')
  // As OpenSSH: others must not read one's own key; somebody else's file is that person's business.
  if (found.uid === process.getuid?.() && (found.mode & 0o077) !== 0) {
    const mode = (found.mode & 0o777).toString(8).padStart(4, '0')
    throw unusable(file, `mode ${mode} lets others read it`, `chmod 600 ${file}`)
  }
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw unusable(file, messageOf(error), 'make it readable for the user that the gateway runs as', error)
  })
  return { text, stamp: `${found.mtimeMs} ${found.size} ${found.ino}` }
}

/** Changes whenever one of the files does: what a wait for a better key watches. */
export async function stampOf(files: readonly string[]): Promise<string> {
  const stamps = await Promise.all(
    files.map((file) =>
      stat(file).then(
        (found) => `${found.mtimeMs} ${found.ctimeMs} ${found.size} ${found.ino}`,
        () => 'absent',
      ),
    ),
  )
  return stamps.join('|')
}

/** Turns PKCS#8 (`BEGIN PRIVATE KEY`, `BEGIN ENCRYPTED PRIVATE KEY`) into a form that ssh2 reads. */
function fromPkcs8(text: string, passphrase: string | undefined): string {
  const key = createPrivateKey({ key: text, format: 'pem', ...(passphrase === undefined ? {} : { passphrase }) })
  if (key.asymmetricKeyType === 'rsa') return key.export({ type: 'pkcs1', format: 'pem' }).toString()
  if (key.asymmetricKeyType === 'ec') return key.export({ type: 'sec1', format: 'pem' }).toString()
  const { d, x } = key.export({ format: 'jwk' })
  if (key.asymmetricKeyType !== 'ed25519' || d === undefined || x === undefined) {
    throw new Error(`keys of the type ${String(key.asymmetricKeyType)} are not for SSH`)
  }
  return openSshEd25519(Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url'))
}

function isEncrypted(text: string): boolean {
  const envelope = readOpenSshEnvelope(text)
  if (envelope !== undefined) return envelope.encrypted
  return /BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: 4,ENCRYPTED|^Encryption: (?!none)/m.test(text)
}

function parse(text: string, passphrase: string | undefined): ParsedKey | Error {
  try {
    const readable = /BEGIN (ENCRYPTED )?PRIVATE KEY/.test(text) ? fromPkcs8(text, passphrase) : text
    const parsed = ssh2.utils.parseKey(readable, passphrase)
    if (parsed instanceof Error) return parsed
    return parsed.isPrivateKey() ? parsed : new Error('it holds a public key only')
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

function notAsked(file: string): GatewayError {
  return unusable(
    file,
    'it is encrypted, and there is no terminal to ask for its passphrase',
    'load it into an ssh-agent (ssh-add) and give --agent, or start on a terminal',
  )
}

async function decrypt(file: string, text: string, prompt: PassphrasePrompt, signal: AbortSignal): Promise<ParsedKey> {
  for (let attempt = 1; attempt <= PASSPHRASE_ATTEMPTS; attempt += 1) {
    const parsed = parse(text, await prompt({ file, attempt, signal }))
    if (!(parsed instanceof Error)) return parsed
  }
  throw new GatewayError('E_KEY_FILE', `key file ${file}: the passphrase was wrong ${PASSPHRASE_ATTEMPTS} times`, {
    remedy: 'start again with the right passphrase',
    details: { file, asked: true },
  })
}

/** Changes whenever an agent holds other keys. */
export async function stampOfAgent(agent: string | undefined, clock: Clock): Promise<string> {
  if (agent === undefined) return ''
  return listAgentKeys(agent, clock).then(
    (keys) => keys.map((key) => key.toString('base64')).join(),
    () => 'absent',
  )
}

async function agentHolds(agent: string, text: string, clock: Clock): Promise<boolean> {
  const blob = readOpenSshEnvelope(text)?.publicKey?.blob
  if (blob === undefined) return false
  const keys = await listAgentKeys(agent, clock).catch(() => [])
  return keys.some((key) => key.equals(blob))
}

const PRIVATE_KEY_ENVELOPE = /^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----/m

/**
 * Reads all key files once. An encrypted one is asked for unless the agent already holds it; where nobody can be asked
 * it is passed over as long as something else is there. Throws E_KEY_FILE where a file cannot be used, and where
 * nothing is there to log in with.
 */
export async function loadIdentities(
  options: IdentityOptions,
  signal: AbortSignal,
  cache: KeyCache = new Map(),
): Promise<Identities> {
  const keys: Identity[] = []
  const decrypted: Identity[] = []
  const passedOver: GatewayError[] = []
  for (const file of options.files) {
    const { text, stamp } = await readKeyFile(file)
    const cached = cache.get(file)
    if (cached?.stamp === stamp) {
      keys.push({ file, key: cached.key })
      if (isEncrypted(text)) decrypted.push({ file, key: cached.key })
      continue
    }
    let key: ParsedKey | Error
    if (isEncrypted(text)) {
      if (options.agent !== undefined && (await agentHolds(options.agent, text, options.clock))) continue
      if (options.prompt === undefined) {
        passedOver.push(notAsked(file))
        continue
      }
      try {
        key = await decrypt(file, text, options.prompt, signal)
      } catch (error) {
        // Nobody there to ask; a wrong passphrase or a stop is another matter.
        if (!(error instanceof GatewayError) || error.code !== 'E_KEY_FILE' || error.details['asked'] === true)
          throw error
        passedOver.push(error)
        continue
      }
      decrypted.push({ file, key })
    } else key = parse(text, undefined)
    if (key instanceof Error) {
      // The system's ssh reads kinds that we do not (security keys, say), but nothing without a private key's envelope.
      if (options.forSystemSsh === true && PRIVATE_KEY_ENVELOPE.test(text)) continue
      throw unusable(file, key.message, 'give a private key in PEM or OpenSSH form (ssh-keygen -t ed25519)', key)
    }
    if (key.type === 'ssh-dss')
      throw unusable(file, 'DSA keys are no longer safe', 'make one with ssh-keygen -t ed25519')
    cache.set(file, { stamp, key })
    keys.push({ file, key })
  }
  if (keys.length === 0 && options.agent === undefined && (options.forSystemSsh !== true || passedOver.length > 0)) {
    if (passedOver[0] !== undefined) throw passedOver[0]
    throw new GatewayError('E_KEY_FILE', 'nothing to log in with: no key file and no ssh-agent', {
      remedy: 'give a key file with -i FILE, or --agent where an ssh-agent runs',
    })
  }
  return { keys, decrypted, agent: options.agent, warnings: passedOver.map((error) => `${error.message}: passed over`) }
}
