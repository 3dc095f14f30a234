/** Through an HTTP or SOCKS proxy to an SSH server. */
import type { Socket } from 'node:net'
import { withDeadline, type Clock } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'

export interface ProxyAddress extends HostPort {
  kind: 'http' | 'socks5'
  user: string
  password: string
}

const MAX_ANSWER = 8_192

/** Reads `http://[user:password@]host:port` and `socks5://…` (also `socks5h`, `socks`). Throws E_CONFIG. */
export function parseProxy(text: string): ProxyAddress {
  let url: URL | undefined
  try {
    url = new URL(text)
  } catch {
    url = undefined
  }
  const kind = url?.protocol === 'http:' ? 'http' : /^socks(5h?)?:$/.test(url?.protocol ?? '') ? 'socks5' : undefined
  if (url === undefined || kind === undefined || url.hostname === '') {
    throw new GatewayError('E_CONFIG', `proxy: "${text.replace(/\/\/.*@/, '//…@')}" is no proxy address`, {
      remedy: 'write it as http://host:port or socks5://host:port',
    })
  }
  const port = url.port === '' ? (kind === 'http' ? 8080 : 1080) : Number(url.port)
  return {
    kind,
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port,
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
  }
}

function refused(proxy: ProxyAddress, target: HostPort, why: string): GatewayError {
  return new GatewayError(
    'E_CONNECT',
    `the proxy ${formatHostPort(proxy)} does not connect to ${formatHostPort(target)}: ${why}`,
    { remedy: 'check what the proxy permits', details: { host: target.host, port: target.port, step: 'proxy' } },
  )
}

/** Bytes as they come, given out in the lengths that are asked for; the rest goes back to the socket. */
class Answer {
  #bytes = Buffer.alloc(0)
  #wake: () => void = () => {}
  #ended = false
  readonly #onData = (chunk: Buffer): void => {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
    this.#wake()
  }
  readonly #onEnd = (): void => {
    this.#ended = true
    this.#wake()
  }

  constructor(private readonly socket: Socket) {
    socket.on('data', this.#onData).on('close', this.#onEnd).on('end', this.#onEnd)
  }

  /** As soon as `length` says how many of the present bytes belong to the answer. */
  async take(length: (bytes: Buffer) => number | undefined): Promise<Buffer | undefined> {
    for (;;) {
      const wanted = length(this.#bytes)
      if (wanted !== undefined && this.#bytes.length >= wanted) {
        const taken = this.#bytes.subarray(0, wanted)
        this.#bytes = this.#bytes.subarray(wanted)
        return taken
      }
      if (this.#ended || this.#bytes.length > MAX_ANSWER) return undefined
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  release(): void {
    this.socket.pause()
    this.socket.off('data', this.#onData).off('close', this.#onEnd).off('end', this.#onEnd)
    if (this.#bytes.length > 0) this.socket.unshift(this.#bytes)
  }
}

async function httpConnect(socket: Socket, proxy: ProxyAddress, target: HostPort, answer: Answer): Promise<void> {
  const where = formatHostPort(target)
  const login =
    proxy.user === ''
      ? ''
      : `Proxy-Authorization: Basic ${Buffer.from(`${proxy.user}:${proxy.password}`).toString('base64')}\r\n`
  socket.write(`CONNECT ${where} HTTP/1.1\r\nHost: ${where}\r\n${login}\r\n`)
  const head = await answer.take((bytes) => {
    const end = bytes.indexOf('\r\n\r\n')
    return end === -1 ? undefined : end + 4
  })
  const status = /^HTTP\/1\.[01] (\d{3})([^\r]*)/.exec(head?.toString('latin1') ?? '')
  if (status?.[1]?.startsWith('2') !== true) {
    throw refused(
      proxy,
      target,
      status === null ? 'it does not speak HTTP' : `it says ${status[1] ?? ''}${status[2] ?? ''}`,
    )
  }
}

const SOCKS_ERRORS: Readonly<Record<number, string>> = {
  1: 'general failure',
  2: 'its rules forbid it',
  3: 'network unreachable',
  4: 'host unreachable',
  5: 'connection refused',
  6: 'no route in time',
  7: 'it does not know the command',
  8: 'it does not know the kind of address',
}

async function socksConnect(socket: Socket, proxy: ProxyAddress, target: HostPort, answer: Answer): Promise<void> {
  socket.write(Buffer.from(proxy.user === '' ? [5, 1, 0] : [5, 2, 0, 2]))
  const method = await answer.take(() => 2)
  if (method?.[0] !== 5) throw refused(proxy, target, 'it does not speak SOCKS 5')
  if (method[1] === 2) {
    const [user, password] = [Buffer.from(proxy.user), Buffer.from(proxy.password)]
    socket.write(Buffer.concat([Buffer.from([1, user.length]), user, Buffer.from([password.length]), password]))
    if ((await answer.take(() => 2))?.[1] !== 0) throw refused(proxy, target, 'it refuses the user')
  } else if (method[1] !== 0) throw refused(proxy, target, 'it wants a user and password')
  const name = Buffer.from(target.host)
  const port = Buffer.alloc(2)
  port.writeUInt16BE(target.port)
  // By name, so that the proxy resolves it.
  socket.write(Buffer.concat([Buffer.from([5, 1, 0, 3, name.length]), name, port]))
  const reply = await answer.take((bytes) => {
    const kind = bytes[3]
    if (kind === undefined || bytes.length < 5) return undefined
    return kind === 1 ? 10 : kind === 4 ? 22 : 7 + (bytes[4] ?? 0)
  })
  if (reply?.[1] !== 0) throw refused(proxy, target, SOCKS_ERRORS[reply?.[1] ?? 0] ?? 'it ended the connection')
}

/** Asks a connected proxy for the target. Rejects with E_CONNECT, E_DEADLINE or E_CANCELLED; the socket is destroyed then. */
export async function connectThroughProxy(
  socket: Socket,
  proxy: ProxyAddress,
  target: HostPort,
  clock: Clock,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const answer = new Answer(socket)
  try {
    const what = `waiting for the proxy ${formatHostPort(proxy)} to reach ${formatHostPort(target)}`
    const ask = proxy.kind === 'http' ? httpConnect : socksConnect
    await withDeadline(clock, timeoutMs, what, () => ask(socket, proxy, target, answer), signal)
    answer.release()
  } catch (error) {
    socket.destroy()
    throw error
  }
}
