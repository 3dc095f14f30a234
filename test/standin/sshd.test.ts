import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { addressesToBind, isPermitted } from '../../src/standin/sshd-rules.js'
import { generateSshKey, startStandinSshd, type StandinSshd } from '../../src/standin/sshd.js'

const cleanups: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function startEchoServer(): Promise<number> {
  const server = net.createServer((socket) => socket.on('error', () => {}).pipe(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => void server.close())
  return (server.address() as net.AddressInfo).port
}

async function echoThrough(port: number, text: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1')
  socket.write(text)
  const [answer] = (await once(socket, 'data')) as [Buffer]
  socket.destroy()
  return answer.toString()
}

/** Runs the system's ssh with a listener and resolves with the port that the server gave it. */
async function sshWithListener(sshd: StandinSshd, privateKey: string, forward: string): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-sshd-'))
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, 'key'), privateKey, { mode: 0o600 })
  writeFileSync(join(folder, 'known'), `[127.0.0.1]:${sshd.port} ${sshd.hostKeyLine}\n`)
  const child = spawn(
    'ssh',
    ['-F', 'none', '-N', '-o', 'BatchMode=yes', '-o', `UserKnownHostsFile=${join(folder, 'known')}`]
      .concat(['-o', 'ExitOnForwardFailure=yes', '-i', join(folder, 'key'), '-p', String(sshd.port)])
      .concat(['-R', forward, 'lab@127.0.0.1']),
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  cleanups.push(async () => {
    if (child.exitCode !== null) return
    child.kill()
    await once(child, 'exit')
  })
  let said = ''
  for await (const chunk of child.stderr) {
    said += String(chunk)
    const match = /Allocated port (\d+)/.exec(said)
    if (match !== null) return Number(match[1])
  }
  throw new Error(`ssh ended: ${said}`)
}

describe('the embedded sshd', () => {
  it("forwards for the system's ssh -R with a port of the server's choice", async () => {
    const echo = await startEchoServer()
    const pair = generateSshKey()
    const sshd = await startStandinSshd({ user: 'lab', authorizedKeys: [pair.publicKey] })
    cleanups.push(() => sshd.close())
    const port = await sshWithListener(sshd, pair.privateKey, `0:127.0.0.1:${echo}`)
    expect(sshd.forwardedPorts()).toEqual([port])
    expect(await echoThrough(port, 'over there and back')).toBe('over there and back')
  })

  it('says no to a listener where its permitlisten does not name it', async () => {
    const pair = generateSshKey()
    const sshd = await startStandinSshd({ user: 'lab', authorizedKeys: [pair.publicKey], permitListen: ['1'] })
    cleanups.push(() => sshd.close())
    await expect(sshWithListener(sshd, pair.privateKey, '0:127.0.0.1:9')).rejects.toThrow(/forwarding failed/)
  })

  it('refuses a key that is not on its list', async () => {
    const sshd = await startStandinSshd({ user: 'lab', authorizedKeys: [generateSshKey().publicKey] })
    cleanups.push(() => sshd.close())
    await expect(sshWithListener(sshd, generateSshKey().privateKey, '0:127.0.0.1:9')).rejects.toThrow(
      /Permission denied/,
    )
    expect(sshd.counts.authFailures).toBeGreaterThan(0)
  })
})

describe('the rules of the embedded sshd', () => {
  it('binds loopback only with GatewayPorts no, whatever is asked', () => {
    expect(addressesToBind('', 'no', ['127.0.0.2'])).toEqual(['127.0.0.1'])
    expect(addressesToBind('127.0.0.9', 'no', ['127.0.0.2'])).toEqual(['127.0.0.1'])
  })

  it('binds all addresses with GatewayPorts yes, and those asked for with clientspecified', () => {
    expect(addressesToBind('127.0.0.9', 'yes', ['127.0.0.2'])).toEqual(['127.0.0.2'])
    expect(addressesToBind('127.0.0.9', 'clientspecified', ['127.0.0.2'])).toEqual(['127.0.0.9'])
    expect(addressesToBind('*', 'clientspecified', ['127.0.0.2'])).toEqual(['127.0.0.2'])
  })

  it('tells localhost from 127.0.0.1 in permissions, as sshd does', () => {
    expect(isPermitted(['localhost:9000'], '127.0.0.1', 9000)).toBe(false)
    expect(isPermitted(['*:9000'], '127.0.0.1', 9000)).toBe(true)
    expect(isPermitted(['9000'], '', 9000)).toBe(true)
    expect(isPermitted(undefined, 'anything', 1)).toBe(true)
  })
})
