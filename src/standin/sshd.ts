/** An sshd of our own for the demo and for tests: one user, reverse and outgoing forwarding, faults on command. */
import { createHash } from 'node:crypto'
import net from 'node:net'
import ssh2 from 'ssh2'
import type { AuthContext, ClientInfo, Connection, ParsedKey } from 'ssh2'
import { SshdForwards, type ForwardRules } from './sshd-client.js'
import type { GatewayPorts } from './sshd-rules.js'

export type { GatewayPorts } from './sshd-rules.js'

export interface StandinSshdOptions {
  /** Address to serve SSH on; default 127.0.0.1. */
  host?: string
  /** Port to serve SSH on; default 0, a free one. */
  port?: number
  /** Private host key as PEM or OpenSSH text; generated where absent. */
  hostKey?: string
  /** The one user who may log in. */
  user: string
  /** Lines of an authorized_keys file, `type base64 comment`, without options. */
  authorizedKeys: readonly string[]
  /** Default `clientspecified`. `no` listens on 127.0.0.1 whatever is asked, and says OK, as sshd does. */
  gatewayPorts?: GatewayPorts
  /** The addresses that "all addresses" stands for; default 127.0.0.1 only, so that nothing is open to a network. */
  anyAddresses?: readonly string[]
  /** `host:port`, `*:port` or a bare port; absent: everything. */
  permitListen?: readonly string[]
  /** As `permitListen`, for connections that the client asks the server to open. */
  permitOpen?: readonly string[]
  /** As sshd's ClientAliveInterval, in ms; default 3000. */
  clientAliveIntervalMs?: number
  /** As sshd's ClientAliveCountMax; default 2. */
  clientAliveCountMax?: number
}

/** A phase in which a server may stop answering. */
export type StallPhase = 'banner' | 'auth' | 'forward' | 'channel'

export interface StandinSshd {
  readonly host: string
  readonly port: number
  /** `SHA256:…` as OpenSSH prints it. */
  readonly hostKeyFingerprint: string
  /** `type base64` of the present host key, as in a known_hosts line. */
  readonly hostKeyLine: string
  /** Ports that clients have listeners on at present. */
  forwardedPorts(): number[]
  /** Authenticated connections at present. */
  clientCount(): number
  /** Login attempts since the start, refused ones included. */
  readonly counts: { connections: number; authFailures: number; authSuccesses: number }
  /** Resets every connection (TCP RST), as a cut that both ends notice. */
  cut(): void
  /** Stops passing bytes on every connection without closing any; `false` goes on. */
  freeze(on: boolean): void
  /** Refuses every listener from now on. */
  refuseForward(on: boolean): void
  /** Closes new connections before the banner. */
  closeBeforeBanner(on: boolean): void
  /** Never answers in that phase from now on; undefined: answers again (not what it passed over). */
  stall(phase: StallPhase | undefined): void
  /** Shows another host key to new connections; resolves with its fingerprint. */
  changeHostKey(hostKey?: string): string
  close(): Promise<void>
}

const { Server, utils } = ssh2

function parsePrivate(text: string): ParsedKey {
  const parsed = utils.parseKey(text)
  if (parsed instanceof Error) throw new Error(`host key of the embedded sshd: ${parsed.message}`)
  return parsed
}

/** A new Ed25519 private key in OpenSSH's form, and its public line. Fit for hosts and users of the stand-in. */
export function generateSshKey(comment = 'qkd-gw'): { privateKey: string; publicKey: string } {
  // ssh2 writes a key that it cannot read back once in a while.
  for (let tries = 0; ; tries += 1) {
    const pair = utils.generateKeyPairSync('ed25519', { comment })
    if (!(utils.parseKey(pair.private) instanceof Error)) {
      return { privateKey: pair.private, publicKey: pair.public }
    }
    if (tries === 10) throw new Error('no usable Ed25519 key after ten tries')
  }
}

function isAuthorized(context: AuthContext, user: string, keys: readonly ParsedKey[]): boolean {
  if (context.method !== 'publickey' || context.username !== user) return false
  const key = keys.find((candidate) => candidate.getPublicSSH().equals(context.key.data))
  if (key === undefined) return false
  // Without a signature the client only asks whether the key would do.
  if (context.signature === undefined || context.blob === undefined) return true
  return key.verify(context.blob, context.signature, context.hashAlgo) === true
}

function parseAuthorized(lines: readonly string[]): ParsedKey[] {
  return lines
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const parsed = utils.parseKey(line)
      if (parsed instanceof Error) throw new Error(`authorized key of the embedded sshd: ${parsed.message}`)
      return parsed
    })
}

/** Starts the sshd; it listens once the promise resolves. */
export async function startStandinSshd(options: StandinSshdOptions): Promise<StandinSshd> {
  const authorized = parseAuthorized(options.authorizedKeys)
  const faults = { refuseForward: false, closeBeforeBanner: false, frozen: false }
  let stalled: StallPhase | undefined
  const counts = { connections: 0, authFailures: 0, authSuccesses: 0 }
  const sockets = new Set<net.Socket>()
  const held: net.Socket[] = []
  const clients = new Map<Connection, SshdForwards>()
  const rules: ForwardRules = {
    gatewayPorts: options.gatewayPorts ?? 'clientspecified',
    anyAddresses: options.anyAddresses ?? ['127.0.0.1'],
    permitListen: options.permitListen,
    permitOpen: options.permitOpen,
    refuseForward: () => faults.refuseForward,
    frozen: () => faults.frozen,
  }

  const serve = (client: Connection, info: ClientInfo): void => {
    const forwards = new SshdForwards(client, rules)
    const socket = [...sockets].find((one) => one.remotePort === info.port && one.remoteAddress === info.ip)
    client.on('error', (error) => {
      // A client that is gone never answers a polite close.
      if ('level' in error && error.level === 'client-timeout') socket?.destroy()
    })
    client.on('authentication', (context) => {
      if (stalled === 'auth') return
      if (isAuthorized(context, options.user, authorized)) return context.accept()
      if (context.method === 'publickey') counts.authFailures += 1
      context.reject(['publickey'])
    })
    client.on('ready', () => {
      counts.authSuccesses += 1
      clients.set(client, forwards)
    })
    client.on('request', (accept, reject, name, info) => {
      if (stalled === 'forward' && name === 'tcpip-forward') return
      if (name === 'tcpip-forward') {
        void forwards.listen(info).then((port) => (port === undefined ? reject?.() : accept?.(port)))
      } else if (name === 'cancel-tcpip-forward' && forwards.cancel(info)) accept?.()
      else reject?.()
    })
    client.on('tcpip', (accept, reject, info) => {
      if (stalled !== 'channel') forwards.open(info, accept, reject)
    })
    client.on('close', () => {
      forwards.close()
      clients.delete(client)
    })
  }

  let hostKeyText = options.hostKey ?? generateSshKey('standin').privateKey
  let hostKey = parsePrivate(hostKeyText)
  const createServer = (): InstanceType<typeof Server> => {
    const server = new Server({
      hostKeys: [hostKeyText],
      keepaliveInterval: options.clientAliveIntervalMs ?? 3_000,
      keepaliveCountMax: options.clientAliveCountMax ?? 2,
    })
    server.on('connection', serve)
    return server
  }
  let server = createServer()

  const listener = net.createServer({ noDelay: true }, (socket) => {
    counts.connections += 1
    if (faults.closeBeforeBanner) {
      socket.destroy()
      return
    }
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
    if (faults.frozen) held.push(socket)
    else if (stalled === 'banner') socket.resume()
    else server.injectSocket(socket)
  })
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject)
    listener.listen(options.port ?? 0, options.host ?? '127.0.0.1', () => resolve())
  })
  const bound = listener.address()
  if (typeof bound !== 'object' || bound === null) throw new Error('the embedded sshd has no address')

  const fingerprint = (): string =>
    `SHA256:${createHash('sha256').update(hostKey.getPublicSSH()).digest('base64').replace(/=+$/, '')}`

  return {
    host: bound.address,
    port: bound.port,
    counts,
    get hostKeyFingerprint() {
      return fingerprint()
    },
    get hostKeyLine() {
      return `${hostKey.type} ${hostKey.getPublicSSH().toString('base64')}`
    },
    forwardedPorts: () => [...clients.values()].flatMap((forwards) => forwards.ports),
    clientCount: () => clients.size,
    cut() {
      for (const socket of sockets) socket.resetAndDestroy()
    },
    freeze(on) {
      faults.frozen = on
      for (const socket of sockets) {
        if (on) socket.pause()
        else socket.resume()
      }
      for (const forwards of clients.values()) forwards.setFrozen(on)
      if (!on) for (const socket of held.splice(0)) server.injectSocket(socket)
    },
    refuseForward(on) {
      faults.refuseForward = on
    },
    closeBeforeBanner(on) {
      faults.closeBeforeBanner = on
    },
    stall(phase) {
      stalled = phase
    },
    changeHostKey(text) {
      hostKeyText = text ?? generateSshKey('standin').privateKey
      hostKey = parsePrivate(hostKeyText)
      server = createServer()
      return fingerprint()
    },
    close() {
      for (const socket of sockets) socket.destroy()
      for (const forwards of clients.values()) forwards.close()
      return new Promise((resolve) => listener.close(() => resolve()))
    },
  }
}
