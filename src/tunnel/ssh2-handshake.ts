/** From an open byte stream to a logged-in ssh2 connection, each phase with a deadline of its own. */
import type { Duplex } from 'node:stream'
import ssh2 from 'ssh2'
import type { AnyAuthMethod, AuthHandlerMiddleware, Client, NegotiatedAlgorithms } from 'ssh2'
import { withDeadline, type Clock } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import { safeAlgorithms } from './algorithms.js'
import type { TunnelTimings } from './options.js'

export interface Ssh2Login {
  readonly server: HostPort
  readonly user: string
  /** Throws where the key is not accepted. */
  readonly checkHostKey: (blob: Buffer) => void
  /** Types of host keys that are already accepted. */
  readonly acceptedTypes: readonly string[]
  /** In the order in which to try them; each with the name that errors call it by. */
  readonly methods: readonly { name: string; method: AnyAuthMethod }[]
}

export interface Ssh2Connection {
  readonly client: Client
  /** The server's debug messages so far: sshd says there why it refuses. */
  readonly said: readonly string[]
  readonly negotiated: NegotiatedAlgorithms
  readonly serverVersion: string
}

const MAX_GREETING = 512

/** Watches the first bytes: the server's identification, and what it says before that. */
class BannerWatch {
  #seen = ''
  #version: string | undefined

  constructor(stream: Duplex) {
    const onData = (chunk: Buffer): void => {
      this.#seen = (this.#seen + chunk.toString('latin1')).slice(0, MAX_GREETING)
      this.#version = /^SSH-[\d.]+-([^\r\n]*)/m.exec(this.#seen)?.[1]
      if (this.#version !== undefined || this.#seen.length === MAX_GREETING) stream.off('data', onData)
    }
    stream.on('data', onData)
  }

  get version(): string | undefined {
    return this.#version
  }

  /** What came instead of an identification, printable only. */
  get greeting(): string {
    return this.#version === undefined ? this.#seen.replace(/[^\x20-\x7e]+/g, ' ').trim() : ''
  }
}

const DEBUG_PREFIX = 'Debug output from server: '
const MAX_SAID = 20

/**
 * ssh2 tells the server's debug messages only to a `debug` function, which it also tells each packet. Once logged in
 * the packets are muted: they would cost a string each. Where ssh2 is built differently one day, nothing is muted.
 */
function mutePackets(client: Client): void {
  const inner: unknown = '_protocol' in client ? client._protocol : undefined
  if (typeof inner === 'object' && inner !== null && '_debug' in inner) inner._debug = undefined
}

type Phase = 'handshake' | 'auth'

function levelOf(error: Error): string {
  return 'level' in error && typeof error.level === 'string' ? error.level : ''
}

function explain(error: Error | undefined, phase: Phase, banner: BannerWatch, login: Ssh2Login): GatewayError {
  const where = formatHostPort(login.server)
  const details = { host: login.server.host, port: login.server.port, step: phase }
  const text = error === undefined ? 'the connection was closed' : messageOf(error)
  if (error !== undefined && (levelOf(error) === 'client-authentication' || /authentication failures/i.test(text))) {
    const tried = login.methods.map((one) => one.name).join(', ')
    return new GatewayError(
      'E_AUTH_FAILED',
      `${where} refused every key for the user ${login.user} (tried: ${tried})`,
      {
        remedy: `put the public half of one of them into authorized_keys of ${login.user} on the server, or give the right one with -i FILE`,
        details,
        cause: error,
      },
    )
  }
  if (banner.version === undefined) {
    if (banner.greeting !== '' && !/exceeded maxstartups|not allowed at this time/i.test(banner.greeting)) {
      return new GatewayError('E_CONNECT', `${where} is no SSH server: it says "${banner.greeting.slice(0, 80)}"`, {
        remedy: 'check host and port of the SSH server',
        details,
      })
    }
    const said = banner.greeting === '' ? '' : `, saying "${banner.greeting}"`
    return new GatewayError('E_BANNED', `${where} closes before its banner${said}: it refuses this address for now`, {
      remedy:
        'look for MaxStartups, PerSourcePenalties or fail2ban on the server; the pauses between tries are long, since each try may renew the refusal',
      details,
      cause: error,
    })
  }
  if (/no matching/i.test(text)) {
    return new GatewayError('E_CONNECT', `${where}: ${text}`, {
      remedy: 'the server offers only algorithms that are no longer safe, or that only the back end openssh has',
      details,
      cause: error,
    })
  }
  return new GatewayError('E_CONNECT', `${where}: ${text} (during ${phase})`, { details, cause: error })
}

/**
 * Speaks SSH over `stream`. Rejects with E_HOST_KEY_*, E_AUTH_FAILED, E_BANNED, E_CONNECT, E_DEADLINE or E_CANCELLED,
 * and the stream is destroyed then.
 */
export async function loginWithSsh2(
  stream: Duplex,
  login: Ssh2Login,
  timings: Pick<TunnelTimings, 'handshakeTimeoutMs' | 'authTimeoutMs' | 'keepaliveIntervalMs' | 'keepaliveCountMax'>,
  clock: Clock,
  signal: AbortSignal,
): Promise<Ssh2Connection> {
  const client = new ssh2.Client()
  let phase: Phase = 'handshake'
  let refusal: Error | undefined
  let firstError: Error | undefined
  const queue = login.methods.map((one) => one.method)

  const failed = new Promise<never>((_, reject) => {
    client.on('error', (error) => {
      // ssh2 goes on to the next key after these.
      if (levelOf(error) === 'agent' || /^Error (while )?signing/.test(error.message)) return
      firstError ??= error
      // Long enough for a last word to leave; ssh2 would wait for the other side to close.
      clock.after(50, () => stream.destroy())
    })
    client.on('close', () => reject(refusal ?? explain(firstError, phase, banner, login)))
  })
  failed.catch(() => {})
  const handshake = new Promise<NegotiatedAlgorithms>((resolve) => client.once('handshake', resolve))
  const ready = new Promise<void>((resolve) => client.once('ready', resolve))

  const said: string[] = []
  const { host, port } = login.server
  client.connect({
    debug: (line) => {
      if (!line.startsWith(DEBUG_PREFIX)) return
      said.push(line.slice(DEBUG_PREFIX.length))
      if (said.length > MAX_SAID) said.shift()
    },
    sock: stream,
    host,
    port,
    username: login.user,
    ident: 'qkd-gw',
    algorithms: safeAlgorithms(login.acceptedTypes),
    hostVerifier: (key: Buffer) => {
      try {
        login.checkHostKey(key)
        return true
      } catch (error) {
        refusal = error instanceof Error ? error : new Error(messageOf(error))
        return false
      }
    },
    // The last answer is `false`: none left. ssh2's types do not know it.
    authHandler: ((_left: unknown, _partial: unknown, next: (method: AnyAuthMethod | false) => void) =>
      next(queue.shift() ?? false)) as AuthHandlerMiddleware,
    readyTimeout: 0,
    keepaliveInterval: timings.keepaliveIntervalMs,
    keepaliveCountMax: timings.keepaliveCountMax,
  })
  // Attached after connect(), which paused the stream: no byte is lost to ssh2.
  const banner = new BannerWatch(stream)

  const where = formatHostPort(login.server)
  try {
    const negotiated = await withDeadline(
      clock,
      timings.handshakeTimeoutMs,
      `SSH key exchange with ${where}`,
      () => Promise.race([handshake, failed]),
      signal,
    )
    phase = 'auth'
    const what = `logging in to ${where} as ${login.user}`
    await withDeadline(clock, timings.authTimeoutMs, what, () => Promise.race([ready, failed]), signal)
    mutePackets(client)
    return { client, said, negotiated, serverVersion: banner.version ?? '' }
  } catch (error) {
    stream.destroy()
    throw refusal ?? error
  }
}
