/** A gateway in a network of its own: real addresses, a SiteAgent that only its server reaches, callers from outside. */
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { startCli } from '../support/cli.js'
import { ADDRESSES, SERVER_NAME, startNetLab, type NetLab } from '../tunnel/net-lab.js'
import { startRealSshd, type RealSshd } from '../tunnel/real-sshd.js'
import {
  closeLab,
  deviceId,
  eventually,
  startAttach,
  startUnit,
  tempFolder,
  type GatewayProcess,
} from './support/lab.js'

let net: NetLab
/** It says the year 2001 to whoever asks, which is no hindrance to anything here. */
let server: RealSshd
const atTheEnd: (() => Promise<void> | void)[] = []

beforeAll(async () => {
  net = startNetLab()
  atTheEnd.push(() => net.close())
  server = await startServer('clientspecified', 2222, ['ForceCommand echo 1000000000.0'])
})
afterAll(async () => {
  for (const end of atTheEnd.reverse()) await end()
})
beforeEach(() => net.filter([]))
afterEach(async () => {
  await closeLab()
  // The listener of a gateway that has ended is its sshd's for a moment longer.
  await eventually('port 9000 is free at the server', () => !isListenedTo(9000), 60_000)
})
// Several processes, each of which has to start on a busy machine.
vi.setConfig({ testTimeout: 180_000 })

const MAIN = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))

const CONNECT = `require('net').connect(8000, '127.0.0.1')`

/**
 * Asks for keys, and says what is said against it: nothing, where a call that comes after it is answered first. In plain
 * HTTP/2, which starts in no time.
 */
const ASK = `
const session = require('http2').connect('http://' + process.argv[1])
const say = (text) => { console.log(decodeURIComponent(text)); process.exit() }
const call = (path, onEnd) => session
  .request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' })
  .on('response', onEnd).on('trailers', onEnd).end(Buffer.alloc(5))
call('/cqp.remote.IDevice/WaitForSession', (head) => 'grpc-status' in head && say(head['grpc-message']))
call('/qkdgw.probe.v1.Probe/Echo', () => call('/qkdgw.probe.v1.Probe/Echo', () => say('let in')))`

function startServer(
  gatewayPorts: 'clientspecified' | 'no',
  port: number,
  config: readonly string[] = [],
): Promise<RealSshd> {
  return startRealSshd({
    port,
    config: ['UseDNS no', `GatewayPorts ${gatewayPorts}`, ...config],
    place: { host: SERVER_NAME, listen: '0.0.0.0', start: (...args) => net.start('server', ...args) },
    atEnd: (cleanup) => atTheEnd.push(cleanup),
  })
}

/** Listens on the server's loopback: nobody else reaches it. */
async function startHiddenSiteAgent(): Promise<void> {
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

function isListenedTo(port: number): boolean {
  const listening = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, '0')} [0-9A-F:]+ 0A `)
  return listening.test(net.run('server', 'cat', ['/proc/net/tcp', '/proc/net/tcp6']))
}

function ask(place: 'server' | 'outside'): string {
  const host = place === 'server' ? ADDRESSES.server : ADDRESSES.serverOutside
  return net.run(place, process.execPath, ['-e', ASK, `${host}:9000`]).trim()
}

async function start(backend: string, flags: readonly string[] = []): Promise<GatewayProcess> {
  const unit = await startUnit({ pair: 'network' })
  const home = tempFolder()
  const config = join(home, 'quick.toml')
  writeFileSync(config, '[tunnel]\nprobeIntervalMs = 500\n')
  return startAttach({
    args: [
      ...[unit.path, '--config', config, '--driver', 'qix', '--side', 'alice', '--id', deviceId('A')],
      ...['--listen', '127.0.0.1:0', '--tunnel', `${server.user}@${SERVER_NAME}:2222`, '--backend', backend],
      ...['--identity', server.keyFile, '--known-hosts', server.knownHosts, '--remote-listen', '9000'],
      ...['--log-level', 'info', '--log-format', 'json', ...flags],
    ],
    id: deviceId('A'),
    home,
    within: net.command('lab'),
  })
}

async function expectOnlyTheHostIsLetIn(gateway: GatewayProcess): Promise<void> {
  expect(ask('outside')).toMatch(`WaitForSession is not for ${ADDRESSES.outside} through the tunnel`)
  expect(await gateway.said(/refused: cqp\.remote\.IDevice\/WaitForSession/)).toContain(
    `server.allow = ["${ADDRESSES.outside}"]`,
  )
  expect(ask('server')).toBe('let in')
}

describe('a caller from a foreign address', () => {
  it('is refused by address with the back end ssh2, while the host of the tunnel is let in; the SiteAgent may be reached through the tunnel alone', async () => {
    await startHiddenSiteAgent()
    const gateway = await start('ssh2', ['--site-agent', '127.0.0.1:8000', '--via-tunnel'])
    const { parts } = await gateway.untilPart('registration', 'registered')
    expect(parts['tunnel']?.facts?.['controlAddress']).toBe(`${SERVER_NAME}:9000`)
    // From the lab itself nobody is there.
    expect(() => net.run('lab', process.execPath, ['-e', CONNECT])).toThrow(/ECONNREFUSED/)
    await expectOnlyTheHostIsLetIn(gateway)
  })

  it('is refused by address with the back end openssh+ssh2, which is chosen here, while the host of the tunnel is let in', async () => {
    const gateway = await start('auto')
    const { parts } = await gateway.untilPart('tunnel', 'proven')
    expect(parts['tunnel']?.facts).toMatchObject({ backend: 'openssh+ssh2', healthy: true })
    await expectOnlyTheHostIsLetIn(gateway)
  })

  it('is hidden with the back end openssh: then nobody is let in by address, and status says so', async () => {
    const gateway = await start('openssh')
    const { warnings, parts } = await gateway.untilPart('tunnel', 'proven')
    for (const place of ['outside', 'server'] as const) {
      expect(ask(place)).toMatch(/is not for a caller whose address the tunnel hides/)
    }
    expect([...warnings, ...(parts['tunnel']?.warnings ?? [])].join('\n')).toMatch(/hides who calls/)
  })
})

describe('qkd-gw tunnel check', () => {
  /** Another one where the test is tried once more. */
  let nextPort = 2223
  type Step = { name: string; result: string; found: string; remedy?: string }

  async function check(sshd: RealSshd): Promise<{ code: number | null; steps: Record<string, Step> }> {
    const args = ['--identity', sshd.keyFile, '--known-hosts', sshd.knownHosts, '--backend', 'ssh2', '--json']
    const command = startCli(['tunnel', 'check', `${sshd.user}@${SERVER_NAME}:${sshd.port}`, ...args], {
      within: net.command('lab'),
    })
    const { code } = await command.ended
    const { steps } = JSON.parse(command.stdout()) as { steps: Step[] }
    return { code, steps: Object.fromEntries(steps.map((step) => [step.name, step])) }
  }

  it('names GatewayPorts where sshd listens on its loopback only', async () => {
    const { code, steps } = await check(await startServer('no', nextPort++))
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
    net.filter(['tcp dport 9000 drop'])
    const { code, steps } = await check(server)
    expect(code).toBe(0)
    expect(steps['reached from here']).toMatchObject({
      result: 'doubtful',
      remedy: expect.stringMatching(/firewall or security group/) as string,
    })
    expect(steps['reached from the server']?.result).toBe('ok')
    expect(steps['bind address']?.result).toBe('ok')
  })
})
