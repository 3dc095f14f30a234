import { describe, expect, it } from 'vitest'
import type { TunnelBackendName } from '../../src/tunnel/contract.js'
import type { TunnelTimings } from '../../src/tunnel/options.js'
import { alone, runTunnel, type Running } from './bench-tunnel.js'
import { freePort, signalAll, startRealSshd, type RealSshd } from './real-sshd.js'

const BACKENDS: TunnelBackendName[] = ['ssh2', 'openssh', 'openssh+ssh2']
const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1']

async function eventually(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 10))
}

interface Pair {
  readonly running: Running
  readonly sshd: RealSshd
  /** Of the connection that carries, and of the spare. */
  readonly first: number[]
  readonly spare: number[]
}

async function startPair(backend: TunnelBackendName, timings: Partial<TunnelTimings> = {}): Promise<Pair> {
  const sshd = await startRealSshd({ config: ALIVE })
  const running = runTunnel({
    ...sshd.options,
    backend,
    sshConfigFile: 'none',
    spareConnection: true,
    remoteListen: { host: '127.0.0.1', port: await freePort() },
    // A busy machine takes its time to answer; whatever lives counts.
    timings: { spareAfterMs: 1_000, sparePingMs: 20_000, probeTimeoutMs: 20_000, ...timings },
  })
  await running.until('proven')
  // The spare is begun a second later: these are of the first.
  const first = sshd.sessions()
  await untilReady(running)
  return { running, sshd, first, spare: sshd.sessions().filter((pid) => !first.includes(pid)) }
}

const untilReady = (running: Running): Promise<void> =>
  eventually(() => running.tunnel.facts()['spareConnection'] === 'ready')

const logins = (sshd: RealSshd): number => sshd.log().split('Accepted publickey').length - 1

const connections = (sshd: RealSshd): number => sshd.log().split('Connection from').length - 1

describe.concurrent('a spare connection', () => {
  it.each(BACKENDS)(
    'of %s takes over where the first is cut, another one is made, and none outlives the tunnel',
    alone(async (backend: TunnelBackendName) => {
      const { running, sshd, first, spare } = await startPair(backend)
      expect(spare).toHaveLength(first.length)
      const before = logins(sshd)
      const down = running.next('down')
      signalAll(first, 'SIGKILL')
      await down
      await running.until('proven')
      expect(running.tunnel.facts()).toMatchObject({ connections: 2, losses: 1, sparesUsed: 1 })
      // Whoever calls is met over the connection that stood by: nobody had to log in for it.
      expect(sshd.sessions().filter((pid) => spare.includes(pid))).toEqual(spare)
      expect(logins(sshd)).toBe(before)
      await untilReady(running)
      expect(sshd.sessions().length).toBe(2 * first.length)
      await running.stop()
      await eventually(() => sshd.sessions().length === 0)
    }),
  )

  it(
    'that does not answer is passed over for a fresh one',
    alone(async () => {
      const { running, sshd, first, spare } = await startPair('ssh2', { sparePingMs: 300 })
      // What sshd says after a login is on the way for a moment, and whoever is heard counts as alive.
      for (let n = 0; n < 3; n += 1) await running.next('proven')
      signalAll(spare, 'SIGSTOP')
      const down = running.next('down')
      signalAll(first, 'SIGKILL')
      await down
      await running.until('proven')
      expect(running.tunnel.facts()).toMatchObject({ connections: 2, sparesUsed: 0 })
      signalAll(spare, 'SIGKILL')
      await untilReady(running)
      expect(logins(sshd)).toBe(4)
    }),
  )

  it(
    'is made again after it was lost, while the first goes on',
    alone(async () => {
      const { running, sshd, spare } = await startPair('ssh2')
      signalAll(spare, 'SIGKILL')
      await eventually(() => logins(sshd) === 3)
      await untilReady(running)
      expect(running.tunnel.facts()).toMatchObject({ connections: 1, losses: 0, sparesUsed: 0 })
    }),
  )

  it(
    'is not tried again where the server no longer accepts the key, until an operator asks',
    alone(async () => {
      const { running, sshd, spare } = await startPair('ssh2')
      const key = sshd.authorizedKeys()
      sshd.setAuthorizedKeys('')
      const before = connections(sshd)
      signalAll(spare, 'SIGKILL')
      await eventually(() => /^none: .*key/.test(String(running.tunnel.facts()['spareConnection'])))
      // Twice the pause before another one.
      for (let n = 0; n < 12; n += 1) await running.next('proven')
      expect(connections(sshd)).toBe(before + 1)
      sshd.setAuthorizedKeys(key)
      running.tunnel.kick()
      await untilReady(running)
      expect(running.tunnel.facts()).toMatchObject({ connections: 1, losses: 0 })
    }),
  )

  it(
    'that is being asked whether it lives does not outlive a stop',
    alone(async () => {
      const { running, sshd, first, spare } = await startPair('ssh2', { sparePingMs: 60_000 })
      signalAll(spare, 'SIGSTOP')
      const again = running.next('connecting')
      signalAll(first, 'SIGKILL')
      await again
      const stopped = running.stop()
      signalAll(spare, 'SIGCONT')
      await stopped
      await eventually(() => sshd.sessions().length === 0)
    }),
  )

  it(
    'is not asked for where none is wanted',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const running = runTunnel({ ...sshd.options, timings: { spareAfterMs: 1 } })
      await running.until('proven')
      for (let n = 0; n < 3; n += 1) await running.next('proven')
      expect(logins(sshd)).toBe(1)
      expect(running.tunnel.facts()).not.toHaveProperty('spareConnection')
    }),
  )
})
