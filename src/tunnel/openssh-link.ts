/** The system's ssh as a `TunnelLink`: one master process, everything else over its control socket. */
import net from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { withDeadline, type Clock } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { formatHostPort, type HostPort } from '../base/host-port.js'
import type { LinkTaker, TunnelLink } from './link.js'
import type { OpensshControl } from './openssh-control.js'
import type { MuxAnswer, MuxRequest } from './openssh-mux.js'
import type { OpensshProcess } from './openssh-process.js'
import type { TunnelTimings } from './options.js'
import { refusalKind } from './ssh2-link.js'

export interface OpensshLinkParts {
  readonly ssh: OpensshProcess
  readonly control: OpensshControl
  /** 0700; holds the socket that forwarded connections come in by, which no other user of this machine can reach. */
  readonly folder: string
  readonly keyExchange: string
  readonly postQuantum: boolean
  readonly address: string
  readonly taker: LinkTaker
  readonly maxConnections: number
  readonly timings: TunnelTimings
  readonly clock: Clock
}

function lastWords(ssh: OpensshProcess): string {
  return ssh.facts.said.findLast((line) => !/open failed|^mux_|port forwarding failed/.test(line)) ?? 'ssh ended'
}

export class OpensshLink implements TunnelLink {
  readonly keyExchange: string
  readonly postQuantum: boolean
  readonly serverVersion: string
  readonly address: string
  readonly resolved: readonly string[] = []
  readonly closed: Promise<string>
  readonly #streams = new Set<Duplex>()
  #server: net.Server | undefined
  #forward: { host: string; port: number; path: string } | undefined
  #reason: string | undefined

  constructor(private readonly parts: OpensshLinkParts) {
    this.keyExchange = parts.keyExchange
    this.postQuantum = parts.postQuantum
    this.address = parts.address
    this.serverVersion = parts.ssh.facts.serverVersion ?? ''
    this.closed = parts.ssh.exited.then(() => {
      this.#server?.close()
      for (const stream of this.#streams) stream.destroy()
      return this.#reason ?? lastWords(parts.ssh)
    })
  }

  async listen(bind: HostPort): Promise<HostPort> {
    const path = join(this.parts.folder, 'l')
    if (this.#server === undefined) await this.#listenLocally(path)
    const host = bind.host === '' ? '*' : bind.host
    const where = formatHostPort({ host, port: bind.port })
    const forward = { host, port: bind.port, path }
    const answer = await this.#ask({ ask: 'forward', ...forward })
    if (!answer.ok) {
      const isRefused = /port forwarding failed/.test(answer.reason)
      throw new GatewayError(
        isRefused ? 'E_FORWARD_REFUSED' : 'E_CONNECT',
        isRefused ? `the server refuses to listen on ${where}` : `ssh: ${answer.reason}`,
        { details: { host: bind.host, port: bind.port, ...refusalKind(this.parts.ssh.facts.remoteSaid) } },
      )
    }
    this.#forward = forward
    const allocated = bind.port === 0 ? answer.port : bind.port
    if (allocated === undefined) throw new GatewayError('E_CONNECT', 'ssh does not say which port it got')
    return { host: bind.host, port: allocated }
  }

  async unlisten(): Promise<void> {
    const forward = this.#forward
    this.#forward = undefined
    if (forward !== undefined && !this.parts.ssh.gone) await this.#ask({ ask: 'cancel', ...forward }).catch(() => {})
  }

  async dial(target: HostPort, signal: AbortSignal): Promise<Duplex> {
    const { ssh, control, timings } = this.parts
    if (ssh.gone) throw new GatewayError('E_CONNECT', 'the SSH connection is gone')
    const stream = await control.dial(target, timings.channelTimeoutMs, ssh, signal)
    this.#track(stream)
    return stream
  }

  openConnections(): number {
    return this.#streams.size
  }

  exec(command: string, timeoutMs: number): Promise<string | undefined> {
    return this.parts.control.exec(command, timeoutMs)
  }

  async ping(timeoutMs: number): Promise<boolean> {
    const { ssh, control } = this.parts
    if (ssh.gone) return false
    // Nobody listens there: the server refuses, and that is an answer.
    const dialled = control.dial({ host: '127.0.0.1', port: 1 }, timeoutMs, ssh, new AbortController().signal)
    return dialled.then(
      (stream) => {
        stream.destroy()
        return true
      },
      (error: unknown) => !ssh.gone && error instanceof GatewayError && error.code === 'E_CONNECT',
    )
  }

  async end(timeoutMs: number): Promise<void> {
    const { ssh, control, clock } = this.parts
    if (ssh.gone) return
    this.#reason ??= 'closed by us'
    const exit = async (): Promise<void> => {
      await control.request({ ask: 'exit' }, timeoutMs)
      await ssh.exited
    }
    await withDeadline(clock, timeoutMs, 'ending ssh', exit).catch(() => ssh.kill())
  }

  destroy(reason: string): void {
    this.#reason ??= reason
    this.parts.ssh.kill()
  }

  #listenLocally(path: string): Promise<void> {
    const { taker, maxConnections } = this.parts
    return new Promise((resolve, reject) => {
      const server = net.createServer((socket) => {
        if (!taker.accepts() || this.#streams.size >= maxConnections) return void socket.destroy()
        this.#track(socket)
        taker.take({ stream: socket, originator: undefined })
      })
      server.once('error', reject)
      server.listen(path, () => {
        this.#server = server
        resolve()
      })
    })
  }

  #track(stream: Duplex): void {
    this.#streams.add(stream)
    stream.on('error', () => {})
    stream.once('close', () => this.#streams.delete(stream))
  }

  async #ask(request: MuxRequest): Promise<MuxAnswer> {
    try {
      return await this.parts.control.request(request, this.parts.timings.forwardTimeoutMs)
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'E_DEADLINE') this.destroy(error.message)
      throw error
    }
  }
}
