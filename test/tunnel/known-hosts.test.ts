import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { systemRandom } from '../../src/base/random.js'
import { generateSshKey } from '../../src/standin/sshd.js'
import { acceptedKeyTypes, checkHostKey, checkPins, shownKeyOf } from '../../src/tunnel/host-key.js'
import { formatKnownHostsLine, matchesHosts, parseKnownHosts } from '../../src/tunnel/known-hosts.js'
import { readKnownHosts, trustHostKey } from '../../src/tunnel/known-hosts-file.js'
import { fingerprintOf, normalFingerprint, readPublicKey, type PublicKey } from '../../src/tunnel/ssh-wire.js'
import { cleanUp, tempFolder } from './bench-tunnel.js'
import { keygen } from './real-sshd.js'

afterEach(cleanUp)

function newKey(): PublicKey {
  const [, base64 = ''] = generateSshKey().publicKey.split(' ')
  const key = readPublicKey(Buffer.from(base64, 'base64'))
  if (key === undefined) throw new Error('no key')
  return key
}

function trustOf(text: string, pinned: string[] = []): Parameters<typeof checkHostKey>[2] {
  return { lines: parseKnownHosts(text, '/k'), files: ['/k'], pinned }
}

const server = { host: 'Lab.Example', port: 22 }
const other = { host: 'lab.example', port: 2222 }

describe('known_hosts', () => {
  it('is found again by ssh-keygen in what we write, hashed or plain, and the other way round', () => {
    const folder = tempFolder()
    const file = join(folder, 'known')
    const key = newKey()
    for (const target of [server, other]) {
      for (const hashWith of [undefined, systemRandom]) {
        writeFileSync(file, `${formatKnownHostsLine(target, key, hashWith)}\n`)
        const name = target.port === 22 ? 'lab.example' : `[lab.example]:${target.port}`
        const found = execFileSync('ssh-keygen', ['-l', '-F', name, '-f', file]).toString()
        expect(found).toContain(fingerprintOf(key.blob))
      }
    }
    writeFileSync(file, `${formatKnownHostsLine(other, key)}\n`)
    execFileSync('ssh-keygen', ['-q', '-H', '-f', file], { stdio: 'ignore' })
    const text = readFileSync(file, 'utf8')
    expect(text).toMatch(/^\|1\|/)
    expect(() => checkHostKey(other, shownKeyOf(key.blob), trustOf(text))).not.toThrow()
    expect(() => checkHostKey({ ...other, port: 22 }, shownKeyOf(key.blob), trustOf(text))).toThrow(
      /nobody has accepted/,
    )
  })

  it('prints fingerprints as ssh-keygen does', () => {
    const folder = tempFolder()
    for (const type of ['ed25519', 'ecdsa', 'rsa']) {
      const file = join(folder, type)
      keygen(file, type)
      const [, base64 = ''] = readFileSync(`${file}.pub`, 'utf8').split(' ')
      const printed = execFileSync('ssh-keygen', ['-l', '-f', `${file}.pub`]).toString()
      expect(printed).toContain(` ${fingerprintOf(Buffer.from(base64, 'base64'))} `)
    }
  })

  it('knows lists, wildcards and exceptions', () => {
    expect(matchesHosts('a,lab.example', server)).toBe(true)
    expect(matchesHosts('*.example', server)).toBe(true)
    expect(matchesHosts('*.example,!lab.*', server)).toBe(false)
    expect(matchesHosts('la?.example', server)).toBe(true)
    expect(matchesHosts('[lab.example]:2222', other)).toBe(true)
    expect(matchesHosts('lab.example', other)).toBe(false)
  })

  it('takes a name without a port for every port that has no key of its own, as OpenSSH does', () => {
    const [key, own] = [newKey(), newKey()]
    const check = (text: string) => (): void => checkHostKey(other, shownKeyOf(key.blob), trustOf(text))
    const bare = formatKnownHostsLine({ ...other, port: 22 }, key)
    expect(check(`${bare}\n`)).not.toThrow()
    expect(acceptedKeyTypes(other, parseKnownHosts(bare, '/k'))).toEqual(['ssh-ed25519'])
    expect(check(`${bare}\n@revoked ${bare}\n`)).toThrow(/revokes/)
    expect(check(`${bare}\n${formatKnownHostsLine(other, own)}\n`)).toThrow(/accepted was/)
    expect(check(`${formatKnownHostsLine({ ...other, port: 22 }, own)}\n`)).toThrow(/nobody has accepted/)
  })

  it('accepts any of several keys of a host', () => {
    const [first, second] = [newKey(), newKey()]
    const text = `${formatKnownHostsLine(server, first)}\n# comment\n\n${formatKnownHostsLine(server, second)}\n`
    expect(() => checkHostKey(server, shownKeyOf(first.blob), trustOf(text))).not.toThrow()
    expect(() => checkHostKey(server, shownKeyOf(second.blob), trustOf(text))).not.toThrow()
    expect(acceptedKeyTypes(server, parseKnownHosts(text, '/k'))).toEqual(['ssh-ed25519'])
  })

  it('names file, line and both fingerprints of a key that changed', () => {
    const [before, after] = [newKey(), newKey()]
    const check = (): void =>
      checkHostKey(server, shownKeyOf(after.blob), trustOf(`# one\n${formatKnownHostsLine(server, before)}\n`))
    expect(check).toThrow(/\/k line 2/)
    expect(check).toThrow(fingerprintOf(before.blob))
    expect(check).toThrow(fingerprintOf(after.blob))
  })

  it('refuses a revoked key even where another line or a pin accepts it', () => {
    const key = newKey()
    const line = formatKnownHostsLine(server, key)
    const text = `${line}\n@revoked * ${line.split(' ').slice(1).join(' ')}\n`
    expect(() => checkHostKey(server, shownKeyOf(key.blob), trustOf(text, [fingerprintOf(key.blob)]))).toThrow(
      /revokes/,
    )
  })

  it('says where only a certificate authority is trusted, and does not take its key for a host key', () => {
    const key = newKey()
    const text = `@cert-authority *.example ${key.type} ${key.blob.toString('base64')}\n`
    expect(() => checkHostKey(server, shownKeyOf(key.blob), trustOf(text))).toThrow(/certificate authority/)
  })

  it('follows a pinned fingerprint whatever the files say', () => {
    const [known, shown] = [newKey(), newKey()]
    const text = `${formatKnownHostsLine(server, known)}\n`
    expect(() => checkHostKey(server, shownKeyOf(shown.blob), trustOf(text, [fingerprintOf(shown.blob)]))).not.toThrow()
    expect(() => checkHostKey(server, shownKeyOf(known.blob), trustOf(text, [fingerprintOf(shown.blob)]))).toThrow(
      /pinned is/,
    )
    expect(checkPins([fingerprintOf(known.blob).slice(7)])).toEqual([fingerprintOf(known.blob)])
    expect(() => checkPins(['MD5:aa:bb'])).toThrow(/no SHA-256 fingerprint/)
  })

  it('adds a trusted key, replaces an old one of the same type, and keeps everything else', async () => {
    const folder = tempFolder()
    const file = join(folder, 'sub', 'known_hosts')
    const [first, second] = [newKey(), newKey()]
    expect(await trustHostKey(file, server, first)).toEqual({ replaced: [], alreadyThere: false })
    expect(await trustHostKey(file, server, first)).toEqual({ replaced: [], alreadyThere: true })
    writeFileSync(file, `# kept\n${formatKnownHostsLine(other, first)}\n${readFileSync(file, 'utf8')}`)
    expect(await trustHostKey(file, server, second)).toEqual({ replaced: [3], alreadyThere: false })
    const trust = { lines: await readKnownHosts([file]), files: [file], pinned: [] }
    expect(() => checkHostKey(server, shownKeyOf(second.blob), trust)).not.toThrow()
    expect(() => checkHostKey(other, shownKeyOf(first.blob), trust)).not.toThrow()
    expect(() => checkHostKey(server, shownKeyOf(first.blob), trust)).toThrow(/accepted was/)
    expect(readFileSync(file, 'utf8')).toMatch(/^# kept\n/)
  })

  it('writes through links, keeps owner and mode, and creates what the last link names only where its folder is', async () => {
    const folder = tempFolder()
    const [real, link, second] = [join(folder, 'real/hosts'), join(folder, 'dot/link'), join(folder, 'known_hosts')]
    for (const sub of ['real', 'dot']) mkdirSync(join(folder, sub))
    writeFileSync(real, '# kept\n')
    chmodSync(real, 0o640)
    const isRoot = process.getuid?.() === 0
    if (isRoot) chownSync(real, 1234, 1235)
    symlinkSync('../real/hosts', link)
    symlinkSync('dot/link', second)
    await trustHostKey(second, server, newKey())
    expect([lstatSync(link), lstatSync(second)].every((one) => one.isSymbolicLink())).toBe(true)
    expect(readFileSync(real, 'utf8')).toMatch(/^# kept\nlab\.example ssh-ed25519 /)
    expect(statSync(real).mode & 0o777).toBe(0o640)
    if (isRoot) expect(statSync(real)).toMatchObject({ uid: 1234, gid: 1235 })
    rmSync(real)
    await trustHostKey(second, server, newKey())
    expect(readFileSync(real, 'utf8')).toMatch(/^lab\.example /)
    expect(statSync(real).mode & 0o777).toBe(0o600)
    expect(lstatSync(link).isSymbolicLink()).toBe(true)
    rmSync(join(folder, 'real'), { recursive: true })
    await expect(trustHostKey(second, server, newKey())).rejects.toMatchObject({ code: 'E_CONFIG' })
    symlinkSync('known_hosts', join(folder, 'loop'))
    rmSync(second)
    symlinkSync('loop', second)
    await expect(trustHostKey(second, server, newKey())).rejects.toMatchObject({ code: 'E_CONFIG' })
    expect(readdirSync(folder).sort()).toEqual(['dot', 'known_hosts', 'loop'])
  })

  it('hashes new names where the file already has hashed ones', async () => {
    const file = join(tempFolder(), 'known_hosts')
    writeFileSync(file, `${formatKnownHostsLine(other, newKey(), systemRandom)}\n`)
    await trustHostKey(file, server, newKey())
    expect(
      readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .every((line) => line.startsWith('|1|')),
    ).toBe(true)
  })

  it('never throws on what stands in such a file', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.array(fc.string()), (text, lines) => {
        parseKnownHosts(text, 'f')
        for (const line of parseKnownHosts(lines.join('\n'), 'f')) matchesHosts(line.hosts, server)
        matchesHosts(text, server)
        normalFingerprint(text)
      }),
    )
  })
})
