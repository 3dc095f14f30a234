import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { generateSshKey } from '../../src/standin/sshd.js'
import { runCli } from '../support/cli.js'
import {
  closeLab,
  deviceId,
  startDebianSshd,
  startEmbeddedSshd,
  startGateway,
  startUnit,
  tempFolder,
} from './support/lab.js'
import { keygen } from '../tunnel/real-sshd.js'

afterEach(closeLab)

/** `attach` with a home of its own, to its end. */
async function attach(args: readonly string[], folder = tempFolder()): ReturnType<typeof runCli> {
  const env = { HOME: folder, XDG_CONFIG_HOME: folder, XDG_STATE_HOME: folder }
  return runCli(['attach', ...args], { env, cwd: folder })
}

const ordinary = ['--driver', 'qix', '--side', 'alice', '--id', deviceId('A'), '--listen', '127.0.0.1:0']

describe('attach ends by itself with an exit code of its own', () => {
  it.each([
    ['an unknown flag', ['/dev/null', '--sied', 'alice'], /--side/],
    ['a side that is none', ['/dev/null', '--driver', 'qix', '--side', 'carol'], /alice, bob/],
    ['two sides at once', ['/dev/null', '--driver', 'qix', '--alice', '--side', 'bob'], /Alice or Bob/],
    ['no side', ['/dev/null', '--driver', 'qix'], /--side alice or --side bob/],
    ['no device', ['--driver', 'qix', '--side', 'alice'], /qkd-gw attach \/dev\/ttyUSB0/],
    ['a driver that is none', ['/dev/null', '--driver', 'quix', '--side', 'alice'], /qix/],
    ['a port that is none', ['/dev/null', ...ordinary, '--listen', '127.0.0.1:99999'], /--listen/],
    ['half a certificate', ['/dev/null', ...ordinary, '--cert', 'x.pem'], /--cert-key/],
  ])('2 for %s, naming what to do', async (_name, args, hint) => {
    const { code, stderr } = await attach(args)
    expect(stderr).toMatch(hint)
    expect(code).toBe(2)
  })

  it.each([
    ['an unknown key', '[tunnel]\nserver = "a@127.0.0.1"\nremotListen = "9000"\n', 3, 'remotListen'],
    ['a value of the wrong kind', '[device]\nside = "carol"\n', 2, 'device.side'],
    ['broken TOML', '[device]\npath = \n', 2, 'TOML'],
    ['broken JSON', '{\n  "device": {\n    "path": nonsense\n  }\n}\n', 3, 'JSON'],
  ])('3 for a configuration with %s, naming file, line and key', async (_name, text, line, key) => {
    const folder = tempFolder()
    const file = join(folder, 'site.conf')
    writeFileSync(file, text)
    const { code, stderr } = await attach(['/dev/null', ...ordinary, '-c', file], folder)
    expect(stderr).toContain(`${file}:${line}`)
    expect(stderr).toContain(key)
    expect(code).toBe(3)
  })

  it('3 for a configuration file that is not there', async () => {
    const { code, stderr } = await attach(['/dev/null', ...ordinary, '-c', '/nowhere/site.toml'])
    expect(stderr).toContain('/nowhere/site.toml')
    expect(code).toBe(3)
  })

  it('3 for a service on all addresses whose registered address nobody named', async () => {
    const { code, stderr } = await attach([
      ...['/dev/null', '--driver', 'qix', '--side', 'alice', '--id', deviceId('A')],
      ...['--listen', '0.0.0.0:9000', '--site-agent', '127.0.0.1:8000'],
    ])
    expect(stderr).toContain('--control-address')
    expect(code).toBe(3)
  })

  it("4 for an SSH server's unknown key, with the fingerprint and the command that accepts it", async () => {
    const unit = await startUnit({ pair: 'exit' })
    const ssh = await startEmbeddedSshd()
    writeFileSync(ssh.knownHosts, '')
    const gateway = startGateway({ device: unit.path, side: 'alice', ssh })
    const { code } = await gateway.ended
    const fingerprint = ssh.sshd.hostKeyFingerprint
    expect(gateway.stderr()).toContain(fingerprint)
    expect(gateway.stderr()).toMatch(/qkd-gw tunnel trust \S*127\.0\.0\.1\S* /)
    expect(gateway.stderr()).toContain(`--fingerprint ${fingerprint}`)
    expect(code).toBe(4)
    expect(ssh.sshd.counts.authSuccesses).toBe(0)
  })

  it.each(['embedded', "Debian's"])("5 for a changed key of %s sshd, with both fingerprints' place", async (which) => {
    const unit = await startUnit({ pair: 'exit' })
    const ssh = which === 'embedded' ? await startEmbeddedSshd() : await startDebianSshd()
    const other = generateSshKey('another')
    const place = ssh.server.replace(/^.*@127\.0\.0\.1:/, '[127.0.0.1]:')
    writeFileSync(ssh.knownHosts, `# the lab\n${place} ${other.publicKey.split(' ').slice(0, 2).join(' ')}\n`)
    const gateway = startGateway({ device: unit.path, side: 'alice', ssh })
    const { code } = await gateway.ended
    expect(gateway.stderr()).toContain(`${ssh.knownHosts} line 2`)
    expect(gateway.stderr().match(/SHA256:[A-Za-z0-9+/]{43}/g)?.length).toBeGreaterThanOrEqual(2)
    expect(code).toBe(5)
  })

  it.each([
    ['that is not there', () => {}, /no such file|not there|ENOENT/i],
    ['that is no key', (file: string) => writeFileSync(file, 'not a key\n', { mode: 0o600 }), /PEM or OpenSSH/],
    ['with a passphrase, where nobody can be asked', (file: string) => keygen(file, 'ed25519', 'secret'), /passphrase/],
  ])('6 for a key file %s, naming it', async (_name, make, hint) => {
    const unit = await startUnit({ pair: 'exit' })
    const ssh = await startEmbeddedSshd()
    const file = join(tempFolder(), 'key.pem')
    make(file)
    const gateway = startGateway({ device: unit.path, side: 'alice', ssh: { ...ssh, keyFile: file } })
    const { code } = await gateway.ended
    expect(gateway.stderr()).toContain(file)
    expect(gateway.stderr()).toMatch(hint)
    expect(code).toBe(6)
    expect(ssh.sshd.counts.authSuccesses).toBe(0)
  })

  it.each([
    ['an ordinary file', (folder: string) => writeFileSync(join(folder, 'thing'), 'text'), 'thing'],
    ['a folder', () => {}, ''],
  ])('7 for %s in the place of a device', async (_name, make, name) => {
    const folder = tempFolder()
    make(folder)
    const path = join(folder, name)
    const { code, stderr } = await attach([path, ...ordinary], tempFolder())
    expect(stderr).toContain(path)
    expect(code).toBe(7)
  })

  it('9 for simulated keys on their way to another machine, naming the flag that allows it', async () => {
    const { code, stderr } = await attach([
      ...['dummy:', '--side', 'alice', '--id', deviceId('A'), '--listen', '127.0.0.1:0'],
      ...['--site-agent', '192.0.2.1:8000'],
    ])
    expect(stderr).toContain('--allow-unsafe not-secret-keys')
    expect(code).toBe(9)
  })
})
