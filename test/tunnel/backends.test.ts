import { readFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { codeOf } from '../../src/base/errors.js'
import type { TunnelBackendName } from '../../src/tunnel/contract.js'
import type { TunnelOptions } from '../../src/tunnel/options.js'
import { alone, onCleanup, runTunnel as run, type Running } from './bench-tunnel.js'
import { freePort, keygen, signalAll, startRealSshd } from './real-sshd.js'

const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1', 'GatewayPorts clientspecified']
const ALL: TunnelBackendName[] = ['ssh2', 'openssh', 'openssh+ssh2']
const ON_SYSTEM_SSH: TunnelBackendName[] = ['openssh', 'openssh+ssh2']

/** Without the machine's own ssh_config. */
function runTunnel(options: Partial<TunnelOptions> & Pick<TunnelOptions, 'server'>): Running {
  return run({ sshConfigFile: 'none', ...options })
}

describe.concurrent.each(ON_SYSTEM_SSH)('the back end %s', (backend) => {
  it(
    'is proven with a post-quantum key exchange that was read from the connection, and leaves nothing behind',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = await freePort()
      const running = runTunnel({ ...sshd.options, backend, remoteListen: { host: '127.0.0.1', port } })
      await running.until('proven')
      expect(running.tunnel.keyExchange).toMatch(/sntrup|mlkem/)
      expect(running.tunnel.facts()).toMatchObject({ backend, postQuantum: true })
      expect(running.self.originators[0]).toBe(backend === 'openssh' ? '' : '127.0.0.1')
      expect(running.tunnel.warnings().join()).not.toMatch(/not post-quantum/)
      const startedMs = performance.now()
      await running.stop()
      expect(performance.now() - startedMs).toBeLessThan(20_000)
      const socket = net.connect(port, '127.0.0.1')
      expect((await once(socket, 'error'))[0]).toMatchObject({ code: 'ECONNREFUSED' })
    }),
  )

  it(
    'dials from the side of the server and tells refused from prohibited',
    alone(async () => {
      const target = net.createServer((socket) => socket.end('good day')).listen(0, '127.0.0.1')
      onCleanup(() => void target.close())
      await once(target, 'listening')
      const { port } = target.address() as net.AddressInfo
      const sshd = await startRealSshd({ config: ALIVE })
      sshd.setAuthorizedKeys(
        `restrict,port-forwarding,permitopen="127.0.0.1:${port}",permitopen="127.0.0.1:1",permitopen="localhost:${sshd.port}" ${readFileSync(`${sshd.keyFile}.pub`, 'utf8')}`,
      )
      const running = runTunnel({ ...sshd.options, backend })
      await running.until('proven')
      const signal = AbortSignal.timeout(60_000)
      const stream = await running.tunnel.dial({ host: '127.0.0.1', port }, signal)
      expect(String((await once(stream, 'data'))[0])).toBe('good day')
      await expect(running.tunnel.dial({ host: '127.0.0.1', port: 1 }, signal)).rejects.toMatchObject({
        details: { dial: 'refused' },
      })
      await expect(running.tunnel.dial({ host: '127.0.0.1', port: 2 }, signal)).rejects.toMatchObject({
        details: { dial: 'prohibited' },
      })
    }),
  )

  it(
    'comes back after its session was cut, and after it stood still',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const running = runTunnel({
        ...sshd.options,
        backend,
        remoteListen: { host: '127.0.0.1', port: await freePort() },
      })
      await running.until('proven')
      let down = running.next('down')
      sshd.signalSessions('SIGKILL')
      await down
      await running.until('proven')
      down = running.next('down')
      const sessions = sshd.sessions()
      signalAll(sessions, 'SIGSTOP')
      expect((await down).reason).toMatch(/not answer|no longer answers|not responding/)
      signalAll(sessions, 'SIGKILL')
      await running.until('proven')
    }),
  )

  it(
    'refuses unknown and changed host keys as ssh2 does, and follows pinned fingerprints',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const known = readFileSync(sshd.knownHosts, 'utf8')
      writeFileSync(sshd.knownHosts, '')
      const unknown = await runTunnel({ ...sshd.options, backend }).ended.catch((error: unknown) => error)
      expect(unknown).toMatchObject({
        code: 'E_HOST_KEY_UNKNOWN',
        remedy: expect.stringMatching(/qkd-gw tunnel trust 127\.0\.0\.1:\d+ --fingerprint SHA256:/) as string,
      })
      const seen = (unknown as { details: { seen: string } }).details.seen
      const pinned = runTunnel({ ...sshd.options, backend, pinnedFingerprints: [seen] })
      await pinned.until('proven')
      await pinned.stop()
      keygen(`${sshd.folder}/other`, 'ed25519')
      const other = readFileSync(`${sshd.folder}/other.pub`, 'utf8').split(' ').slice(0, 2).join(' ')
      writeFileSync(sshd.knownHosts, known.replace(/ssh-ed25519 \S+/, other))
      const changed = await runTunnel({ ...sshd.options, backend }).ended.catch((error: unknown) => error)
      expect(changed).toMatchObject({ code: 'E_HOST_KEY_CHANGED', details: { file: sshd.knownHosts, line: 1 } })
    }),
  )

  it(
    'uses an encrypted key whose passphrase was asked for once',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE, passphrase: 'sesame' })
      let asked = 0
      const running = runTunnel({
        ...sshd.options,
        backend,
        prompt: () => {
          asked += 1
          return Promise.resolve('sesame')
        },
      })
      await running.until('proven')
      expect(asked).toBe(1)
    }),
  )

  it(
    'stops after the same authentication failure twice',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      sshd.setAuthorizedKeys('')
      const running = runTunnel({ ...sshd.options, backend })
      expect((await running.until('needs-attention')).reason).toMatch(/refused every key/)
    }),
  )
})

describe.concurrent('the back end openssh', () => {
  it(
    'hears what ssh said last, also where that comes after its end',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const sshProgram = `${sshd.folder}/ssh`
      const late = '(sleep 0.1; echo "lab@lab.example: Permission denied (publickey)." >&2) &'
      writeFileSync(sshProgram, `#!/bin/sh\n[ $# -lt 3 ] && exec ssh "$@"\n${late}\nexit 255\n`, { mode: 0o700 })
      const running = runTunnel({ ...sshd.options, backend: 'openssh', sshProgram })
      expect((await running.until('down')).reason).toMatch(/refused every key/)
    }),
  )

  it(
    'is given up where ssh never says that it takes requests',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const sshProgram = `${sshd.folder}/ssh`
      const unsaid = "grep --line-buffered -v -e 'mux listener' -e 'interactive session' >&2"
      writeFileSync(sshProgram, `#!/bin/bash\nexec ssh "$@" 2> >(${unsaid})\n`, { mode: 0o700 })
      const timings = { forwardTimeoutMs: 500 }
      const running = runTunnel({ ...sshd.options, backend: 'openssh', sshProgram, timings })
      expect((await running.until('down')).reason).toMatch(/the control socket of ssh: no answer within 500 ms/)
    }),
  )

  it(
    'gets the port that the own ssh_config of the user forwards for that host as well',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = await freePort()
      const sshConfigFile = `${sshd.folder}/ssh_config`
      writeFileSync(sshConfigFile, `Host *\n  RemoteForward 127.0.0.1:${port} 127.0.0.1:9\n`)
      const remoteListen = { host: '127.0.0.1', port }
      const running = runTunnel({ ...sshd.options, backend: 'openssh', sshConfigFile, remoteListen })
      await running.until('proven')
    }),
  )

  it(
    'says that a listener is not permitted',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE, keyOptions: 'restrict,port-forwarding,permitlisten="2"' })
      const running = runTunnel({
        ...sshd.options,
        backend: 'openssh',
        remoteListen: { host: '127.0.0.1', port: await freePort() },
      })
      expect((await running.until('down')).reason).toMatch(/does not permit to listen/)
    }),
  )
})

describe.concurrent('the back end openssh+ssh2', () => {
  it(
    'does not take one that says nothing for one that refuses this address',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const mute = net.createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1')
      onCleanup(() => void mute.close())
      await once(mute, 'listening')
      const server = { ...sshd.options.server, port: (mute.address() as net.AddressInfo).port }
      const running = runTunnel({
        ...sshd.options,
        server,
        backend: 'openssh+ssh2',
        timings: { connectTimeoutMs: 1_000 },
      })
      expect((await running.until('down')).reason).toMatch(/takes the connection and says nothing/)
    }),
  )

  it(
    'does not ask for post-quantum what nobody required of a server with old algorithms only',
    alone(async () => {
      const sshd = await startRealSshd({ config: [...ALIVE, 'KexAlgorithms diffie-hellman-group14-sha1'] })
      const running = runTunnel({ ...sshd.options, backend: 'openssh+ssh2' })
      expect((await running.until('down')).remedy).toMatch(/only algorithms that are no longer safe/)
    }),
  )

  it(
    'tells a server that closes before its banner inside from one that is gone',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const full = net.createServer((socket) => socket.on('error', () => {}).end()).listen(0, '127.0.0.1')
      onCleanup(() => void full.close())
      await once(full, 'listening')
      const innerTarget = { host: '127.0.0.1', port: (full.address() as net.AddressInfo).port }
      const running = runTunnel({ ...sshd.options, backend: 'openssh+ssh2', innerTarget })
      expect((await running.until('down')).reason).toMatch(/refuses this address for now/)
    }),
  )

  it(
    'does not log in to another sshd that was named for its own',
    alone(async () => {
      const [sshd, other] = [await startRealSshd({ config: ALIVE }), await startRealSshd({ config: ALIVE })]
      const innerTarget = { host: '127.0.0.1', port: other.port }
      const running = runTunnel({ ...sshd.options, backend: 'openssh+ssh2', innerTarget })
      await expect(running.ended).rejects.toMatchObject({
        code: 'E_HOST_KEY_CHANGED',
        message: expect.stringMatching(`^at 127.0.0.1:${other.port} on the server there is another sshd`) as string,
        remedy: expect.stringContaining('--own-sshd') as string,
      })
      expect(other.log()).not.toMatch(/Accepted|Failed|userauth/)
    }),
  )
})

describe.concurrent('the automatic choice', () => {
  it(
    'takes openssh+ssh2 where server and ssh can do it',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const running = runTunnel({ ...sshd.options, backend: 'auto' })
      await running.until('proven')
      expect(running.tunnel.backend).toBe('openssh+ssh2')
    }),
  )

  it(
    'takes ssh2 where the server does not let it through to itself, and warns what a recording is worth',
    alone(async () => {
      const sshd = await startRealSshd({
        config: ALIVE,
        keyOptions: 'restrict,port-forwarding,permitopen="127.0.0.1:9"',
      })
      const running = runTunnel({ ...sshd.options, backend: 'auto' })
      await running.until('proven')
      expect(running.tunnel.backend).toBe('ssh2')
      const warned = running.tunnel.warnings().join()
      expect(warned).toMatch(/not post-quantum: who records/)
      expect(warned).toMatch(`openssh+ssh2 is off: the server does not let us through`)
      expect(warned).toMatch(`permitopen="localhost:${sshd.port}"`)
      expect(running.tunnel.facts()['chosenBecause']).toMatch(/own sshd/)
      // What was mended is found with the next connection, where an operator says so.
      sshd.setAuthorizedKeys(readFileSync(`${sshd.keyFile}.pub`, 'utf8'))
      running.tunnel.kick()
      const down = running.next('down')
      sshd.signalSessions('SIGKILL')
      await down
      await running.until('proven')
      expect(running.tunnel.backend).toBe('openssh+ssh2')
      expect(running.tunnel.warnings()).toEqual([])
    }),
  )

  it(
    'does not take ssh2 because a connection was lost: who breaks one must not get a worse one',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      let count = 0
      const breaker = net.createServer((near) => {
        count += 1
        const far = net.connect(sshd.port, '127.0.0.1')
        const cutAfter = count === 1 ? 600 : Number.POSITIVE_INFINITY
        for (const [from, to] of [
          [near, far],
          [far, near],
        ] as const) {
          from.on('error', () => {}).on('close', () => to.destroy())
          from.on('data', (chunk: Buffer) => {
            if (from === near && near.bytesRead > cutAfter) near.resetAndDestroy()
            else to.write(chunk)
          })
        }
      })
      breaker.listen(0, '127.0.0.1')
      onCleanup(() => void breaker.close())
      await once(breaker, 'listening')
      const { port } = breaker.address() as net.AddressInfo
      writeFileSync(sshd.knownHosts, readFileSync(sshd.knownHosts, 'utf8').replace(`:${sshd.port}`, `:${port}`))
      const running = runTunnel({
        ...{ ...sshd.options, server: { ...sshd.options.server, port } },
        ...{ backend: 'auto', innerTarget: { host: 'localhost', port: sshd.port } },
      })
      expect(running.tunnel.facts()['backend']).toBe('auto')
      await running.until('proven')
      expect(running.tunnel.facts()).toMatchObject({ backend: 'openssh+ssh2', attempts: 2 })
    }),
  )

  it(
    'takes ssh2 where there is no ssh on this machine',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const running = runTunnel({ ...sshd.options, backend: 'auto', sshProgram: '/nonexistent/ssh' })
      await running.until('proven')
      expect(running.tunnel.backend).toBe('ssh2')
    }),
  )

  it(
    'refuses where a post-quantum key exchange is required and the server has none',
    alone(async () => {
      const sshd = await startRealSshd({ config: [...ALIVE, 'KexAlgorithms curve25519-sha256'] })
      for (const backend of ['auto', ...ALL] as const) {
        const running = runTunnel({ ...sshd.options, backend, requirePostQuantum: true })
        const error = await running.ended.catch((reason: unknown) => reason)
        expect(codeOf(error)).toBe('E_NO_POST_QUANTUM')
      }
      const without = runTunnel({ ...sshd.options, backend: 'auto' })
      await without.until('proven')
      expect(without.tunnel.backend).toBe('ssh2')
    }),
  )
})
