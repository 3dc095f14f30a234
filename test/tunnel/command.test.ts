import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { codeOf } from '../../src/base/errors.js'
import type { CheckStep } from '../../src/tunnel/check-step.js'
import { CHECK_STEPS } from '../../src/tunnel/check.js'
import { alone, onCleanup, runTunnel } from './bench-tunnel.js'
import { check, tunnel } from './tunnel-command.js'
import { freePort, startRealSshd, type RealSshd } from './real-sshd.js'
import net from 'node:net'
import { once } from 'node:events'

const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1', 'GatewayPorts clientspecified']

function fingerprintIn(text: string): string {
  return /SHA256:[A-Za-z0-9+/]{43}/.exec(text)?.[0] ?? ''
}

describe.concurrent('qkd-gw tunnel trust', () => {
  it(
    'prints what the server shows and writes nothing until a fingerprint is said',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const file = join(sshd.folder, 'new_known_hosts')
      const host = `127.0.0.1:${sshd.port}`
      const asked = await tunnel('trust', host, '--known-hosts', file)
      expect(asked.exitCode).toBe(4)
      const fingerprint = fingerprintIn(asked.text)
      expect(asked.text).toContain(`qkd-gw tunnel trust ${host} --fingerprint ${fingerprint}`)
      expect(() => readFileSync(file)).toThrow()

      const wrong = `SHA256:${'A'.repeat(43)}`
      const refused = await tunnel('trust', host, '--known-hosts', file, '--fingerprint', wrong).catch(
        (error: unknown) => error,
      )
      expect(codeOf(refused)).toBe('E_HOST_KEY_CHANGED')
      expect(() => readFileSync(file)).toThrow()

      const accepted = await tunnel('trust', host, '--known-hosts', file, '--fingerprint', fingerprint)
      expect(accepted.exitCode).toBeUndefined()
      expect(accepted.text).toContain('is accepted now')
      const running = runTunnel({ ...sshd.options, knownHostsFiles: [file] })
      await running.until('proven')
      const again = await tunnel('trust', host, '--known-hosts', file, '--fingerprint', fingerprint, '--json')
      expect(JSON.parse(again.text)).toMatchObject({ accepted: true, alreadyThere: true })
    }),
  )
})

describe.concurrent('qkd-gw tunnel server-config', () => {
  it(
    'prints placeholders when run bare',
    alone(async () => {
      const { text, exitCode } = await tunnel('server-config')
      expect(exitCode).toBeUndefined()
      expect(text).toContain('GatewayPorts clientspecified')
      expect(text).toContain('Match User qkd')
      expect(text).toMatch(
        /^restrict,port-forwarding,permitlisten="\*:9000",permitopen="localhost:22",permitopen="SERVER:9000"/m,
      )
    }),
  )

  it(
    'opens exactly what the chosen features need, and says what is off',
    alone(async () => {
      const opened = async (...args: string[]): Promise<string[]> => {
        const { text } = await tunnel('server-config', 'lab@site.example', '--json', ...args)
        const { authorizedKeys } = JSON.parse(text) as { authorizedKeys: string[] }
        return [...(authorizedKeys[0] ?? '').matchAll(/permitopen="([^"]+)"/g)].map(([, target = '']) => target)
      }
      const control = 'site.example:9000'
      expect(await opened('--backend', 'ssh2')).toEqual([control])
      expect(await opened()).toEqual(['localhost:22', control])
      expect(await opened('--site-agent', '10.0.0.1:8000')).toEqual(['localhost:22', control])
      expect(await opened('--site-agent', '10.0.0.1:8000', '--via-tunnel')).toEqual([
        ...['localhost:22', control, '10.0.0.1:8000'],
      ])
      expect(await opened('--backend', 'openssh', '--diagnosis')).toEqual([control, '127.0.0.1:9000', '127.0.0.2:9000'])
      const { text } = await tunnel('server-config', 'lab@site.example', '--backend', 'ssh2')
      for (const off of [/openssh\+ssh2 .* is off/, /--diagnosis\)/, /SiteAgent through the tunnel .* are off/]) {
        expect(text).toMatch(off)
      }
    }),
  )

  /** A server that holds exactly what is printed for these arguments. */
  async function serverWith(sshd: RealSshd, ...args: string[]): Promise<RealSshd> {
    const { text } = await tunnel('server-config', `${sshd.user}@127.0.0.1:${sshd.port}`, '-i', sshd.keyFile, ...args)
    const settings = text.split('\n').filter((line) => /^(Match| {4})/.test(line))
    const keys = text.split('\n').filter((line) => line.startsWith('restrict,'))
    await sshd.stop()
    sshd.setAuthorizedKeys(`${keys.join('\n')}\n`)
    sshd.appendConfig(settings)
    await sshd.start()
    return sshd
  }

  it(
    'prints what a server needs for every back end, and no more',
    alone(async () => {
      const port = await freePort()
      const sshd = await serverWith(await startRealSshd(), '--remote-listen', String(port))
      const remoteListen = { host: '', port }
      for (const backend of ['ssh2', 'openssh', 'openssh+ssh2'] as const) {
        const running = runTunnel({ ...sshd.options, backend, sshConfigFile: 'none', remoteListen })
        await running.until('proven')
        const signal = AbortSignal.timeout(60_000)
        const control = await running.tunnel.dial({ host: '127.0.0.1', port }, signal)
        control.destroy()
        const elsewhere = running.tunnel.dial({ host: '127.0.0.1', port: port === 9 ? 10 : 9 }, signal)
        await expect(elsewhere).rejects.toMatchObject({ details: { dial: 'prohibited' } })
        await running.stop()
      }
      const other = runTunnel({ ...sshd.options, remoteListen: { host: '', port: await freePort() } })
      const down = await other.until('down', 'authenticated')
      expect(down.state === 'down' ? down.reason : (await other.next('down')).reason).toMatch(/does not permit|refuses/)
    }),
  )

  it(
    'permits the address at which the server is said to reach its own sshd, where tunnel and check go through',
    alone(async () => {
      const ownSshd = `127.0.0.2:${await freePort()}`
      const [port, config] = [await freePort(), [...ALIVE, `ListenAddress ${ownSshd}`]]
      const listen = ['--remote-listen', `127.0.0.1:${port}`]
      const sshd = await serverWith(await startRealSshd({ config }), ...listen, '--own-sshd', ownSshd)
      expect(sshd.authorizedKeys()).toContain(`permitopen="${ownSshd}"`)
      expect(sshd.authorizedKeys()).not.toContain('localhost')
      const { steps } = await check(sshd, ...listen, '--own-sshd', ownSshd)
      expect(steps.find((step) => step.name === 'own sshd')).toMatchObject({
        result: 'ok',
        found: expect.stringContaining(ownSshd) as string,
      })
      expect(steps.find((step) => step.name === 'authentication')?.facts).toMatchObject({ backend: 'openssh+ssh2' })
    }),
  )

  it(
    'opens the SiteAgent only for calls through the tunnel',
    alone(async () => {
      const agent = net.createServer((socket) => socket.end('agent')).listen(0, '127.0.0.1')
      onCleanup(() => void agent.close())
      await once(agent, 'listening')
      const target = { host: '127.0.0.1', port: (agent.address() as net.AddressInfo).port }
      const site = `127.0.0.1:${target.port}`
      const port = await freePort()
      const sshd = await startRealSshd()
      const listen = ['--remote-listen', `127.0.0.1:${port}`]
      await serverWith(sshd, ...listen, '--site-agent', site)
      const shut = runTunnel({ ...sshd.options, remoteListen: { host: '127.0.0.1', port } })
      await shut.until('proven')
      await expect(shut.tunnel.dial(target, AbortSignal.timeout(60_000))).rejects.toThrow(/does not permit/)
      await shut.stop()
      await serverWith(sshd, ...listen, '--site-agent', site, '--via-tunnel')
      const open = runTunnel({ ...sshd.options, remoteListen: { host: '127.0.0.1', port } })
      await open.until('proven')
      const stream = await open.tunnel.dial(target, AbortSignal.timeout(60_000))
      expect(String((await once(stream, 'data'))[0])).toBe('agent')
    }),
  )
})

describe.concurrent('qkd-gw tunnel check', () => {
  it(
    'walks all steps, measures, and gives the listener back',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      const port = String(await freePort())
      for (const backend of ['ssh2', 'openssh+ssh2']) {
        const elsewhere = backend === 'ssh2' ? ['--own-sshd', '127.0.0.1:1'] : []
        const { steps, exitCode } = await check(sshd, '--backend', backend, '--remote-listen', port, ...elsewhere)
        expect(exitCode).toBeUndefined()
        expect(steps.map((step) => step.name)).toEqual([...CHECK_STEPS])
        // A busy machine answers late, which is no fault of the tunnel.
        const doubtful = steps
          .filter((step) => step.result !== 'ok' && step.name !== 'latency')
          .map((step) => step.name)
        expect(doubtful).toEqual(backend === 'ssh2' ? ['key exchange', 'own sshd'] : [])
        expect(steps.find((step) => step.name === 'own sshd')?.remedy).toEqual(
          backend === 'ssh2' ? expect.stringContaining('--own-sshd') : undefined,
        )
      }
    }),
  )

  it(
    'stops at what fails, names the remedy, and ends with code 11',
    alone(async () => {
      const sshd = await startRealSshd({ config: ALIVE })
      writeFileSync(sshd.knownHosts, '')
      const { steps, exitCode } = await check(sshd, '--backend', 'ssh2')
      expect(exitCode).toBe(11)
      expect(steps.find((step) => step.name === 'host key')).toMatchObject({
        result: 'failed',
        remedy: expect.stringContaining('qkd-gw tunnel trust') as string,
      })
      expect(steps.at(-1)?.result).toBe('skipped')
      await sshd.stop()
      const dead = await check(sshd)
      expect(dead.steps.find((step) => step.name === 'TCP')?.found).toMatch(/ECONNREFUSED/)
    }),
  )

  it(
    'names the line of authorized_keys that lacks: for the login, for the listener, and for the way to its own sshd',
    alone(async () => {
      const sshd = await startRealSshd({
        config: ALIVE,
        keyOptions: 'restrict,port-forwarding,permitlisten="2",permitopen="127.0.0.1:9"',
      })
      const port = String(await freePort())
      const listen = await check(sshd, '--backend', 'ssh2', '--remote-listen', port)
      expect(listen.exitCode).toBe(11)
      const named = (name: string): CheckStep | undefined => listen.steps.find((step) => step.name === name)
      expect(named('authentication')?.result).toBe('ok')
      expect(named('forwarding')).toMatchObject({
        result: 'failed',
        remedy: expect.stringContaining(`permitlisten="*:${port}"`) as string,
      })
      expect(named('own sshd')).toMatchObject({
        result: 'doubtful',
        remedy: expect.stringContaining(`permitopen="localhost:${sshd.port}"`) as string,
      })
      expect(named('throughput')?.result).toBe('skipped')
      sshd.setAuthorizedKeys('')
      const login = await check(sshd, '--backend', 'ssh2', '--remote-listen', port)
      expect(login.exitCode).toBe(11)
      expect(login.steps.find((step) => step.name === 'authentication')).toMatchObject({
        result: 'failed',
        remedy: expect.stringContaining('authorized_keys') as string,
      })
    }),
  )

  it(
    'tells a loopback-only listener and a held port apart',
    alone(async () => {
      const sshd = await startRealSshd({ config: ['GatewayPorts no'] })
      const port = await freePort()
      const args = ['--backend', 'ssh2', '--remote-listen', String(port), '--control-address', `127.0.0.9:${port}`]
      const { steps, exitCode } = await check(sshd, ...args)
      expect(exitCode).toBe(11)
      expect(steps.find((step) => step.name === 'bind address')).toMatchObject({
        result: 'failed',
        remedy: expect.stringContaining('GatewayPorts clientspecified') as string,
      })
      const running = runTunnel({ ...sshd.options, remoteListen: { host: '', port } })
      await running.until('proven')
      const held = await check(sshd, '--backend', 'ssh2', '--remote-listen', String(port))
      expect(held.steps.find((step) => step.name === 'forwarding')?.found).toMatch(
        /another program or gateway answers|something holds/,
      )
    }),
  )

  it(
    'sees that the clock of the server is wrong',
    alone(async () => {
      // September 2001, to whoever asks.
      const sshd = await startRealSshd({ config: [...ALIVE, 'ForceCommand echo 1000000000.0'] })
      const { steps, exitCode } = await check(sshd, '--backend', 'ssh2', '--remote-listen', String(await freePort()))
      expect(exitCode).toBeUndefined()
      expect(steps.find((step) => step.name === 'clock')).toMatchObject({
        result: 'doubtful',
        found: expect.stringMatching(/ms behind/) as string,
        remedy: expect.stringMatching(/time server/) as string,
      })
    }),
  )

  it(
    'prints a table for people',
    alone(async () => {
      const { text, exitCode } = await tunnel('check', 'lab@nowhere.invalid')
      expect(exitCode).toBe(11)
      expect(text).toMatch(/FAILED/)
      expect(text).toMatch(/cannot be resolved/)
      expect(text).toMatch(/^│ name/m)
    }),
  )
})
