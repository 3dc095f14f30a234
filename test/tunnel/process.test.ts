import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { TunnelBackendName, TunnelState } from '../../src/tunnel/contract.js'
import { alone, onCleanup, runTunnel } from './bench-tunnel.js'
import { freePort, startRealSshd, type RealSshd } from './real-sshd.js'

const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1', 'GatewayPorts clientspecified']
const CHILD = fileURLToPath(new URL('./child.ts', import.meta.url))

interface Child {
  readonly process: ChildProcess
  /** The next state of that name. */
  next(name: TunnelState['state']): Promise<TunnelState>
  readonly ended: Promise<unknown>
}

function startChild(sshd: RealSshd, backend: TunnelBackendName, port: number): Child {
  const options = { ...sshd.options, backend, remoteListen: { host: '127.0.0.1', port } }
  const child = spawn(process.execPath, ['--import', 'tsx', CHILD, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  onCleanup(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const waiting = new Set<{ name: string; resolve: (state: TunnelState) => void }>()
  createInterface({ input: child.stdout }).on('line', (line) => {
    const state = JSON.parse(line) as TunnelState
    for (const waiter of [...waiting]) {
      if (waiter.name !== state.state) continue
      waiting.delete(waiter)
      waiter.resolve(state)
    }
  })
  return {
    process: child,
    ended,
    next: (name) => new Promise((resolve) => waiting.add({ name, resolve })),
  }
}

async function isFree(port: number): Promise<boolean> {
  const socket = net.connect(port, '127.0.0.1')
  return Promise.race([
    once(socket, 'connect').then(() => {
      socket.destroy()
      return false
    }),
    once(socket, 'error').then(() => true),
  ]).catch(() => true)
}

async function untilFree(port: number): Promise<void> {
  while (!(await isFree(port))) await new Promise((resolve) => setTimeout(resolve, 20))
}

describe.concurrent.each<TunnelBackendName>(['ssh2', 'openssh', 'openssh+ssh2'])(
  'a process with the back end %s',
  (backend) => {
    it(
      'leaves no listener behind when it is killed, and another gets the port',
      alone(async () => {
        const sshd = await startRealSshd({ config: ALIVE })
        const port = await freePort()
        const child = startChild(sshd, backend, port)
        await child.next('proven')
        child.process.kill('SIGKILL')
        await child.ended
        const running = runTunnel({
          ...sshd.options,
          backend,
          sshConfigFile: 'none',
          remoteListen: { host: '127.0.0.1', port },
        })
        await running.until('proven')
        await running.stop()
        await untilFree(port)
      }),
    )

    it(
      'gives the listener back on SIGTERM, at once',
      alone(async () => {
        const sshd = await startRealSshd({ config: ALIVE })
        const port = await freePort()
        const child = startChild(sshd, backend, port)
        await child.next('proven')
        child.process.kill('SIGTERM')
        await child.ended
        expect(await isFree(port)).toBe(true)
      }),
    )
  },
)

describe.concurrent('a process that was stopped like a sleeping laptop', () => {
  it(
    'distrusts its connection when it wakes and is proven again',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = await freePort()
      const child = startChild(sshd, 'ssh2', port)
      await child.next('proven')
      child.process.kill('SIGSTOP')
      // The server gives up on a client that does not answer, and frees the listener.
      await sshd.untilLogged(/Timeout, client not responding/)
      const down = child.next('down')
      const again = down.then(() => child.next('proven'))
      child.process.kill('SIGCONT')
      await down
      await again
    }),
  )
})
