import { copyFile, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type ChannelCredentials, status as Status } from '@grpc/grpc-js'
import { systemClock } from '../../src/base/clock.js'
import { silentLogger } from '../../src/observe/log.js'
import { unary } from '../../src/rpc/bridge.js'
import { clientCredentials, serverCredentials, type ServerTlsOptions } from '../../src/rpc/credentials.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { createProbe } from '../../src/rpc/probe.js'
import { makePrivateCa, type CaFiles, type CaResult } from '../../src/rpc/private-ca.js'
import { systemRandom } from '../../src/base/random.js'
import { pathOf, startCCorePeer } from './support/c-core.js'
import { duplexPair, soon, startDevice, type DeviceUnderTest } from './support/device.js'

const signal = new AbortController().signal
const common = { clock: systemClock, log: silentLogger, refreshMs: 3_600_000 }
const sites = [
  { name: 'A', hosts: ['45.55.2.5'] },
  { name: 'B', hosts: ['site-b.example'] },
]
let folder = ''
let ca: CaResult
let foreign: CaResult
let device: DeviceUnderTest | undefined
const toClose: { close: () => void }[] = []

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qkd-gw-test-'))
  ca = await makePrivateCa({ folder: join(folder, 'ca'), sites, renew: false, signal })
  foreign = await makePrivateCa({ folder: join(folder, 'foreign'), sites, renew: false, signal })
})
afterAll(() => rm(folder, { recursive: true, force: true }))
afterEach(async () => {
  await device?.close()
  device = undefined
  for (const credentials of toClose.splice(0)) credentials.close()
})

function siteOf(from: CaResult, index: 0 | 1): CaResult['sites'][number] {
  const site = from.sites[index]
  if (site === undefined) throw new Error('no site')
  return site
}

async function start(options: Partial<ServerTlsOptions> = {}): Promise<DeviceUnderTest> {
  const { certificate, privateKey } = siteOf(ca, 0).gateway
  const server = await serverCredentials({
    files: { certificate, privateKey, authorities: ca.authority.certificate },
    ...common,
    ...options,
  })
  toClose.push(server)
  device = await startDevice(
    { siteCertificates: ['A-site-agent'], peerCertificates: ['B-gateway'] },
    { credentials: server.credentials },
  )
  return device
}

async function clientOf(from: CaResult, holder?: CaFiles): Promise<ChannelCredentials> {
  const own = holder === undefined ? {} : { certificate: holder.certificate, privateKey: holder.privateKey }
  const client = await clientCredentials({ files: { authorities: from.authority.certificate, ...own }, ...common })
  toClose.push(client)
  return client.credentials
}

describe('over TLS', () => {
  it('a hidden caller gets at the keys with the certificate of the site and with no other', async () => {
    const under = await start()
    const call = async (credentials: ChannelCredentials): Promise<number> => {
      const { client } = await under.throughTunnel(undefined, { credentials })
      return unary(client, IDevice.method.endSession, {}, soon()).then(
        () => 0,
        (error: { code: number }) => error.code,
      )
    }
    expect(await call(await clientOf(ca, siteOf(ca, 0).siteAgent))).toBe(0)
    expect(under.port.calls[0]?.call?.originator).toMatchObject({ via: 'hidden', certificate: 'A-site-agent' })
    expect(await call(await clientOf(ca, siteOf(ca, 1).siteAgent))).toBe(Status.PERMISSION_DENIED)
    expect(await call(await clientOf(ca))).toBe(Status.PERMISSION_DENIED)
    // Signed by somebody else: no certificate at all, whatever name it bears.
    expect(await call(await clientOf(ca, siteOf(foreign, 0).siteAgent))).toBe(Status.PERMISSION_DENIED)
    expect(under.server.counts().refusals.last?.allowingLine).toBe('server.allow = ["hidden"]')
  })

  it('who is required to show a certificate and shows none is turned away', async () => {
    const under = await start({ requireClientCertificate: true })
    const bare = await under.channel({ credentials: await clientOf(ca) })
    await expect(unary(bare.client, IDevice.method.endSession, {}, { ...soon(), deadlineMs: 1_500 })).rejects.toThrow()
    const named = await under.channel({ credentials: await clientOf(ca, siteOf(ca, 0).siteAgent) })
    await unary(named.client, IDevice.method.endSession, {}, soon())
  })

  it('a server that our authority does not know is not spoken to', async () => {
    const under = await start()
    const { client } = await under.channel({ credentials: await clientOf(foreign) })
    await expect(unary(client, IDevice.method.endSession, {}, { ...soon(), deadlineMs: 1_500 })).rejects.toThrow()
    expect(under.port.calls).toEqual([])
  })

  it('the probe recognises itself through the tunnel by the name it was called', async () => {
    const under = await start()
    const probe = createProbe({
      random: systemRandom,
      clock: systemClock,
      version: '0',
      credentials: await clientOf(ca),
    })
    const [near, far] = duplexPair()
    under.server.inject(far, { host: '45.55.2.5', port: 3 })
    const result = await probe.probeSelf({
      target: { host: '45.55.2.5', port: 9000 },
      stream: near,
      paddingBytes: 0,
      timeoutMs: 5_000,
      signal,
    })
    // Another probe's secret: the handshake stood, and only the proof was not ours.
    expect(result).toMatchObject({ result: 'stranger', reason: expect.stringContaining('another gateway') as string })
  })

  it('new certificates are taken without a restart, and what does not hold is not', async () => {
    const live = { certificate: join(folder, 'live.crt'), privateKey: join(folder, 'live.key') }
    const put = async (from: { certificate: string; privateKey: string }): Promise<void> => {
      await copyFile(from.certificate, live.certificate)
      await copyFile(from.privateKey, live.privateKey)
    }
    await put(siteOf(ca, 0).gateway)
    const server = await serverCredentials({ files: live, ...common })
    toClose.push(server)
    device = await startDevice({}, { credentials: server.credentials })
    const under = device
    const shown = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect({ ...under.address, ALPNProtocols: ['h2'], rejectUnauthorized: false }, () => {
          resolve(String(socket.getPeerCertificate().subject.CN))
          socket.destroy()
        })
        socket.once('error', reject)
      })
    expect(await shown()).toBe('A-gateway')
    await put(siteOf(ca, 1).gateway)
    await server.reload()
    expect(await shown()).toBe('B-gateway')
    expect(server.subject()).toBe('B-gateway')
    await writeFile(live.certificate, 'garbage')
    await server.reload()
    expect(await shown()).toBe('B-gateway')
    expect(server.warnings().join()).toContain('live.crt is no certificate')
    await copyFile(siteOf(ca, 0).gateway.certificate, live.certificate)
    await server.reload()
    expect(server.warnings().join()).toContain('live.key is no private key')
    expect(await shown()).toBe('B-gateway')
    await put(siteOf(ca, 0).gateway)
    await server.reload()
    expect(await shown()).toBe('A-gateway')
    expect(server.warnings()).toEqual([])
  })

  it('a SiteAgent on the C core takes our certificate and shows its own', async () => {
    const under = await start()
    const { certificate, privateKey } = siteOf(ca, 0).siteAgent
    const peer = startCCorePeer(`localhost:${under.address.port}`, ca.authority.certificate, certificate, privateKey)
    try {
      expect(await peer.ask({ kind: 'unary', call: pathOf(IDevice.method.endSession) })).toMatchObject({ code: 0 })
      expect(under.port.calls[0]?.call?.originator.certificate).toBe('A-site-agent')
    } finally {
      await peer.close()
    }
  })
})

describe('a private authority', () => {
  it('leaves only the files it names, readable by their owner alone', async () => {
    const names = await readdir(join(folder, 'ca'))
    expect(names.sort()).toEqual(
      [
        ...['A-gateway.crt', 'A-gateway.key', 'A-site-agent.crt', 'A-site-agent.key'],
        ...['B-gateway.crt', 'B-gateway.key', 'B-site-agent.crt', 'B-site-agent.key', 'ca.crt', 'ca.key'],
      ].sort(),
    )
    for (const name of names) expect((await stat(join(folder, 'ca', name))).mode & 0o777, name).toBe(0o600)
  })

  it('is never overwritten, and renews with what is there', async () => {
    const again = { folder: join(folder, 'ca'), sites, signal }
    await expect(makePrivateCa({ ...again, renew: false })).rejects.toMatchObject({ code: 'E_USAGE' })
    const renewed = await makePrivateCa({ ...again, renew: true })
    const under = await start()
    const { client } = await under.channel({ credentials: await clientOf(renewed, siteOf(renewed, 0).siteAgent) })
    await unary(client, IDevice.method.endSession, {}, soon())
    await expect(makePrivateCa({ ...again, folder: join(folder, 'none'), renew: true })).rejects.toMatchObject({
      code: 'E_USAGE',
    })
  })

  it.each([
    ['a name that is a path', [{ name: '../A', hosts: ['h'] }]],
    ['a host that would add to the certificate', [{ name: 'A', hosts: ['h,DNS:evil'] }]],
    ['no host', [{ name: 'A', hosts: [] }]],
    ['one name twice', [sites[0], sites[0]].flatMap((site) => (site === undefined ? [] : [site]))],
    ['no site', []],
  ])('refuses %s', async (_name, wrong) => {
    const made = makePrivateCa({ folder: join(folder, 'wrong'), sites: wrong, renew: false, signal })
    await expect(made).rejects.toMatchObject({ code: 'E_USAGE' })
  })
})
