/** The smallest HTTP and SOCKS 5 proxies that a tunnel can go through. */
import { once } from 'node:events'
import net from 'node:net'
import { onCleanup } from './bench-tunnel.js'

export interface TestProxy {
  readonly url: string
  /** `host:port` of each connection that was asked for. */
  readonly asked: string[]
}

function join(near: net.Socket, host: string, port: number, onOpen: () => void): void {
  const far = net.connect({ host, port, noDelay: true }, () => {
    onOpen()
    near.pipe(far).pipe(near)
  })
  for (const socket of [near, far]) socket.on('error', () => {})
  far.on('close', () => near.destroy())
  near.on('close', () => far.destroy())
}

async function serve(onSocket: (socket: net.Socket) => void): Promise<number> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
    onSocket(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onCleanup(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as net.AddressInfo).port
}

export async function startHttpProxy(): Promise<TestProxy> {
  const asked: string[] = []
  const port = await serve((socket) => {
    socket.once('data', (head: Buffer) => {
      const [, host = '', to = ''] = /^CONNECT ([^:\s]+):(\d+) HTTP/.exec(head.toString()) ?? []
      asked.push(`${host}:${to}`)
      const allowed = /Proxy-Authorization: Basic bGFiOnBhc3M=/.test(head.toString())
      if (!allowed) return void socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
      join(socket, host, Number(to), () => socket.write('HTTP/1.1 200 Connection established\r\n\r\n'))
    })
  })
  return { url: `http://lab:pass@127.0.0.1:${port}`, asked }
}

export async function startSocksProxy(): Promise<TestProxy> {
  const asked: string[] = []
  const port = await serve((socket) => {
    socket.once('data', () => {
      socket.write(Buffer.from([5, 0]))
      socket.once('data', (request: Buffer) => {
        const length = request[4] ?? 0
        const host = request.subarray(5, 5 + length).toString()
        const to = request.readUInt16BE(5 + length)
        asked.push(`${host}:${to}`)
        join(socket, host, to, () => socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0])))
      })
    })
  })
  return { url: `socks5://127.0.0.1:${port}`, asked }
}
