/** The host key that a server shows, read without logging in. */
import type { Duplex } from 'node:stream'
import ssh2 from 'ssh2'
import { withDeadline, type Clock } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import { safeAlgorithms } from './algorithms.js'
import { readPublicKey, type PublicKey } from './ssh-wire.js'

/**
 * Speaks SSH over `stream` until the server has shown its key and proven that it holds it, then hangs up. Types in
 * `preferredTypes` are asked for first. Rejects with E_CONNECT, E_DEADLINE or E_CANCELLED.
 */
export async function fetchHostKey(
  stream: Duplex,
  server: HostPort,
  preferredTypes: readonly string[],
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<PublicKey> {
  const client = new ssh2.Client()
  let shown: Buffer | undefined
  let complete = false
  let firstError: Error | undefined
  client.on('error', (error) => (firstError ??= error))
  const done = new Promise<void>((resolve) => {
    client.once('handshake', () => {
      complete = true
      resolve()
    })
    client.once('close', () => resolve())
  })
  client.connect({
    sock: stream,
    username: 'nobody',
    ident: 'qkd-gw',
    algorithms: safeAlgorithms(preferredTypes),
    hostVerifier: (key: Buffer) => {
      shown = key
      return true
    },
    authHandler: () => {},
    readyTimeout: 0,
  })
  try {
    await withDeadline(clock, timeoutMs, `reading the host key of ${formatHostPort(server)}`, () => done, signal)
  } finally {
    stream.destroy()
  }
  const key = shown === undefined || !complete ? undefined : readPublicKey(shown)
  if (key !== undefined) return key
  throw new GatewayError(
    'E_CONNECT',
    `${formatHostPort(server)} shows no host key (${firstError === undefined ? 'it closes the connection' : messageOf(firstError)})`,
    { remedy: 'check host and port of the SSH server', details: { host: server.host, port: server.port } },
  )
}
