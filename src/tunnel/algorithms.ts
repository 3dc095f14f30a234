/** What our own SSH client offers. Nothing with SHA-1, CBC or DSA; nothing below 2048-bit groups. */
import type { Algorithms, ServerHostKeyAlgorithm } from 'ssh2'

const HOST_KEYS: ServerHostKeyAlgorithm[] = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
]

/** The lists, with the host key types that are already accepted in front. */
export function safeAlgorithms(acceptedTypes: readonly string[]): Algorithms {
  const isAccepted = (algorithm: string): boolean =>
    acceptedTypes.includes(algorithm.startsWith('rsa-sha2-') ? 'ssh-rsa' : algorithm)
  return {
    kex: [
      'curve25519-sha256',
      'curve25519-sha256@libssh.org',
      'ecdh-sha2-nistp256',
      'ecdh-sha2-nistp384',
      'ecdh-sha2-nistp521',
      'diffie-hellman-group16-sha512',
      'diffie-hellman-group18-sha512',
      'diffie-hellman-group14-sha256',
    ],
    serverHostKey: [...HOST_KEYS.filter(isAccepted), ...HOST_KEYS.filter((algorithm) => !isAccepted(algorithm))],
    cipher: [
      'aes128-gcm@openssh.com',
      'aes256-gcm@openssh.com',
      'chacha20-poly1305@openssh.com',
      'aes256-ctr',
      'aes192-ctr',
      'aes128-ctr',
    ],
    hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-512'],
    compress: ['none'],
  }
}

/** Whether a key exchange of that name resists a quantum computer. */
export function isPostQuantum(keyExchange: string): boolean {
  return /sntrup|mlkem|kyber/i.test(keyExchange)
}
