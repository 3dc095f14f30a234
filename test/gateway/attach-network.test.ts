/** A gateway in a network of its own: real addresses, a SiteAgent that only its server reaches, callers from outside. */
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { startCli } from '../support/cli.js'
import { ADDRESSES, SERVER_NAME, startNetLab, type NetLab } from '../tunnel/net-lab.js'
import { startRealSshd, type RealSshd } from '../tunnel/real-sshd.js'
import {
  closeLab,
  deviceId,
  onCleanup,
  startAttach,
  startUnit,
  tempFolder,
  type GatewayProcess,
} from './support/lab.js'

afterEach(closeLab)
// Several processes, each of which has to start on a busy machine.
vi.setConfig({ testTimeout: 180_000 })

const CALLER = fileURLToPath(new URL('../tunnel/outage-caller.ts', import.meta.url))
const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

const CONNECT = `require('net').connect(8000, '127.0.0.1')`

async function startServer(
  net: NetLab,
  gatewayPorts: 'clientspecified' | 'no' = 'clientspecified',
  config: readonly string[] = [],
): Promise<RealSshd> {
  return startRealSshd({
    port: 2222,
    config: ['UseDNS no', `GatewayPorts ${gatewayPorts}`, ...config],
    place: { host: SERVER_NAME, listen: '0.0.0.0', start: (...args) => net.start('server', ...args) },
  })
}

/** Listens on the server's loopback: nobody else reaches it. */
async function startHiddenSiteAgent(net: NetLab): Promise<void> {
  const agent = net.start(
    'server',
    process.execPath,
    [MAIN, 'standin', 'site-agent', '--host', '127.0.0.1', '--port', '8000'],
    ['pipe', 'pipe', 'inherit'],
  )
  await new Promise<void>((resolve) => {
    if (agent.stdout !== null) createInterface({ input: agent.stdout }).once('line', () => resolve())
  })
}

function ask(net: NetLab, place: 'server' | 'outside'): string {
  const host = place === 'server' ? ADDRESSES.server : ADDRESSES.serverOutside
  const text = net.run(place, process.execPath, ['--import', 'tsx', CALLER, 'keys', `${host}:9000`])
  return (JSON.parse(text) as { said: string }).said
}

async function start(net: NetLab, sshd: RealSshd, backend: string, flags: readonly string[]): Promise<GatewayProcess> {
  const unit = await startUnit({ pair: 'network' })
  const home = tempFolder()
  const config = join(home, 'quick.toml')
  writeFileSync(config, '[tunnel]\nprobeIntervalMs = 500\n')
  return startAttach({
    args: [
      ...[unit.path, '--config', config, '--driver', 'qix', '--side', 'alice', '--id', deviceId('A')],
      ...['--listen', '127.0.0.1:0', '--tunnel', `${sshd.user}@${SERVER_NAME}:2222`, '--backend', backend],
      ...['--identity', sshd.keyFile, '--known-hosts', sshd.knownHosts, '--remote-listen', '9000'],
      ...['--log-level', 'info', '--log-format', 'json', ...flags],
    ],
    id: deviceId('A'),
    home,
    within: net.command('lab'),
  })
}

describe('a caller from a foreign address', () => {
  it.each(['ssh2', 'openssh+ssh2'])(
    'is seen as what he is with the back end %s: refused by address, while the host of the tunnel is let in',
    async (backend) => {
      const net = startNetLab()
      onCleanup(() => net.close())
      const sshd = await startServer(net)
      const gateway = await start(net, sshd, backend, [])
      await gateway.untilPart('tunnel', 'proven')
      expect(ask(net, 'outside')).toMatch(`WaitForSession is not for ${ADDRESSES.outside} through the tunnel`)
      expect(await gateway.said(/refused: cqp\.remote\.IDevice\/WaitForSession/)).toContain(
        `server.allow = ["${ADDRESSES.outside}"]`,
      )
      expect(ask(net, 'server')).toBe('let in')
    },
  )

  it('is hidden with the back end openssh: then nobody is let in by address, and status says so', async () => {
    const net = startNetLab()
    onCleanup(() => net.close())
    const sshd = await startServer(net)
    const gateway = await start(net, sshd, 'openssh', [])
    const { warnings, parts } = await gateway.untilPart('tunnel', 'proven')
    for (const place of ['outside', 'server'] as const) {
      expect(ask(net, place)).toMatch(/is not for a caller whose address the tunnel hides/)
    }
    expect([...warnings, ...(parts['tunnel']?.warnings ?? [])].join('\n')).toMatch(/hides who calls/)
  })
})

describe('qkd-gw tunnel check', () => {
  type Step = { name: string; result: string; found: string; remedy?: string }

  async function check(net: NetLab, sshd: RealSshd): Promise<{ code: number | null; steps: Record<string, Step> }> {
    const args = ['--identity', sshd.keyFile, '--known-hosts', sshd.knownHosts, '--backend', 'ssh2', '--json']
    const command = startCli(['tunnel', 'check', `${sshd.user}@${SERVER_NAME}:2222`, ...args], {
      within: net.command('lab'),
    })
    const { code } = await command.ended
    const { steps } = JSON.parse(command.stdout()) as { steps: Step[] }
    return { code, steps: Object.fromEntries(steps.map((step) => [step.name, step])) }
  }

  it('names GatewayPorts where sshd listens on its loopback only', async () => {
    const net = startNetLab()
    onCleanup(() => net.close())
    const { code, steps } = await check(net, await startServer(net, 'no'))
    expect(code).toBe(11)
    expect(steps['reached from here']?.result).toBe('failed')
    expect(steps['reached from the server']?.result).toBe('failed')
    expect(steps['bind address']).toMatchObject({
      result: 'failed',
      found: expect.stringMatching(/answers only on the server's own loopback/) as string,
      remedy: expect.stringMatching(/GatewayPorts clientspecified/) as string,
    })
  })

  it('names the firewall where only the server itself reaches the listener', async () => {
    const net = startNetLab()
    onCleanup(() => net.close())
    const sshd = await startServer(net)
    net.filter(['tcp dport 9000 drop'])
    const { code, steps } = await check(net, sshd)
    expect(code).toBe(0)
    expect(steps['reached from here']).toMatchObject({
      result: 'doubtful',
      remedy: expect.stringMatching(/firewall or security group/) as string,
    })
    expect(steps['reached from the server']?.result).toBe('ok')
    expect(steps['bind address']?.result).toBe('ok')
  })
})

describe('a server whose clock is wrong', () => {
  it('is no hindrance: sshd says the year 2001 to whoever asks, and the tunnel is proven', async () => {
    const net = startNetLab()
    onCleanup(() => net.close())
    const sshd = await startServer(net, 'clientspecified', ['ForceCommand echo 1000000000.0'])
    const gateway = await start(net, sshd, 'auto', [])
    await gateway.untilPart('tunnel', 'proven')
  })
})

describe('site.viaTunnel', () => {
  it('registers at a SiteAgent that only the SSH server reaches', async () => {
    const net = startNetLab()
    onCleanup(() => net.close())
    const sshd = await startServer(net)
    await startHiddenSiteAgent(net)
    const gateway = await start(net, sshd, 'ssh2', ['--site-agent', '127.0.0.1:8000', '--via-tunnel'])
    const { parts } = await gateway.untilPart('registration', 'registered')
    expect(parts['tunnel']?.facts?.['controlAddress']).toBe(`${SERVER_NAME}:9000`)
    // From the lab itself nobody is there.
    expect(() => net.run('lab', process.execPath, ['-e', CONNECT])).toThrow(/ECONNREFUSED/)
  })
})
