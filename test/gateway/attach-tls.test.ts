import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { ChannelCredentials, ServerCredentials } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import type { CppSiteAgentOptions } from '../../src/standin/cpp-options.js'
import { runCli } from '../support/cli.js'
import { freePort } from '../tunnel/real-sshd.js'
import { startCCoreSiteAgent } from './support/c-core-site-agent.js'
import {
  closeLab,
  deviceId,
  eventually,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
  startUnit,
  tempFolder,
  type GatewayProcess,
} from './support/lab.js'

afterEach(closeLab)

const names = ['A', 'B'] as const
type SiteName = (typeof names)[number]

interface Certificates {
  file(name: string): string
  /** New certificates of the same authority in the same files. */
  renew(): Promise<void>
}

/** What a user makes with `qkd-gw keys init` for two sites on this machine. */
async function keysInit(): Promise<Certificates> {
  const folder = tempFolder()
  const init = async (...further: readonly string[]): Promise<void> => {
    const sites = names.flatMap((name) => ['--site', `${name}=127.0.0.1,localhost`])
    const { code, stderr } = await runCli(['keys', 'init', ...sites, '--folder', folder, ...further])
    expect(stderr, stderr).toBe('')
    expect(code).toBe(0)
  }
  await init()
  return { file: (name) => join(folder, name), renew: () => init('--renew') }
}

/** A C++ SiteAgent with -s: asks nobody for a certificate, shows its own. */
function siteCredentials(certificates: Certificates, name: SiteName): NonNullable<CppSiteAgentOptions['credentials']> {
  const read = (file: string): Buffer => readFileSync(certificates.file(file))
  const [cert, key] = [read(`${name}-site-agent.crt`), read(`${name}-site-agent.key`)]
  return {
    server: ServerCredentials.createSsl(null, [{ cert_chain: cert, private_key: key }]),
    client: ChannelCredentials.createSsl(read('ca.crt'), key, cert),
  }
}

/** The lines that `keys init` prints for the gateway of a site, with the files of `folder`. */
function gatewayToml(folder: string, name: SiteName): string {
  const other = name === 'A' ? 'B' : 'A'
  return `[server]
siteCertificates = ["${name}-site-agent"]
peerCertificates = ["${other}-gateway"]
[server.tls]
certificate = "${join(folder, `${name}-gateway.crt`)}"
key = "${join(folder, `${name}-gateway.key`)}"
rootCertificates = "${join(folder, 'ca.crt')}"
requireClientCertificate = ${name === 'B'}
`
}

/** Serial number of the certificate that is shown to who connects. */
function serialAt(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, ALPNProtocols: ['h2'], rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber)
      socket.destroy()
    })
    socket.once('error', reject)
  })
}

async function startTlsGateway(
  name: SiteName,
  folder: string,
  siteAgent: string,
): Promise<{ gateway: GatewayProcess; port: number }> {
  const [unit, ssh, port] = await Promise.all([startUnit({ pair: 'tls', rate: 50 }), startEmbeddedSshd(), freePort()])
  const gateway = startGateway({
    ...{ device: unit.path, side: name === 'A' ? 'alice' : 'bob', id: deviceId(name), ssh, siteAgent },
    remoteListen: `127.0.0.1:${port}`,
    siteTls: true,
    toml: gatewayToml(folder, name),
  })
  await gateway.untilPart('registration', 'registered')
  return { gateway, port }
}

/** Nine commands are started, on a machine that may have much else to do. */
const slowMs = 60_000

describe('TLS through the whole', { timeout: 240_000 }, () => {
  it('attach, SiteAgents of either library, peer, tunnel and site command, with certificates renewed meanwhile', async () => {
    const certificates = await keysInit()
    const file = (name: string): string => certificates.file(name)
    const a = await startSiteAgent('left', 0, { credentials: siteCredentials(certificates, 'A') })
    const b = await startCCoreSiteAgent(0, [file('ca.crt'), file('B-site-agent.crt'), file('B-site-agent.key')])
    // The gateways have copies of their own, as on another machine.
    const copies = tempFolder()
    const copy = (): void => {
      for (const name of ['ca.crt', 'A-gateway.crt', 'A-gateway.key', 'B-gateway.crt', 'B-gateway.key']) {
        copyFileSync(file(name), join(copies, name))
      }
    }
    copy()
    const left = await startTlsGateway('A', copies, a.address)
    await startTlsGateway('B', copies, b.address)

    const site = (...args: readonly string[]) =>
      runCli(['site', a.address, ...args, '--json', '--tls', '--rootca', file('ca.crt')])
    const details = await site('details')
    expect(details.stderr).toBe('')
    expect(JSON.parse(details.stdout)).toMatchObject({ dialect: 'cpp', devices: [{ id: deviceId('A') }] })
    const plain = await runCli(['site', a.address, 'details', '--timeout', '2'])
    expect(plain.code).not.toBe(0)
    const joined = await site('join', b.address)
    expect(JSON.parse(joined.stdout)).toMatchObject({ answered: true })
    const both = (): number => Math.min(a.receivedKeys().length, b.count)
    await eventually('keys at both sites', () => both() >= 40, slowMs)
    const status = await left.gateway.untilPart('session', 'started')
    expect(status.parts['session']).toMatchObject({ facts: { role: 'left', peerIsGateway: true } })
    expect(status.parts['link']?.state).not.toBe('unagreed')
    expect(status.warnings.join()).not.toMatch(/plain text|hidden/)

    // Renewed and copied, nothing restarted: the new one is shown, and the session that runs goes on.
    const [before, keysBefore] = [await serialAt(left.port), both()]
    await certificates.renew()
    copy()
    await left.gateway.said(/new certificates are in use/, slowMs)
    await eventually('the new certificate is shown', async () => (await serialAt(left.port)) !== before, slowMs)
    await eventually('more keys', () => both() >= keysBefore + 40, slowMs)
    expect(left.gateway.stderr()).not.toMatch(/session with .* ended/)

    // A session begun with the new ones.
    await site('unjoin', b.address)
    await left.gateway.untilPart('session', 'none', 'listening')
    const stopped = both()
    expect((await site('join', b.address)).code).toBe(0)
    await eventually('keys of a second session', () => both() >= stopped + 40, slowMs)
    const compared = both()
    const atB = await b.keys()
    expect(
      a
        .receivedKeys()
        .slice(0, compared)
        .map((key) => Buffer.from(key).toString('hex')),
    ).toEqual(atB.slice(0, compared))
  })
})
