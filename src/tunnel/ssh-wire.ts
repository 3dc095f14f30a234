/** Reading SSH's own encodings: public key blobs, fingerprints, and the outside of an OpenSSH private key. */
import { createHash } from 'node:crypto'

/** A public key as SSH carries it. */
export interface PublicKey {
  /** `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa` … */
  readonly type: string
  /** The whole blob, its type included. */
  readonly blob: Buffer
}

/** Reads SSH strings one after the other; throws RangeError where the bytes end too early. */
export class SshReader {
  #at = 0
  constructor(private readonly bytes: Buffer) {}

  string(): Buffer {
    const length = this.uint32()
    if (this.#at + length > this.bytes.length) throw new RangeError('an SSH string is cut off')
    const value = this.bytes.subarray(this.#at, this.#at + length)
    this.#at += length
    return value
  }

  uint32(): number {
    const value = this.bytes.readUInt32BE(this.#at)
    this.#at += 4
    return value
  }
}

/** An SSH string: length, then bytes. */
export function sshString(value: Buffer | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

/** Undefined where the bytes are no public key blob. */
export function readPublicKey(blob: Buffer): PublicKey | undefined {
  try {
    const type = new SshReader(blob).string().toString('latin1')
    return /^[\x21-\x7e]+$/.test(type) ? { type, blob } : undefined
  } catch {
    return undefined
  }
}

/** `SHA256:…` without padding, as OpenSSH prints it. */
export function fingerprintOf(blob: Uint8Array): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

/** The form to compare fingerprints in: the prefix is optional for people, padding too. Undefined where it is none. */
export function normalFingerprint(text: string): string | undefined {
  const bare = text
    .trim()
    .replace(/^SHA256:/i, '')
    .replace(/=+$/, '')
  return /^[A-Za-z0-9+/]{43}$/.test(bare) ? `SHA256:${bare}` : undefined
}

const OPENSSH_MAGIC = 'openssh-key-v1\0'

/**
 * The outside of a private key in OpenSSH's own form: whether it is encrypted, and its public half, which is readable
 * without the passphrase. Undefined where the text is of another form.
 */
export function readOpenSshEnvelope(
  text: string,
): { encrypted: boolean; publicKey: PublicKey | undefined } | undefined {
  const match = /-----BEGIN OPENSSH PRIVATE KEY-----([\s\S]+?)-----END OPENSSH PRIVATE KEY-----/.exec(text)
  if (match?.[1] === undefined) return undefined
  const bytes = Buffer.from(match[1].replace(/\s+/g, ''), 'base64')
  if (bytes.subarray(0, OPENSSH_MAGIC.length).toString('latin1') !== OPENSSH_MAGIC) return undefined
  try {
    const reader = new SshReader(bytes.subarray(OPENSSH_MAGIC.length))
    const cipher = reader.string().toString('latin1')
    reader.string()
    reader.string()
    reader.uint32()
    return { encrypted: cipher !== 'none', publicKey: readPublicKey(Buffer.from(reader.string())) }
  } catch {
    return undefined
  }
}

/** An unencrypted OpenSSH private key from the 32 bytes of an Ed25519 seed and of its public half. */
export function openSshEd25519(seed: Buffer, publicHalf: Buffer): string {
  const type = 'ssh-ed25519'
  const blob = Buffer.concat([sshString(type), sshString(publicHalf)])
  const check = Buffer.alloc(8)
  const plain = [check, sshString(type), sshString(publicHalf), sshString(Buffer.concat([seed, publicHalf]))]
  const secret = Buffer.concat([...plain, sshString('')])
  const padding = Buffer.from(Array.from({ length: (8 - (secret.length % 8)) % 8 }, (_, index) => index + 1))
  const one = Buffer.alloc(4)
  one.writeUInt32BE(1)
  const whole = Buffer.concat([
    Buffer.from(OPENSSH_MAGIC, 'latin1'),
    ...[sshString('none'), sshString('none'), sshString(''), one, sshString(blob)],
    sshString(Buffer.concat([secret, padding])),
  ])
  secret.fill(0)
  const lines = whole.toString('base64').match(/.{1,70}/g) ?? []
  whole.fill(0)
  return ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n')
}
