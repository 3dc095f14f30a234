import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { describe, expect, it } from 'vitest'
import { startRelay } from '../../src/standin/relay.js'
import { alone, onCleanup, runTunnel } from './bench-tunnel.js'
import { freePort, signalAll, startRealSshd } from './real-sshd.js'

const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1', 'GatewayPorts clientspecified']

describe.concurrent("a tunnel to Debian's sshd", () => {
  it(
    'is proven on all addresses with the originator known, and leaves nothing behind',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = await freePort()
      const running = runTunnel({ ...sshd.options, remoteListen: { host: '', port } })
      const proven = await running.until('proven')
      expect(proven.controlAddress).toEqual({ host: '127.0.0.1', port })
      expect(running.self.originators[0]).toBe('127.0.0.1')
      expect(running.tunnel.facts()['serverVersion']).toMatch(/^OpenSSH_/)
      await running.stop()
      const socket = net.connect(port, '127.0.0.1')
      expect((await once(socket, 'error'))[0]).toMatchObject({ code: 'ECONNREFUSED' })
    }),
  )

  it(
    'waits for the listener of its own dead session, says so, and gets the same port back',
    alone(async () => {
      const sshd = await startRealSshd()
      const relay = await startRelay({ host: '127.0.0.1', port: sshd.port })
      onCleanup(() => relay.close())
      const known = readFileSync(sshd.knownHosts, 'utf8').replace(`:${sshd.port}`, `:${relay.port}`)
      writeFileSync(sshd.knownHosts, known)
      const port = await freePort()
      const running = runTunnel({
        ...sshd.options,
        server: { ...sshd.options.server, port: relay.port },
        remoteListen: { host: '127.0.0.1', port },
      })
      await running.until('proven')
      const down = running.next('down')
      const dead = sshd.sessions()
      relay.stop('present')
      await down
      // sshd lets go by itself as late as can be; here once it was seen to be waited for.
      await new Promise<void>((resolve) => {
        running.tunnel.state.subscribe((state) => {
          if (state.state === 'authenticated' && state.reason !== undefined) resolve()
        })
      })
      const back = running.next('proven')
      signalAll(dead, 'SIGKILL')
      const again = await back
      expect(again.listener.port).toBe(port)
      const reasons = running.states.map((state) => ('reason' in state ? (state.reason ?? '') : ''))
      expect(reasons.join('\n')).toMatch(/held, most likely by our own earlier session/)
    }),
  )

  it(
    'goes on when the session process of sshd is stopped, once that process is gone',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = await freePort()
      const running = runTunnel({ ...sshd.options, remoteListen: { host: '127.0.0.1', port } })
      await running.until('proven')
      const [session = 0] = sshd.sessions()
      const down = running.next('down')
      process.kill(session, 'SIGSTOP')
      expect((await down).reason).toMatch(/not answered|no longer answers/)
      await new Promise<void>((resolve) => {
        const unsubscribe = running.tunnel.state.subscribe((state) => {
          if (state.state !== 'authenticated' || state.reason === undefined) return
          unsubscribe()
          resolve()
        })
      })
      process.kill(session, 'SIGKILL')
      expect((await running.next('proven')).listener.port).toBe(port)
    }),
  )

  it(
    'tells a port that another program uses from a listener that is not permitted',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE, keyOptions: 'restrict,port-forwarding,permitlisten="2"' })
      const running = runTunnel({ ...sshd.options, remoteListen: { host: '127.0.0.1', port: await freePort() } })
      const down = await running.until('down')
      expect(down.reason).toMatch(/does not permit to listen/)

      const open = await startRealSshd({ config: ALIVE })
      const other = net
        .createServer((socket) => socket.on('error', () => {}).end('HTTP/1.1 400\n'))
        .listen(0, '127.0.0.1')
      onCleanup(() => void other.close())
      await once(other, 'listening')
      const { port } = other.address() as net.AddressInfo
      const second = runTunnel({ ...open.options, remoteListen: { host: '127.0.0.1', port } })
      const reason = await new Promise<string>((resolve) => {
        second.tunnel.state.subscribe((state) => {
          if (state.state === 'authenticated' && state.reason !== undefined) resolve(state.reason)
        })
      })
      expect(reason).toMatch(/used by another program/)
    }),
  )

  it(
    'takes a port of the pool while its own is used, and never where the port may not change',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const other = net.createServer((socket) => socket.on('error', () => {}).destroy()).listen(0, '127.0.0.1')
      await once(other, 'listening')
      onCleanup(() => void other.close())
      const { port } = other.address() as net.AddressInfo
      const pool = await freePort()
      const remoteListen = { host: '127.0.0.1', port }
      const ways = ['wait', 'pool'] as const
      const held = runTunnel({ ...sshd.options, remoteListen, ways, portPool: [pool], mayChangePort: () => false })
      const moved = runTunnel({ ...sshd.options, remoteListen, ways, portPool: [pool] })
      expect((await moved.until('proven')).controlAddress.port).toBe(pool)
      expect(held.tunnel.state.value).toMatchObject({
        state: 'authenticated',
        reason: expect.stringMatching(/no other port is taken, since the SiteAgent cannot forget/) as string,
      })
      await moved.stop()
      // What a former process had registered comes first, though its own port may be free again.
      const free = { host: '127.0.0.1', port: await freePort() }
      const next = runTunnel({ ...sshd.options, remoteListen: free, ways, portPool: [pool], lastPort: pool })
      expect((await next.until('proven')).controlAddress.port).toBe(pool)
      const anywhere = runTunnel({ ...sshd.options, remoteListen, ways: ['any-port'] })
      expect((await anywhere.until('proven')).controlAddress.port).not.toBe(port)
    }),
  )

  it(
    "tells sshd's GatewayPorts no from a closed firewall",
    alone(async () => {
      const sshd = await startRealSshd({ config: ['GatewayPorts no'] })
      const running = runTunnel({
        ...sshd.options,
        remoteListen: { host: '', port: await freePort() },
        controlAddress: { host: '127.0.0.9', port: 0 },
      })
      await running.until('listening')
      const state = await running.next('listening')
      expect(state.reason).toMatch(/answers only on the server's own loopback/)
      expect(state.remedy).toMatch(/GatewayPorts clientspecified/)

      const open = await startRealSshd({ config: ALIVE })
      const closed = runTunnel({
        ...open.options,
        remoteListen: { host: '', port: await freePort() },
        // Nobody listens there: as a firewall that refuses.
        controlAddress: { host: '127.0.0.9', port: await freePort('127.0.0.9') },
      })
      await closed.until('listening')
      const shut = await closed.next('listening')
      expect(shut.reason).toMatch(/open on all addresses of the server, yet nobody reaches it/)
      expect(shut.remedy).toMatch(/firewall or security group/)
    }),
  )

  it(
    'is proven through SSH where the control address cannot be dialled from here, and says what that does not prove',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = await freePort()
      const { createSelf } = await import('./self.js')
      const self = createSelf()
      let isClosed = true
      const running = runTunnel(
        {
          ...sshd.options,
          remoteListen: { host: '127.0.0.1', port },
          // A call that comes late on a busy machine is not what this is about.
          timings: { probeTimeoutMs: 10_000 },
          probe: (request) =>
            request.stream === undefined && isClosed
              ? Promise.resolve({ result: 'unreachable', reason: 'no route from here' })
              : self.probe(request),
        },
        self,
      )
      expect((await running.until('proven')).via).toBe('ssh')
      expect(running.tunnel.warnings().join()).toMatch(/no route from here.*whether the other site does is not shown/)
      isClosed = false
      await new Promise<void>((resolve) => {
        running.tunnel.state.subscribe((state) => {
          if (state.state === 'proven' && state.via === 'here') resolve()
        })
      })
      expect(running.states.filter((state) => state.state === 'degraded')).toEqual([])
      expect(running.tunnel.warnings().join()).not.toMatch(/no route from here/)
    }),
  )

  it(
    'says a word that wants no answer where the server may wait for an acknowledgement',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE, logLevel: 'DEBUG1' })
      await runTunnel(sshd.options).until('proven')
      await sshd.untilLogged(/global_request: rtype cancel-tcpip-forward want_reply 0/)
    }),
  )

  it(
    'comes back after sshd was killed and started again',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = await freePort()
      const running = runTunnel({ ...sshd.options, remoteListen: { host: '127.0.0.1', port } })
      await running.until('proven')
      const down = running.next('down')
      await sshd.stop('SIGKILL')
      await down
      await sshd.start()
      expect((await running.next('proven')).listener.port).toBe(port)
    }),
  )

  it(
    'ends twenty times in a row without leaving a listener in the way of the next',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = await freePort()
      for (let round = 0; round < 20; round += 1) {
        const running = runTunnel({ ...sshd.options, remoteListen: { host: '127.0.0.1', port } })
        await running.until('proven')
        await running.stop()
        expect(running.states.some((state) => state.state === 'authenticated' && state.reason !== undefined)).toBe(
          false,
        )
      }
    }),
  )

  it(
    'stops when the key was revoked while connected, and goes on when it is back',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const running = runTunnel(sshd.options)
      await running.until('proven')
      const line = readFileSync(`${sshd.keyFile}.pub`, 'utf8')
      sshd.setAuthorizedKeys('')
      sshd.signalSessions('SIGKILL')
      const state = await running.until('needs-attention')
      expect(state.reason).toMatch(/refused every key/)
      sshd.setAuthorizedKeys(line)
      running.tunnel.kick()
      await running.until('proven')
    }),
  )
})
