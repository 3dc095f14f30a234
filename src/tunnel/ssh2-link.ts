/** A logged-in ssh2 connection as a `TunnelLink`: every request has a deadline, after which the socket is destroyed. */
import type { Duplex } from 'node:stream'
import { Duplex as DuplexStream } from 'node:stream'
import type { ClientChannel, TcpConnectionDetails } from 'ssh2'
import { sleep, withDeadline, type Clock, type Timer } from '../base/clock.js'
import { GatewayError, messageOf } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { ByteStream } from './carried-stream.js'
import type { LinkTaker, TunnelLink } from './link.js'
import type { TunnelTimings } from './options.js'
import type { Ssh2Connection } from './ssh2-handshake.js'

export interface Ssh2LinkFacts {
  readonly address: string
  readonly resolved: readonly string[]
  /** Key exchange of the layer outside, where there is one. */
  readonly outerKeyExchange?: string
  readonly postQuantum: boolean
  /** What the carrier said last, where there is one. */
  readonly lastWords?: () => string | undefined
}

/** What code that expects a `net.Socket` looks for on a forwarded stream. */
interface SocketLike {
  remoteAddress: string
  remotePort: number
  remoteFamily: 'IPv4' | 'IPv6'
  localAddress: string
  localPort: number
  setNoDelay: () => void
  setKeepAlive: () => void
  setTimeout: () => void
  ref: () => void
  unref: () => void
}

function likeSocket(channel: ClientChannel, originator: HostPort, listener: HostPort): void {
  const nothing = (): void => {}
  const fields: SocketLike = {
    remoteAddress: originator.host,
    remotePort: originator.port,
    remoteFamily: originator.host.includes(':') ? 'IPv6' : 'IPv4',
    localAddress: listener.host,
    localPort: listener.port,
    setNoDelay: nothing,
    setKeepAlive: nothing,
    setTimeout: nothing,
    ref: nothing,
    unref: nothing,
  }
  Object.assign(channel, fields)
}

/**
 * ssh2 says `close` of a channel only once all that came was read: one that was destroyed unread (a stranger who was sent
 * away) would count for ever.
 */
function closeAtOnce(channel: ClientChannel): void {
  const destroy = channel.destroy.bind(channel)
  let isDestroyed = false
  channel.destroy = () => {
    if (isDestroyed) return channel
    isDestroyed = true
    destroy()
    DuplexStream.prototype.destroy.call(channel)
    setImmediate(() => channel.emit('close'))
    return channel
  }
}

/** Node's HTTP/2 writes the nine bytes before each frame apart; ssh2 would make a packet of its own of them. */
function joinPieces(channel: ClientChannel): void {
  channel._writev = (pieces: readonly { chunk: Buffer }[], callback) =>
    channel._write(Buffer.concat(pieces.map(({ chunk }) => chunk)), 'binary', callback)
}

/**
 * What is written in one turn of the event loop goes together: an answer to a call is written in four. Inside another
 * connection each packet wakes several programs.
 */
function gatherPieces(channel: ClientChannel): void {
  const write = channel.write.bind(channel) as (...given: unknown[]) => boolean
  let isHeld = false
  const gather = (...given: unknown[]): boolean => {
    if (!isHeld) {
      isHeld = true
      channel.cork()
      setImmediate(() => {
        isHeld = false
        channel.uncork()
      })
    }
    return write(...given)
  }
  Object.assign(channel, { write: gather })
}

function dialError(error: Error, target: HostPort): GatewayError {
  const reason = 'reason' in error ? error.reason : undefined
  const text = messageOf(error).replace('(SSH) Channel open failure: ', '')
  const dial = reason === 1 ? 'prohibited' : reason === 2 && /refused|^$/i.test(text) ? 'refused' : 'failed'
  const where = formatHostPort(target)
  return new GatewayError(
    'E_CONNECT',
    dial === 'prohibited'
      ? `the server does not permit connections to ${where}`
      : `the server cannot connect to ${where} (${text === '' ? 'refused' : text})`,
    {
      ...(dial === 'prohibited' ? { remedy: `add permitopen="${where}" to the key's line in authorized_keys` } : {}),
      details: { host: target.host, port: target.port, dial },
      cause: error,
    },
  )
}

/** sshd says in a debug message where it is the permission that is missing, not the port. */
export function refusalKind(said: readonly string[]): { kind?: 'not-permitted' } {
  const isPermission = said.some((line) => /port forwarding refused|disabled port forwarding/i.test(line))
  return isPermission ? { kind: 'not-permitted' } : {}
}

/** Most answers are on their way by then. */
const ACKNOWLEDGE_AFTER_MS = 3

/** Pieces of a stream, which are acknowledged as they come. */
const BULK_BYTES = 16_384

export class Ssh2Link implements TunnelLink {
  readonly keyExchange: string
  readonly postQuantum: boolean
  readonly serverVersion: string
  readonly address: string
  readonly resolved: readonly string[]
  readonly closed: Promise<string>
  readonly #client: Ssh2Connection['client']
  readonly #said: readonly string[]
  /** It runs within another connection. */
  readonly #isInside: boolean
  readonly #channels = new Set<ClientChannel>()
  #bound: { asked: HostPort; port: number } | undefined
  #reason: string | undefined
  #gone = false
  /** Pieces that the server sent so far. */
  #heard = 0
  #acknowledging: Timer | undefined
  #writtenWhenHeard = 0

  constructor(
    connection: Ssh2Connection,
    private readonly stream: ByteStream,
    facts: Ssh2LinkFacts,
    private readonly taker: LinkTaker,
    private readonly timings: Pick<TunnelTimings, 'forwardTimeoutMs' | 'channelTimeoutMs'> & { maxConnections: number },
    private readonly clock: Clock,
  ) {
    this.#client = connection.client
    this.#said = connection.said
    this.#isInside = facts.outerKeyExchange !== undefined
    const inner = connection.negotiated.kex
    this.keyExchange = facts.outerKeyExchange === undefined ? inner : `${facts.outerKeyExchange} (within it ${inner})`
    this.postQuantum = facts.postQuantum
    this.serverVersion = connection.serverVersion
    this.address = facts.address
    this.resolved = facts.resolved
    this.#client.on('error', (error) => {
      this.#reason ??= error.message === 'Keepalive timeout' ? 'the server no longer answers' : messageOf(error)
      // A politely closed half-open connection stays for hours.
      this.stream.destroy()
    })
    this.#client.on('end', () => this.stream.destroy())
    this.stream.on('data', (piece: Buffer) => {
      this.#heard += 1
      if (piece.length < BULK_BYTES) this.#acknowledgeSoon()
    })
    this.closed = new Promise((resolve) => {
      this.#client.once('close', () => {
        this.#gone = true
        this.#acknowledging?.cancel()
        resolve(this.#reason ?? facts.lastWords?.() ?? 'the server closed the connection')
        setImmediate(() => this.#dropChannels())
      })
    })
    this.#client.on('tcp connection', (details, accept, reject) => this.#onForwarded(details, accept, reject))
  }

  async listen(bind: HostPort): Promise<HostPort> {
    const where = formatHostPort({ host: bind.host === '' ? '*' : bind.host, port: bind.port })
    const port = await this.#request<number>(`asking the server to listen on ${where}`, (done) =>
      this.#client.forwardIn(bind.host, bind.port, (error, actual) => {
        if (error === undefined || error === null) return done(undefined, actual)
        const refused = /unable to bind/i.test(error.message)
        done(
          new GatewayError(
            refused ? 'E_FORWARD_REFUSED' : 'E_CONNECT',
            refused ? `the server refuses to listen on ${where}` : `${messageOf(error)} (asking to listen on ${where})`,
            { details: { host: bind.host, port: bind.port, ...(refused ? refusalKind(this.#said) : {}) } },
          ),
        )
      }),
    )
    this.#bound = { asked: bind, port }
    return { host: bind.host, port }
  }

  async unlisten(): Promise<void> {
    const bound = this.#bound
    this.#bound = undefined
    if (bound === undefined || this.#gone) return
    await this.#request<void>('giving the listener back', (done) =>
      this.#client.unforwardIn(bound.asked.host, bound.port, (error) => done(error ?? undefined, undefined)),
    ).catch(() => {})
  }

  dial(target: HostPort, signal: AbortSignal): Promise<Duplex> {
    let given = false
    const opened = withDeadline(
      this.clock,
      this.timings.channelTimeoutMs,
      `connecting to ${formatHostPort(target)} from the server`,
      (inner) =>
        new Promise<Duplex>((resolve, reject) => {
          inner.addEventListener('abort', () => (given = true), { once: true })
          if (this.#gone) return reject(new GatewayError('E_CONNECT', 'the SSH connection is gone'))
          this.#client.forwardOut('127.0.0.1', 0, target.host, target.port, (error, channel) => {
            if (error !== undefined && error !== null) return reject(dialError(error, target))
            // Nobody waits for it any more.
            if (given) return void channel.on('error', () => {}).destroy()
            this.#track(channel)
            resolve(channel)
          })
        }),
      signal,
    )
    return opened
  }

  openConnections(): number {
    return this.#channels.size
  }

  exec(command: string, timeoutMs: number): Promise<string | undefined> {
    const output = withDeadline(this.clock, timeoutMs, command, () => {
      return new Promise<string | undefined>((resolve) => {
        this.#client.exec(command, (error, channel) => {
          if (error !== undefined) return resolve(undefined)
          let text = ''
          let hasSucceeded = false
          channel.on('data', (chunk: Buffer) => (text += chunk.toString('utf8')))
          channel.once('exit', (code: number | null) => (hasSucceeded = code === 0))
          // What it wrote may come after the word that it ended.
          channel.once('close', () => resolve(hasSucceeded ? text : undefined))
        })
      })
    })
    return output.catch(() => undefined)
  }

  async ping(timeoutMs: number): Promise<boolean> {
    if (this.#gone) return false
    // A listener that does not exist cannot be cancelled: the server says no, and that is an answer.
    const answered = withDeadline(this.clock, timeoutMs, 'a question to the SSH server', () => {
      return new Promise<void>((resolve) => this.#client.unforwardIn('127.0.0.1', 1, () => resolve()))
    })
    const before = this.#heard
    return answered.then(
      () => !this.#gone,
      async () => {
        // Hundreds of callers at once can keep the answer, or us, waiting: a server that sends is not dead.
        await sleep(this.clock, 0, new AbortController().signal)
        return !this.#gone && this.#heard > before
      },
    )
  }

  async end(timeoutMs: number): Promise<void> {
    if (this.#gone) return
    this.#reason ??= 'closed by us'
    this.#client.end()
    await withDeadline(this.clock, timeoutMs, 'closing', () => this.closed).catch(() => this.stream.destroy())
  }

  destroy(reason: string): void {
    this.#reason ??= reason
    this.stream.destroy()
  }

  /**
   * OpenSSH before August 2025 leaves Nagle's algorithm on: its next small piece waits until the last one is acknowledged, and
   * where we have nothing to say this machine takes 40 ms for that. A word that wants no answer takes it along.
   */
  #acknowledgeSoon(): void {
    this.#writtenWhenHeard = this.stream.bytesWritten
    this.#acknowledging ??= this.clock.after(ACKNOWLEDGE_AFTER_MS, () => {
      this.#acknowledging = undefined
      if (!this.stream.writable || this.stream.bytesWritten !== this.#writtenWhenHeard) return
      // There is no such listener to cancel.
      this.#client.unforwardIn('127.0.0.1', 1)
    })
  }

  /** A request whose deadline destroys the connection: one that does not answer is half-open. */
  async #request<T>(what: string, send: (done: (error: Error | undefined, value?: T) => void) => void): Promise<T> {
    if (this.#gone) throw new GatewayError('E_CONNECT', `${what}: the SSH connection is gone`)
    try {
      return await withDeadline(
        this.clock,
        this.timings.forwardTimeoutMs,
        what,
        () =>
          new Promise<T>((resolve, reject) =>
            send((error, value) => (error === undefined ? resolve(value as T) : reject(error))),
          ),
      )
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'E_DEADLINE') this.destroy(error.message)
      throw error
    }
  }

  #track(channel: ClientChannel): void {
    closeAtOnce(channel)
    joinPieces(channel)
    this.#channels.add(channel)
    channel.on('error', () => {})
    channel.once('close', () => this.#channels.delete(channel))
  }

  #onForwarded(details: TcpConnectionDetails, accept: () => ClientChannel, reject: () => void): void {
    if (!this.taker.accepts() || this.#channels.size >= this.timings.maxConnections) return reject()
    const originator = { host: details.srcIP.replace(/^::ffff:/i, ''), port: details.srcPort }
    const channel = accept()
    this.#track(channel)
    if (this.#isInside) gatherPieces(channel)
    likeSocket(channel, originator, { host: details.destIP, port: details.destPort })
    this.taker.take({ stream: channel, originator })
  }

  /** Channels that nobody reads would never say `close` by themselves. */
  #dropChannels(): void {
    for (const channel of [...this.#channels]) {
      DuplexStream.prototype.destroy.call(channel)
      channel.emit('close')
    }
    this.#channels.clear()
  }
}
