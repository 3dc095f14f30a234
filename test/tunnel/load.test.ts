import { once } from 'node:events'
import net from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import type { ForwardedConnection } from '../../src/tunnel/contract.js'
import { cleanUp, onCleanup, runTunnel, standinBench } from './bench-tunnel.js'
import { freePort, startRealSshd } from './real-sshd.js'
import { createSelf } from './self.js'

afterEach(cleanUp)

const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1', 'GatewayPorts clientspecified']

function dial(port: number): net.Socket {
  const socket = net.connect({ host: '127.0.0.1', port, noDelay: true })
  socket.on('error', () => {})
  onCleanup(() => void socket.destroy())
  return socket
}

describe('many forwarded connections', () => {
  it('two hundred at once all answer, beside one that never reads', async () => {
    const sshd = await startRealSshd({ config: ALIVE })
    const self = createSelf()
    let deafComes = false
    const take = (connection: ForwardedConnection): void => {
      if (!deafComes) return self.take(connection)
      deafComes = false
      // More than fits into any buffer on the way, to somebody who takes none of it.
      connection.stream.on('error', () => {}).write(Buffer.alloc(50_000_000))
    }
    const remoteListen = { host: '127.0.0.1', port: await freePort() }
    const running = runTunnel({ ...sshd.options, remoteListen, timings: { probeIntervalMs: 5_000 } }, { ...self, take })
    const { listener } = await running.until('proven')
    running.tunnel.kick()
    await running.next('proven')
    deafComes = true
    const deaf = dial(listener.port)
    await once(deaf, 'readable')
    const answers = await Promise.all(
      Array.from({ length: 200 }, async (_, index) => {
        const socket = dial(listener.port)
        socket.write(`call${index} 0\n`)
        const [chunk] = (await once(socket, 'data')) as [Buffer]
        socket.destroy()
        return chunk.toString().split(' ')[1]
      }),
    )
    expect(answers).toEqual(Array.from({ length: 200 }, (_, index) => `call${index}`))
    running.tunnel.kick()
    await running.next('proven')
    deaf.destroy()
  })

  it('are all gone when the connection is lost, whoever reads them or not', async () => {
    const bench = await standinBench()
    const running = runTunnel(bench.options)
    const { listener } = await running.until('proven')
    const sockets = Array.from({ length: 20 }, () => dial(listener.port))
    await Promise.all(
      sockets.map(async (socket) => {
        socket.write('x 0\n')
        await once(socket, 'data')
      }),
    )
    for (const stream of running.self.open) stream.pause()
    const gone = Promise.all([...running.self.open].map((stream) => once(stream, 'close')))
    bench.sshd.cut()
    await gone
    expect(running.self.open.size).toBe(0)
  })

  it('that we close unread are given up: as many again may come', async () => {
    const sshd = await startRealSshd({ config: ALIVE })
    const self = createSelf()
    let unwanted = 0
    const take = (connection: ForwardedConnection): void => {
      if (connection.originator?.host !== '127.0.0.9') return self.take(connection)
      unwanted += 1
      // What it sent is there, and nobody takes it.
      setTimeout(() => connection.stream.on('error', () => {}).destroy(), 50)
    }
    const remoteListen = { host: '', port: await freePort() }
    const running = runTunnel({ ...sshd.options, remoteListen, maxForwardedConnections: 10 }, { ...self, take })
    const { listener } = await running.until('proven')
    for (let index = 0; index < 40; index += 1) {
      const stranger = net.connect({ host: '127.0.0.1', port: listener.port, localAddress: '127.0.0.9' })
      onCleanup(() => void stranger.destroy())
      stranger.on('error', () => {}).resume()
      const gone = new Promise((resolve) => stranger.once('close', resolve))
      stranger.write('GET / HTTP/1.1\r\n\r\n')
      await gone
    }
    expect(unwanted).toBe(40)
    await running.next('proven')
    expect(running.tunnel.facts()['attempts']).toBe(1)
  })

  it('beyond the bound are refused, and the tunnel stays proven', async () => {
    const bench = await standinBench()
    const running = runTunnel({ ...bench.options, maxForwardedConnections: 30 })
    const { listener } = await running.until('proven')
    const strangers = Array.from({ length: 60 }, () => dial(listener.port))
    let refused = 0
    await new Promise<void>((resolve) => {
      for (const stranger of strangers) {
        stranger.once('close', () => {
          refused += 1
          if (refused === 30) resolve()
        })
      }
    })
    for (const stranger of strangers) stranger.destroy()
    await running.next('proven')
    expect(running.tunnel.facts()['attempts']).toBe(1)
  })
})
