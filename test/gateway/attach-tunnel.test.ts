import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { runCli } from '../support/cli.js'
import { freePort } from '../tunnel/real-sshd.js'
import {
  closeLab,
  deviceId,
  eventually,
  startAttach,
  startDebianSshd,
  startUnit,
  tempFolder,
  type DebianSshd,
  type GatewayProcess,
} from './support/lab.js'
import { startTwoSites } from './support/two-sites.js'

afterEach(closeLab)

/** After the first failure it waits for an hour, unless somebody wishes otherwise. */
async function startPatient(ssh: DebianSshd, tunnel: readonly string[] = []): Promise<GatewayProcess> {
  const unit = await startUnit({ pair: 'patient' })
  const home = tempFolder()
  const config = join(home, 'patient.toml')
  const lines = [
    '[tunnel]',
    'backend = "ssh2"',
    'probeIntervalMs = 500',
    'fastRetriesMs = [3600000, 3600000]',
    ...tunnel,
  ]
  writeFileSync(config, `${lines.join('\n')}\n`)
  return startAttach({
    args: [
      ...[unit.path, '--config', config, '--driver', 'qix', '--side', 'alice', '--id', deviceId('A')],
      ...['--listen', '127.0.0.1:0', '--tunnel', ssh.server, '--identity', ssh.keyFile],
      ...['--known-hosts', ssh.knownHosts, '--remote-listen', `127.0.0.1:${await freePort()}`],
      ...['--log-level', 'info', '--log-format', 'json'],
    ],
    id: deviceId('A'),
    home,
  })
}

describe('a tunnel that waits for its next try', () => {
  it.each<[string, (gateway: GatewayProcess) => Promise<void>]>([
    ['SIGUSR2', async (gateway) => gateway.kill('SIGUSR2')],
    [
      'qkd-gw tunnel reconnect',
      async (gateway) => {
        const { code, stdout } = await runCli(['tunnel', 'reconnect', '--state-folder', gateway.stateFolder])
        expect({ code, stdout }).toEqual({ code: 0, stdout: 'told 1 gateway to try again\n' })
      },
    ],
  ])('tries at once after %s', async (_, nudge) => {
    const ssh = await startDebianSshd()
    const gateway = await startPatient(ssh)
    await gateway.untilPart('tunnel', 'proven')
    await ssh.sshd.stop('SIGKILL')
    const { parts } = await gateway.untilPart('tunnel', 'down')
    expect(parts['tunnel']?.reason).toMatch(/ended|closed|reset/)
    await ssh.sshd.start()
    await nudge(gateway)
    await gateway.untilPart('tunnel', 'proven')
  })
})

describe('a tunnel with a spare connection', () => {
  it('is asked for by name, and status shows it', async () => {
    const gateway = await startPatient(await startDebianSshd(), ['spareConnection = true'])
    const facts = await eventually('a spare connection stands by', async () => {
      const { parts } = await gateway.untilPart('tunnel', 'proven')
      const present = parts['tunnel']?.facts
      return present?.['spareConnection'] === 'ready' ? present : undefined
    })
    expect(facts).toMatchObject({ connections: 1, sparesUsed: 0 })
  })
})

describe('a tunnel that is lost in the middle of a session', () => {
  it('leaves both sites at the same key', { timeout: 240_000 }, async () => {
    const { ssh, agents, gateways } = await startTwoSites({ rate: 250 })
    await Promise.all(agents.map((agent) => agent.untilKeys(200)))
    ssh.sshd.signalSessions('SIGKILL')
    await gateways[0].said(/tunnel down/)
    await gateways[0].untilPart('tunnel', 'proven')
    // The SiteAgent of the left site asks no more by itself: what both hold when nothing moves any longer is all they get.
    let still = { keys: '', sinceMs: 0 }
    await eventually('both sites stand still', () => {
      const keys = agents.map(({ count }) => count).join()
      if (keys !== still.keys) still = { keys, sinceMs: performance.now() }
      return performance.now() - still.sinceMs > 3_000
    })
    const keys = await Promise.all(agents.map((agent) => agent.keys()))
    expect(keys[0]?.length).toBeGreaterThanOrEqual(200)
    expect(keys[0]).toEqual(keys[1])
  })
})
