/** One authenticated client of the embedded sshd: its listeners and its outgoing connections. */
import net from 'node:net'
import type { Duplex } from 'node:stream'
import type { ServerChannel, TcpipBindInfo, TcpipRequestInfo } from 'ssh2'
import { addressesToBind, isPermitted, type GatewayPorts } from './sshd-rules.js'

/** The part of ssh2's server-side connection that is used here. */
interface ChannelOpener {
  forwardOut(
    boundAddress: string,
    boundPort: number,
    remoteAddress: string,
    remotePort: number,
    callback: (error: Error | undefined, channel: ServerChannel) => void,
  ): unknown
}

export interface ForwardRules {
  gatewayPorts: GatewayPorts
  anyAddresses: readonly string[]
  permitListen: readonly string[] | undefined
  permitOpen: readonly string[] | undefined
  refuseForward(): boolean
  frozen(): boolean
}

interface Listener {
  bindAddress: string
  port: number
  servers: net.Server[]
}

/** Joins a TCP socket and a channel until either ends. */
function join(socket: net.Socket, channel: Duplex): void {
  socket.on('error', () => {})
  channel.on('error', () => {})
  socket.on('close', () => channel.destroy())
  channel.on('close', () => socket.destroy())
  socket.pipe(channel).pipe(socket)
}

function listenOn(host: string, port: number, onSocket: (socket: net.Socket) => void): Promise<net.Server> {
  return new Promise((resolve, reject) => {
    const server = net.createServer({ noDelay: true, pauseOnConnect: true }, onSocket)
    server.once('error', reject)
    server.listen({ host, port, exclusive: true }, () => {
      server.off('error', reject)
      server.on('error', () => {})
      resolve(server)
    })
  })
}

export class SshdForwards {
  readonly #listeners: Listener[] = []
  readonly #sockets = new Set<net.Socket>()
  readonly #held: net.Socket[] = []

  constructor(
    private readonly client: ChannelOpener,
    private readonly rules: ForwardRules,
  ) {}

  /** Ports listened on at present. */
  get ports(): number[] {
    return this.#listeners.map((listener) => listener.port)
  }

  /** Answers `tcpip-forward`; resolves with the port, or undefined where it is refused. */
  async listen(request: TcpipBindInfo): Promise<number | undefined> {
    const { bindAddr, bindPort } = request
    if (this.rules.refuseForward() || !isPermitted(this.rules.permitListen, bindAddr, bindPort)) return undefined
    const servers: net.Server[] = []
    let port = bindPort
    try {
      for (const address of addressesToBind(bindAddr, this.rules.gatewayPorts, this.rules.anyAddresses)) {
        const server = await listenOn(address, port, (socket) => this.#carryIn(bindAddr, port, socket))
        servers.push(server)
        const bound = server.address()
        if (typeof bound === 'object' && bound !== null) port = bound.port
      }
    } catch {
      for (const server of servers) server.close()
      return undefined
    }
    this.#listeners.push({ bindAddress: bindAddr, port, servers })
    return port
  }

  /** Answers `cancel-tcpip-forward`. */
  cancel(request: TcpipBindInfo): boolean {
    const at = this.#listeners.findIndex(
      (listener) => listener.bindAddress === request.bindAddr && listener.port === request.bindPort,
    )
    const [listener] = at === -1 ? [] : this.#listeners.splice(at, 1)
    for (const server of listener?.servers ?? []) server.close()
    return listener !== undefined
  }

  /** Answers `direct-tcpip`. */
  open(request: TcpipRequestInfo, accept: () => Duplex | undefined, reject: () => void): void {
    if (!isPermitted(this.rules.permitOpen, request.destIP, request.destPort)) return reject()
    const socket = net.connect({ host: request.destIP, port: request.destPort, noDelay: true })
    this.#track(socket)
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      const channel = accept()
      if (channel === undefined) socket.destroy()
      else join(socket, channel)
    })
  }

  /** Stands still, or goes on, without closing anything. */
  setFrozen(frozen: boolean): void {
    for (const socket of this.#sockets) {
      if (frozen) socket.pause()
      else socket.resume()
    }
    if (!frozen) for (const socket of this.#held.splice(0)) socket.emit('thaw')
  }

  close(): void {
    for (const listener of this.#listeners.splice(0)) for (const server of listener.servers) server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #track(socket: net.Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => this.#sockets.delete(socket))
  }

  #carryIn(bindAddress: string, port: number, socket: net.Socket): void {
    this.#track(socket)
    const carry = (): void => {
      this.client.forwardOut(
        bindAddress,
        port,
        socket.remoteAddress?.replace(/^::ffff:/, '') ?? '',
        socket.remotePort ?? 0,
        (error, channel) => {
          if (error !== undefined) socket.destroy()
          else join(socket, channel)
        },
      )
    }
    if (!this.rules.frozen()) return carry()
    this.#held.push(socket)
    socket.once('thaw', carry)
  }
}
