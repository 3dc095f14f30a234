import { copyFileSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { TunnelBackendName } from '../../src/tunnel/contract.js'
import type { TunnelOptions } from '../../src/tunnel/options.js'
import { cleanUp, runTunnel as run, SHORT_TIMINGS, tempFolder, type Running } from './bench-tunnel.js'
import { startHttpProxy, startSocksProxy } from './proxies.js'
import { freePort, startRealSshd, type RealSshd } from './real-sshd.js'

// As a service has it, whose user has no shell.
beforeEach(() => vi.stubEnv('SHELL', '/bin/false'))
afterEach(async () => {
  await cleanUp()
  vi.unstubAllEnvs()
})

const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1', 'GatewayPorts clientspecified']
const ALL: TunnelBackendName[] = ['ssh2', 'openssh', 'openssh+ssh2']

/** Without the machine's own ssh_config. */
function runTunnel(options: Partial<TunnelOptions> & Pick<TunnelOptions, 'server'>): Running {
  return run({ sshConfigFile: 'none', ...options })
}

/** What the open files of processes are: of all that may be looked at, or of one. */
function openFiles(pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))): string[] {
  return pids.flatMap((pid) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        try {
          return [readlinkSync(`/proc/${pid}/fd/${fd}`)]
        } catch {
          return []
        }
      })
    } catch {
      return []
    }
  })
}

/** Ports on 127.0.0.1 that this process listens on. */
function listeningHere(): string[] {
  const ours = new Set(openFiles(['self']))
  const sockets = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  return sockets
    .filter(([, , , state, ...rest]) => state === '0A' && ours.has(`socket:[${rest[5] ?? ''}]`))
    .map(([, at = '']) => at)
    .sort()
}

describe.each<TunnelBackendName>(['openssh', 'openssh+ssh2'])('behind a proxy, the back end %s', (backend) => {
  it('lets no other user of this machine through it: nothing listens, and the pipes of ssh are ours alone', async () => {
    const sshd = await startRealSshd({ config: ALIVE })
    const proxy = await startHttpProxy()
    // What ssh would take for a token of its own, and the shell for a quote.
    const keyFile = join(tempFolder(), `%h "it's one"`)
    copyFileSync(sshd.keyFile, keyFile)
    const temporary = join(tempFolder(), `%h it's one`)
    mkdirSync(temporary)
    vi.stubEnv('TMPDIR', temporary)
    const before = listeningHere()
    expect(before.length).toBeGreaterThan(0)
    const running = runTunnel({ ...sshd.options, identityFiles: [keyFile], backend, proxy: proxy.url })
    await running.until('proven')
    expect(listeningHere()).toEqual(before)
    const [folder = ''] = readdirSync(temporary).map((name) => join(temporary, name))
    expect(statSync(folder).mode & 0o777).toBe(0o700)
    for (const name of ['down', 'up']) {
      expect(statSync(join(folder, name)).isFIFO()).toBe(true)
      expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600)
    }
    // One that is cut comes back by pipes of its own.
    const down = running.next('down')
    sshd.signalSessions('SIGKILL')
    await down
    await running.until('proven')
    expect(proxy.asked.length).toBeGreaterThan(1)
    await running.stop()
    // Neither folders nor programs are left.
    await vi.waitFor(() => expect(readdirSync(temporary)).toEqual([]), 30_000)
    await vi.waitFor(() => expect(openFiles().filter((file) => file.includes(temporary))).toEqual([]), 30_000)
  })
})

describe.each(ALL)('with the back end %s', (backend) => {
  async function behindAJumpHost(): Promise<{
    jump: RealSshd
    options: Partial<TunnelOptions> & Pick<TunnelOptions, 'server'>
  }> {
    const [jump, sshd] = [await startRealSshd({ config: ALIVE }), await startRealSshd({ config: ALIVE })]
    writeFileSync(sshd.knownHosts, readFileSync(jump.knownHosts, 'utf8') + readFileSync(sshd.knownHosts, 'utf8'))
    return {
      jump,
      options: { ...sshd.options, identityFiles: [jump.keyFile, sshd.keyFile], jump: jump.options.server },
    }
  }

  it('goes through a jump host, and an HTTP proxy in front of it', async () => {
    const { jump, options } = await behindAJumpHost()
    const running = runTunnel({ ...options, backend })
    await running.until('proven')
    expect(jump.sessions()).not.toHaveLength(0)
    await running.stop()
    const proxy = await startHttpProxy()
    const through = runTunnel({ ...options, backend, proxy: proxy.url })
    await through.until('proven')
    expect(proxy.asked).toContain(`127.0.0.1:${jump.port}`)
  })

  it('goes through an HTTP proxy and a SOCKS proxy', async () => {
    const sshd = await startRealSshd({ config: ALIVE })
    writeFileSync(sshd.knownHosts, readFileSync(sshd.knownHosts, 'utf8').replace('127.0.0.1', 'localhost'))
    const server = { ...sshd.options.server, host: 'localhost' }
    for (const proxy of [await startHttpProxy(), await startSocksProxy()]) {
      const running = runTunnel({ ...sshd.options, backend, server, proxy: proxy.url })
      await running.until('proven')
      expect(proxy.asked[0]).toBe(`localhost:${sshd.port}`)
      // Not the address of the proxy.
      expect(running.tunnel.facts()['address']).toBe('localhost')
      await running.stop()
    }
  })
})

// The two on the system's ssh share what explains it.
describe.each<TunnelBackendName>(['ssh2', 'openssh+ssh2'])('what fails on the way, with the back end %s', (backend) => {
  it('is the proxy: named with what it says, never with its password, and tried again soon', async () => {
    const sshd = await startRealSshd({ config: ALIVE })
    const proxy = await startHttpProxy()
    const banned = { bannedFirstMs: 600_000, bannedMaxMs: 600_000 }
    const refused = runTunnel({
      ...{ ...sshd.options, backend, timings: banned },
      proxy: proxy.url.replace('pass', 'wrong'),
    })
    expect(await refused.until('down')).toMatchObject({
      reason: expect.stringMatching(/^the proxy .* does not connect to .*407/) as string,
      retryInMs: SHORT_TIMINGS.fastRetriesMs?.[0],
    })
    expect(JSON.stringify(refused.states)).not.toMatch(/wrong/)
    const nobody = `127.0.0.1:${await freePort()}`
    const gone = runTunnel({ ...sshd.options, backend, proxy: `http://${nobody}` })
    expect((await gone.until('down')).reason).toMatch(`the proxy ${nobody} cannot be reached`)
  })

  it('is the jump host: gone, with a key that nobody accepted, refusing our key, or getting no further', async () => {
    const [jump, sshd] = [await startRealSshd({ config: ALIVE }), await startRealSshd({ config: ALIVE })]
    const nobody = { ...jump.options.server, port: await freePort() }
    const options = { ...sshd.options, backend, jump: jump.options.server }
    const gone = runTunnel({ ...options, jump: nobody })
    expect((await gone.until('down')).reason).toMatch(`127.0.0.1:${nobody.port} cannot be reached`)
    await expect(runTunnel(options).ended).rejects.toMatchObject({
      code: 'E_HOST_KEY_UNKNOWN',
      remedy: expect.stringMatching(`tunnel trust 127.0.0.1:${jump.port} --fingerprint SHA256:`) as string,
    })
    writeFileSync(sshd.knownHosts, readFileSync(jump.knownHosts, 'utf8') + readFileSync(sshd.knownHosts, 'utf8'))
    const denied = runTunnel(options)
    expect((await denied.until('down')).reason).toMatch(`127.0.0.1:${jump.port} refused every key for the user`)
    const further = runTunnel({
      ...options,
      identityFiles: [jump.keyFile],
      server: { ...sshd.options.server, port: 1 },
    })
    expect((await further.until('down')).reason).toMatch(
      `the jump host 127.0.0.1:${jump.port} cannot reach 127.0.0.1:1`,
    )
  })
})
