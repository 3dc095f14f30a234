import { readFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { EventEmitter, once } from 'node:events'
import { pino } from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { codeOf } from '../../src/base/errors.js'
import { generateSshKey } from '../../src/standin/sshd.js'
import { cleanUp, onCleanup, runTunnel, standinBench } from './bench-tunnel.js'

afterEach(cleanUp)

describe('a tunnel to the embedded sshd', () => {
  it('is proven once a call to the control address came back to this process', async () => {
    const bench = await standinBench()
    const running = runTunnel(bench.options)
    const proven = await running.until('proven')
    expect(proven).toMatchObject({ via: 'here', controlAddress: { host: '127.0.0.1' } })
    expect(proven.listener.port).toBe(bench.sshd.forwardedPorts()[0])
    expect(running.states.map((state) => state.state)).toEqual(['connecting', 'authenticated', 'listening', 'proven'])
    expect(running.self.originators[0]).toBe('127.0.0.1')
    expect(running.tunnel.keyExchange).toBe('curve25519-sha256')
    expect(running.tunnel.warnings().join()).toMatch(/not post-quantum/)
    expect(running.tunnel.facts()).toMatchObject({ healthy: true, backend: 'ssh2' })
    expect(running.tunnel.hostAddresses()).toContain('127.0.0.1')
  })

  it('gives the listener back on a stop, within two seconds, and ends in the state stopped', async () => {
    const bench = await standinBench()
    const running = runTunnel(bench.options)
    await running.until('proven')
    const startedMs = performance.now()
    await running.stop()
    expect(performance.now() - startedMs).toBeLessThan(2_000)
    expect(running.tunnel.state.value.state).toBe('stopped')
    expect(bench.sshd.forwardedPorts()).toEqual([])
  })

  it('opens connections from the side of the server', async () => {
    const bench = await standinBench()
    const target = net.createServer((socket) => socket.end('good day')).listen(0, '127.0.0.1')
    onCleanup(() => void target.close())
    await once(target, 'listening')
    const running = runTunnel(bench.options)
    await running.until('proven')
    const { port } = target.address() as net.AddressInfo
    const stream = await running.tunnel.dial({ host: '127.0.0.1', port }, AbortSignal.timeout(60_000))
    const [text] = (await once(stream, 'data')) as [Buffer]
    expect(text.toString()).toBe('good day')
  })

  it('is proven again within moments after a cut, on the same port', async () => {
    const bench = await standinBench()
    const running = runTunnel(bench.options)
    const before = await running.until('proven')
    const down = running.next('down')
    const again = down.then(() => running.next('proven'))
    bench.sshd.cut()
    expect((await down).reason).toMatch(/ended/)
    expect((await again).listener).toEqual(before.listener)
    expect(running.tunnel.facts()).toMatchObject({ attempts: 2, connections: 2 })
  })

  it('notices a server that stands still, and names it', async () => {
    const bench = await standinBench()
    const running = runTunnel(bench.options)
    await running.until('proven')
    const down = running.next('down')
    bench.sshd.freeze(true)
    expect((await down).reason).toMatch(/not answered|no longer answers/)
    const again = running.next('proven')
    bench.sshd.freeze(false)
    await again
  })

  it('refuses an unknown host key with its fingerprint and the command that accepts it', async () => {
    const bench = await standinBench()
    writeFileSync(bench.knownHosts, '')
    const running = runTunnel(bench.options)
    const error = await running.ended.then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(codeOf(error)).toBe('E_HOST_KEY_UNKNOWN')
    expect(error).toMatchObject({
      remedy: expect.stringContaining(
        `qkd-gw tunnel trust 127.0.0.1:${bench.sshd.port} --fingerprint ${bench.sshd.hostKeyFingerprint}`,
      ) as string,
    })
    expect(bench.sshd.counts.authSuccesses).toBe(0)
  })

  it('stops at a changed host key with both fingerprints, file and line, and never tries it again', async () => {
    const bench = await standinBench()
    const running = runTunnel(bench.options)
    await running.until('proven')
    const before = bench.sshd.hostKeyFingerprint
    const after = bench.sshd.changeHostKey()
    bench.sshd.cut()
    const error = await running.ended.then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(error).toMatchObject({
      code: 'E_HOST_KEY_CHANGED',
      exitCode: 5,
      details: { expected: before, seen: after, file: bench.knownHosts, line: 1 },
    })
    expect(running.tunnel.state.value.state).toBe('needs-attention')
    expect(bench.sshd.counts.authSuccesses).toBe(1)
  })

  it('stops after the same authentication failure twice, and goes on once the key file changed', async () => {
    const bench = await standinBench()
    const good = bench.keyFile
    const rightKey = readFileSync(good, 'utf8')
    writeFileSync(good, generateSshKey().privateKey, { mode: 0o600 })
    const running = runTunnel(bench.options)
    const state = await running.until('needs-attention')
    expect(state.reason).toMatch(/refused every key for the user lab/)
    expect(bench.sshd.counts.connections).toBe(2)
    writeFileSync(good, rightKey)
    await running.until('proven')
  })

  it('tells a server that closes before its banner from every other failure, with long pauses', async () => {
    const bench = await standinBench()
    bench.sshd.closeBeforeBanner(true)
    const running = runTunnel({ ...bench.options, timings: { bannedFirstMs: 60_000, bannedMaxMs: 900_000 } })
    const down = await running.until('down')
    expect(down.reason).toMatch(/refuses this address for now/)
    expect(down.retryInMs).toBeGreaterThan(50_000)
    const { nextTryInMs, healthy } = running.tunnel.facts()
    expect(healthy).toBe(false)
    expect(Number(nextTryInMs)).toBeGreaterThan(0)
    expect(Number(nextTryInMs)).toBeLessThanOrEqual(down.retryInMs)
    bench.sshd.closeBeforeBanner(false)
    running.tunnel.kick()
    await running.until('proven')
    expect(running.tunnel.facts()['nextTryInMs']).toBeUndefined()
  })

  it('does not try a refused key again because the machine woke up, but where an operator asks', async () => {
    const bench = await standinBench()
    const rightKey = readFileSync(bench.keyFile, 'utf8')
    writeFileSync(bench.keyFile, generateSshKey().privateKey, { mode: 0o600 })
    let sleptMs = 0
    const told = new EventEmitter()
    const running = runTunnel({
      ...bench.options,
      clock: { ...systemClock, nowMs: () => systemClock.nowMs() + sleptMs },
      log: pino({}, { write: (line: string) => void told.emit('line', line) }),
    })
    await running.until('needs-attention')
    const doubted = new Promise<void>((resolve) => {
      told.on('line', (line: string) => {
        if (line.includes('stood still')) resolve()
      })
    })
    sleptMs = 600_000
    await doubted
    await new Promise((resolve) => setImmediate(resolve))
    expect(running.tunnel.state.value.state).toBe('needs-attention')
    expect(bench.sshd.counts.connections).toBe(2)
    running.tunnel.kick()
    await running.until('connecting')
    await running.until('needs-attention')
    writeFileSync(bench.keyFile, rightKey)
    await running.until('proven')
  })

  it('names a listener that is bound to loopback only, with its remedy', async () => {
    const bench = await standinBench({ gatewayPorts: 'no' })
    const running = runTunnel({ ...bench.options, remoteListen: { host: '127.0.0.7', port: 0 } })
    await running.until('listening')
    const state = await running.next('listening')
    expect(state.reason).toMatch(/GatewayPorts no/)
    expect(state.remedy).toMatch(/GatewayPorts clientspecified/)
  })

  it('says that the server does not permit a listener, and with which line it would', async () => {
    const bench = await standinBench({ permitListen: ['1'] })
    const running = runTunnel({ ...bench.options, remoteListen: { host: '127.0.0.1', port: 34_001 } })
    const down = await running.until('down')
    expect(down.reason).toMatch(/does not permit to listen/)
    expect(down.remedy).toMatch(/permitlisten="127\.0\.0\.1:34001"/)
  })
})
