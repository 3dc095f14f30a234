import { generateKeyPairSync } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import type { Clock } from '../../src/base/clock.js'
import { systemClock } from '../../src/base/clock.js'
import { codeOf } from '../../src/base/errors.js'
import { formatHostPort } from '../../src/base/host-port.js'
import { HostAddresses } from '../../src/tunnel/host-addresses.js'
import { loadIdentities } from '../../src/tunnel/identities.js'
import { startKeyAgent } from '../../src/tunnel/key-agent.js'
import { Nudge } from '../../src/tunnel/nudge.js'
import { shellWord } from '../../src/tunnel/openssh-command.js'
import { DEFAULT_TIMINGS } from '../../src/tunnel/options.js'
import { parseProxy } from '../../src/tunnel/proxy.js'
import { createRetrySchedule } from '../../src/tunnel/retry.js'
import { formatServerAddress, ownSshdOf, parseOwnSshd, parseServerAddress } from '../../src/tunnel/server-address.js'
import { watchForSleep } from '../../src/tunnel/sleep-watch.js'
import { cleanUp, onCleanup, tempFolder } from './bench-tunnel.js'
import { keygen } from './real-sshd.js'

afterEach(cleanUp)

const still = new AbortController().signal

describe('pauses between tries', () => {
  it('begin fast, grow to the longest, and begin anew after a reset; a refusing server gets long ones', () => {
    const schedule = createRetrySchedule(DEFAULT_TIMINGS, { bytes: () => new Uint8Array(), fraction: () => 0.5 })
    const pauses = Array.from({ length: 10 }, () => schedule.nextMs('lost'))
    expect(pauses).toEqual([0, 100, 400, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000])
    expect([schedule.nextMs('banned'), schedule.nextMs('banned')]).toEqual([60_000, 120_000])
    schedule.reset()
    expect([schedule.nextMs('lost'), schedule.nextMs('banned')]).toEqual([0, 60_000])
  })

  it('end at once with a nudge, also with one that came before', async () => {
    const nudge = new Nudge(systemClock)
    const waiting = nudge.wait(60_000, still)
    nudge.nudge()
    expect(await waiting).toBe('nudge')
    nudge.nudge()
    expect(await nudge.wait(60_000, still)).toBe('nudge')
    expect(await nudge.wait(1, still)).toBe('time')
    await expect(nudge.wait(60_000, AbortSignal.abort())).rejects.toMatchObject({ code: 'E_CANCELLED' })
  })
})

describe('the watch for sleep', () => {
  /** A clock whose ticks are fired by hand. */
  function handClock(): { clock: Clock; tick: (wallMs: number, steadyMs: number) => void } {
    let [wall, steady] = [1_000_000, 0]
    let due: (() => void) | undefined
    return {
      clock: {
        nowMs: () => wall,
        monotonicMs: () => steady,
        after: (_, fn) => {
          due = fn
          return { cancel: () => (due = undefined) }
        },
      },
      tick(wallMs, steadyMs) {
        wall += wallMs
        steady += steadyMs
        due?.()
      },
    }
  }

  it('tells a suspend, a stopped process and a changed network, and nothing else', () => {
    const { clock, tick } = handClock()
    const doubts: string[] = []
    let network = 'a'
    const watch = watchForSleep({ clock, gapMs: 4_000, onDoubt: (why) => doubts.push(why), signature: () => network })
    tick(1_000, 1_000)
    tick(3_000, 3_000)
    expect(doubts).toEqual([])
    tick(61_000, 1_000)
    tick(31_000, 31_000)
    network = 'b'
    tick(1_000, 1_000)
    expect(doubts).toEqual([
      'this machine or process stood still for 60 s',
      'this machine or process stood still for 30 s',
      'the addresses of this machine changed',
    ])
    watch.stop()
    tick(600_000, 1)
    expect(doubts).toHaveLength(3)
  })
})

describe("the tunnel's own host", () => {
  const server = { host: 'site.example', port: 22 }
  const control = { host: '3.84.128.28', port: 9000 }

  it('is loopback, the server as dialled and resolved, and the control address once proven', () => {
    const hosts = new HostAddresses(server)
    hosts.connected('3.84.128.28', ['3.84.128.28', '2001:db8::1'])
    hosts.proven('here', control, undefined)
    expect(hosts.list()).toEqual(['127.0.0.1', '::1', 'localhost', 'site.example', '3.84.128.28', '2001:db8::1'])
    expect(hosts.warnings()).toEqual([])
  })

  it("takes the private address of the server's own calls in only where it is shown that strangers come from elsewhere", () => {
    const hosts = new HostAddresses(server)
    hosts.connected('3.84.128.28', [])
    hosts.proven('ssh', control, { host: '10.128.0.7', port: 1 })
    expect(hosts.list()).not.toContain('10.128.0.7')
    expect(hosts.warnings().join()).toMatch(/allow that address by name/)
    hosts.proven('here', control, { host: '192.0.2.44', port: 1 })
    expect(hosts.list()).toContain('10.128.0.7')
    expect(hosts.list()).not.toContain('192.0.2.44')
  })

  it('is nobody by address where a call from here arrives as the server itself', () => {
    const hosts = new HostAddresses(server)
    hosts.connected('3.84.128.28', [])
    hosts.proven('here', control, { host: '127.0.0.1', port: 1 })
    expect(hosts.list()).toEqual(['site.example', '3.84.128.28'])
    expect(hosts.warnings().join()).toMatch(/every caller arrives as 127\.0\.0\.1/)
    const bridged = new HostAddresses(server)
    bridged.connected('3.84.128.28', [])
    bridged.proven('ssh', control, { host: '172.17.0.1', port: 1 })
    bridged.proven('here', control, { host: '172.17.0.1', port: 1 })
    expect(bridged.list()).toEqual(['site.example', '3.84.128.28'])
  })

  it('is loopback as ever where the server is this machine', () => {
    const hosts = new HostAddresses({ host: '127.0.0.1', port: 22 })
    hosts.connected('127.0.0.1', ['127.0.0.1'])
    hosts.proven('here', { host: '127.0.0.1', port: 9000 }, { host: '127.0.0.1', port: 5 })
    expect(hosts.list()).toContain('127.0.0.1')
  })
})

describe('addresses on the command line', () => {
  it('are read and written back', () => {
    expect(parseServerAddress('ubuntu@45.55.2.5', '--tunnel')).toEqual({ user: 'ubuntu', host: '45.55.2.5', port: 22 })
    for (const text of ['a@b:2222', 'a@[2001:db8::1]:22022', 'a@host.example']) {
      expect(formatServerAddress(parseServerAddress(text, 'x'))).toBe(text)
    }
    expect(() => parseServerAddress('@host', '--tunnel')).toThrow(/--tunnel: "@host" names no user/)
    expect(() => parseServerAddress('a@-oProxyCommand=x', '--tunnel')).toThrow(/is no host/)
    expect(() => parseServerAddress('-l@host', '--tunnel')).toThrow(/names no user/)
  })

  it("of a server's own sshd are one address, by default the port that is dialled", () => {
    const server = { host: 'lab.example', port: 2222 }
    expect(ownSshdOf({ server })).toEqual({ host: 'localhost', port: 2222 })
    for (const text of ['localhost:22', '[::1]:2022', 'sshd-1.lab_net:22']) {
      expect(formatHostPort(ownSshdOf({ server, innerTarget: parseOwnSshd(text, 'x') }))).toBe(text)
    }
    for (const text of ['localhost', '*:22', 'a,b:22', 'a":22', '-a:22', 'localhost:0', 'localhost:99999', '']) {
      expect(() => parseOwnSshd(text, '--own-sshd')).toThrow(/^--own-sshd: /)
    }
  })

  it('of proxies keep passwords out of errors', () => {
    expect(parseProxy('socks5://127.0.0.1')).toMatchObject({ kind: 'socks5', port: 1080 })
    expect(parseProxy('http://u:p%40@[::1]:3128')).toMatchObject({ host: '::1', port: 3128, user: 'u', password: 'p@' })
    expect(() => parseProxy('ftp://u:secret@host')).toThrow(/no proxy address/)
    expect(() => parseProxy('ftp://u:secret@host')).not.toThrow(/secret/)
  })

  it('go through a shell as they are', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (text) => {
        fc.pre(!text.includes('\0'))
        expect(execFileSync('sh', ['-c', `printf %s ${shellWord(text)}`]).toString()).toBe(text)
      }),
      { numRuns: 30 },
    )
  })
})

describe('key files', () => {
  const options = (files: string[]): Parameters<typeof loadIdentities>[0] => ({
    files,
    clock: systemClock,
    agent: undefined,
    prompt: undefined,
  })

  it('are read in every form that people have: OpenSSH, PEM and PKCS#8 of each type', async () => {
    const folder = tempFolder()
    const files: string[] = []
    const write = (name: string, text: string): void => {
      files.push(join(folder, name))
      writeFileSync(join(folder, name), text, { mode: 0o600 })
    }
    const pkcs8 = { type: 'pkcs8', format: 'pem' } as const
    write('p8-ed25519', generateKeyPairSync('ed25519').privateKey.export(pkcs8).toString())
    write('p8-ec', generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export(pkcs8).toString())
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
    write('p8-rsa', rsa.export(pkcs8).toString())
    write('pem-rsa', rsa.export({ type: 'pkcs1', format: 'pem' }).toString())
    for (const type of ['ed25519', 'ecdsa', 'rsa']) {
      keygen(join(folder, type), type)
      files.push(join(folder, type))
    }
    const { keys } = await loadIdentities(options(files), still)
    expect(keys.map(({ key }) => key.type)).toEqual([
      'ssh-ed25519',
      'ecdsa-sha2-nistp256',
      ...['ssh-rsa', 'ssh-rsa', 'ssh-ed25519', 'ecdsa-sha2-nistp256', 'ssh-rsa'],
    ])
    // What was converted is the same key: ssh-keygen derives the same public half.
    const derived = execFileSync('ssh-keygen', ['-y', '-f', join(folder, 'p8-rsa')])
      .toString()
      .split(' ')[1]
      ?.trim()
    expect(keys[2]?.key.getPublicSSH().toString('base64')).toBe(derived)
  })

  it('that others may read, that are none or that hold only a public key are named with the remedy', async () => {
    const folder = tempFolder()
    const file = join(folder, 'key')
    keygen(file, 'ed25519')
    chmodSync(file, 0o644)
    const open = await loadIdentities(options([file]), still).catch((error: unknown) => error)
    expect(open).toMatchObject({ code: 'E_KEY_FILE', remedy: `chmod 600 ${file}` })
    chmodSync(`${file}.pub`, 0o600)
    for (const wrong of [`${file}.pub`, join(folder, 'absent'), folder]) {
      const error = await loadIdentities(options([wrong]), still).catch((reason: unknown) => reason)
      expect(codeOf(error)).toBe('E_KEY_FILE')
    }
    expect(codeOf(await loadIdentities(options([]), still).catch((error: unknown) => error))).toBe('E_KEY_FILE')
  })

  it('that are encrypted are passed over without a terminal where another key is there', async () => {
    const folder = tempFolder()
    keygen(join(folder, 'plain'), 'ed25519')
    keygen(join(folder, 'locked'), 'ed25519', 'sesame')
    const { keys, warnings } = await loadIdentities(options([join(folder, 'locked'), join(folder, 'plain')]), still)
    expect(keys.map(({ file }) => file)).toEqual([join(folder, 'plain')])
    expect(warnings.join()).toMatch(/locked.*passed over/)
  })

  it('that an agent may hold are asked for where the agent never answers', async () => {
    const folder = tempFolder()
    const file = join(folder, 'locked')
    keygen(file, 'ed25519', 'sesame')
    const agent = join(folder, 'agent')
    const deaf = net.createServer((socket) => socket.on('error', () => {})).listen(agent)
    onCleanup(() => void deaf.close())
    await once(deaf, 'listening')
    const clock: Clock = { ...systemClock, after: (_, fn) => systemClock.after(50, fn) }
    const prompt = (): Promise<string> => Promise.resolve('sesame')
    const { keys } = await loadIdentities({ ...options([file]), agent, prompt, clock }, still)
    expect(keys).toHaveLength(1)
  })

  it('are refused after three wrong passphrases', async () => {
    const file = join(tempFolder(), 'locked')
    keygen(file, 'ed25519', 'sesame')
    const attempts: number[] = []
    const prompt = ({ attempt }: { attempt: number }): Promise<string> => {
      attempts.push(attempt)
      return Promise.resolve('wrong')
    }
    await expect(loadIdentities({ ...options([file]), prompt }, still)).rejects.toThrow(/wrong 3 times/)
    expect(attempts).toEqual([1, 2, 3])
  })
})

describe('our own ssh-agent', () => {
  it('signs for ssh with keys of every type', async () => {
    const folder = tempFolder()
    const files = ['ed25519', 'ecdsa', 'rsa'].map((type) => {
      keygen(join(folder, type), type)
      return join(folder, type)
    })
    const { keys } = await loadIdentities({ files, agent: undefined, prompt: undefined, clock: systemClock }, still)
    const agent = await startKeyAgent(keys, undefined, systemClock)
    onCleanup(() => agent.close())
    writeFileSync(join(folder, 'data'), 'something')
    const { execFile } = await import('node:child_process')
    const { promisify } = await import('node:util')
    for (const file of files) {
      // ssh-keygen signs with the agent where it gets a public key, and checks what came of it.
      const env = { ...process.env, SSH_AUTH_SOCK: agent.path }
      await promisify(execFile)('ssh-keygen', ['-Y', 'sign', '-n', 'test', '-f', `${file}.pub`, join(folder, 'data')], {
        env,
      })
      const signers = join(folder, 'signers')
      writeFileSync(signers, `lab ${readFileSync(`${file}.pub`, 'utf8')}`)
      const checked = execFileSync(
        'ssh-keygen',
        ['-Y', 'verify', '-n', 'test', '-I', 'lab', '-f', signers, '-s', join(folder, 'data.sig')],
        { input: 'something' },
      )
      expect(checked.toString()).toMatch(/Good "test" signature/)
      execFileSync('rm', [join(folder, 'data.sig')])
    }
  })
})
