import { readFileSync, writeFileSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import type { TunnelBackendName } from '../../src/tunnel/contract.js'
import type { TunnelOptions } from '../../src/tunnel/options.js'
import { cleanUp, runTunnel as run, type Running } from './bench-tunnel.js'
import { startHttpProxy, startSocksProxy } from './proxies.js'
import { startRealSshd, type RealSshd } from './real-sshd.js'

afterEach(cleanUp)

const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1', 'GatewayPorts clientspecified']
const ALL: TunnelBackendName[] = ['ssh2', 'openssh', 'openssh+ssh2']

/** Without the machine's own ssh_config. */
function runTunnel(options: Partial<TunnelOptions> & Pick<TunnelOptions, 'server'>): Running {
  return run({ sshConfigFile: 'none', ...options })
}

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
    for (const proxy of [await startHttpProxy(), await startSocksProxy()]) {
      const running = runTunnel({ ...sshd.options, backend, proxy: proxy.url })
      await running.until('proven')
      expect(proxy.asked[0]).toBe(`127.0.0.1:${sshd.port}`)
      await running.stop()
    }
  })
})

describe('a proxy that refuses', () => {
  it('is named with what it says, and never with its password', async () => {
    const sshd = await startRealSshd({ config: ALIVE })
    const proxy = await startHttpProxy()
    const running = runTunnel({ ...sshd.options, proxy: proxy.url.replace('pass', 'wrong') })
    const down = await running.until('down')
    expect(down.reason).toMatch(/does not connect to .*407/)
    expect(JSON.stringify(running.states)).not.toMatch(/wrong/)
  })
})
