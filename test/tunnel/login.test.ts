import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { cleanUp, onCleanup, runTunnel } from './bench-tunnel.js'
import { keygen, startRealSshd } from './real-sshd.js'

afterEach(cleanUp)

const ALIVE = ['ClientAliveInterval 1', 'ClientAliveCountMax 1', 'GatewayPorts clientspecified']

describe('logging in', () => {
  it('asks once for the passphrase of an encrypted key, however often it reconnects', async () => {
    const sshd = await startRealSshd({ config: ALIVE, passphrase: 'sesame' })
    let asked = 0
    const running = runTunnel({
      ...sshd.options,
      prompt: () => {
        asked += 1
        return Promise.resolve('sesame')
      },
    })
    await running.until('proven')
    const again = running.next('proven')
    sshd.signalSessions('SIGKILL')
    await running.next('down')
    await again
    await running.until('proven')
    expect(asked).toBe(1)
  })

  it('goes on where the ssh-agent holds another key than before', async () => {
    const sshd = await startRealSshd({ config: ALIVE })
    const agent = `${sshd.folder}/agent`
    const running = spawn('ssh-agent', ['-D', '-a', agent], { stdio: ['ignore', 'pipe', 'ignore'] })
    onCleanup(() => void running.kill())
    await once(running.stdout, 'data')
    const tunnel = runTunnel({ ...sshd.options, identityFiles: [], agent })
    await tunnel.until('needs-attention')
    execFileSync('ssh-add', ['-q', sshd.keyFile], { env: { ...process.env, SSH_AUTH_SOCK: agent } })
    await tunnel.until('proven')
  })

  it('names the way out where an encrypted key meets no terminal', async () => {
    const sshd = await startRealSshd({ config: ALIVE, passphrase: 'sesame' })
    const running = runTunnel(sshd.options)
    await expect(running.ended).rejects.toMatchObject({
      code: 'E_KEY_FILE',
      exitCode: 6,
      remedy: expect.stringMatching(/--agent/) as string,
    })
  })

  it('uses RSA and ECDSA keys, several candidates, and an ssh-agent', async () => {
    for (const clientKeyType of ['rsa', 'ecdsa'] as const) {
      const sshd = await startRealSshd({ config: ALIVE, clientKeyType, hostKeyTypes: ['rsa', 'ecdsa'] })
      const wrong = `${sshd.folder}/wrong`
      keygen(wrong, 'ed25519')
      const running = runTunnel({ ...sshd.options, identityFiles: [wrong, sshd.keyFile] })
      await running.until('proven')
      await running.stop()
    }
    const sshd = await startRealSshd({ config: ALIVE, passphrase: 'sesame' })
    const agent = spawn('ssh-agent', ['-D', '-a', `${sshd.folder}/agent`], { stdio: ['ignore', 'pipe', 'ignore'] })
    onCleanup(() => void agent.kill())
    await once(agent.stdout, 'data')
    execFileSync('ssh-keygen', ['-q', '-p', '-P', 'sesame', '-N', '', '-f', sshd.keyFile])
    execFileSync('ssh-add', ['-q', sshd.keyFile], { env: { ...process.env, SSH_AUTH_SOCK: `${sshd.folder}/agent` } })
    execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'sesame', '-f', sshd.keyFile])
    // The file is encrypted and nobody can be asked: the agent holds the same key.
    const running = runTunnel({ ...sshd.options, agent: `${sshd.folder}/agent` })
    await running.until('proven')
  })
})
