import { readFileSync, writeFileSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { codeOf } from '../../src/base/errors.js'
import type { StallPhase } from '../../src/standin/sshd.js'
import { cleanUp, runTunnel, standinBench } from './bench-tunnel.js'

afterEach(cleanUp)

const QUICK = { handshakeTimeoutMs: 300, authTimeoutMs: 300, forwardTimeoutMs: 300, channelTimeoutMs: 300 }

describe('a server that stops answering', () => {
  it.each<[StallPhase, RegExp]>([
    ['banner', /SSH key exchange with .*no answer within 300 ms/],
    ['auth', /logging in to .*no answer within 300 ms/],
    ['forward', /asking the server to listen .*no answer within 300 ms/],
  ])('is left after our own deadline in the phase %s, with one reason, and met again later', async (phase, reason) => {
    const bench = await standinBench()
    bench.sshd.stall(phase)
    const running = runTunnel({ ...bench.options, timings: { ...QUICK, retryFirstMs: 100, fastRetriesMs: [] } })
    const down = await running.until('down')
    expect(down.reason).toMatch(reason)
    expect(running.states.filter((state) => state.state === 'down')).toHaveLength(1)
    bench.sshd.stall(undefined)
    await running.until('proven')
    expect(bench.sshd.clientCount()).toBe(1)
  })

  it('fails a connection from its side after our own deadline, and the tunnel stays', async () => {
    const bench = await standinBench()
    const running = runTunnel({ ...bench.options, timings: QUICK })
    await running.until('proven')
    bench.sshd.stall('channel')
    const dialled = running.tunnel.dial({ host: '127.0.0.1', port: 9 }, AbortSignal.timeout(10_000))
    expect(codeOf(await dialled.catch((error: unknown) => error))).toBe('E_DEADLINE')
    expect(running.tunnel.state.value.state).toBe('proven')
    expect(bench.sshd.clientCount()).toBe(1)
  })

  it('is not waited for where its name server never answers', async () => {
    const bench = await standinBench()
    const running = runTunnel({
      ...bench.options,
      server: { ...bench.options.server, host: 'gone.invalid' },
      lookup: () => new Promise(() => {}),
      timings: { resolveTimeoutMs: 200 },
    })
    expect((await running.until('down')).reason).toMatch(/resolving gone.invalid: no answer within 200 ms/)
  })
})

describe('the name of the server', () => {
  it('is resolved anew at each attempt, and every address is tried', async () => {
    const bench = await standinBench()
    const answers = [['127.0.0.3', '::1', '127.0.0.1'], ['127.0.0.1']]
    const asked: string[] = []
    const line = readFileSync(bench.knownHosts, 'utf8').replace('[127.0.0.1]', '[lab.example]')
    writeFileSync(bench.knownHosts, line)
    const running = runTunnel({
      ...bench.options,
      server: { ...bench.options.server, host: 'lab.example' },
      controlAddress: { host: '127.0.0.1', port: 0 },
      lookup: (host) => {
        asked.push(host)
        return Promise.resolve(answers[asked.length - 1] ?? ['127.0.0.1'])
      },
    })
    await running.until('proven')
    expect(running.tunnel.hostAddresses()).toEqual(expect.arrayContaining(['127.0.0.3', 'lab.example']))
    const again = running.next('proven')
    bench.sshd.cut()
    await running.next('down')
    await again
    expect(asked).toEqual(['lab.example', 'lab.example'])
    expect(running.tunnel.hostAddresses()).not.toContain('127.0.0.3')
  })

  it('that is gone for a while is said and tried again', async () => {
    const bench = await standinBench()
    let gone = true
    const running = runTunnel({
      ...bench.options,
      server: { ...bench.options.server, host: 'lab.example' },
      pinnedFingerprints: [bench.sshd.hostKeyFingerprint],
      controlAddress: { host: '127.0.0.1', port: 0 },
      lookup: () =>
        gone ? Promise.reject(Object.assign(new Error('no'), { code: 'EAI_AGAIN' })) : Promise.resolve(['127.0.0.1']),
    })
    expect((await running.until('down')).reason).toBe('the name lab.example cannot be resolved (EAI_AGAIN)')
    gone = false
    await running.until('proven')
  })
})
