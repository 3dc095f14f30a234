import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { GatewayStatus } from '../../src/gateway/status-socket.js'
import { runCli } from '../support/cli.js'
import { freePort } from '../tunnel/real-sshd.js'
import {
  closeLab,
  startAttach,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
  startUnit,
  tempFolder,
} from './support/lab.js'

afterEach(closeLab)

describe('attach takes its settings', () => {
  it("from a CQPToolkit device program's file as it is, and what that lacks from flags", async () => {
    const [unit, ssh, agent] = await Promise.all([
      startUnit({ pair: 'file' }),
      startEmbeddedSshd(),
      startSiteAgent('right'),
    ])
    const folder = tempFolder()
    const [bindPort, controlPort] = [await freePort(), await freePort()]
    const file = join(folder, 'dummy-b.json')
    const document = {
      controlParams: {
        config: {
          id: 'A_B_B',
          side: 'Bob',
          switchName: 'none',
          switchPort: ['3', '4'],
          kind: 'lab kind',
          bytesPerKey: 0,
        },
        bindAddress: `127.0.0.1:${bindPort}`,
        controlAddress: `127.0.0.1:${controlPort}`,
        siteAgentAddress: agent.address,
      },
      bobAddress: '',
    }
    writeFileSync(file, JSON.stringify(document, null, 1))
    const gateway = startAttach({
      args: [
        ...['-c', file, unit.path, '--driver', 'qix', '--tunnel', ssh.server, '-i', ssh.keyFile],
        ...['--known-hosts', ssh.knownHosts, '--log-format', 'json'],
      ],
      id: 'A_B_B',
      home: folder,
    })
    const status = await gateway.untilPart('registration', 'registered')
    expect(agent.devices()).toEqual([{ id: 'A_B_B', controlAddress: `127.0.0.1:${controlPort}` }])
    expect(ssh.sshd.forwardedPorts()).toEqual([controlPort])
    expect(status.parts['server']?.facts?.['address']).toBe(`127.0.0.1:${bindPort}`)
    expect(status.parts['registration']?.facts?.['kind']).toBe('lab kind')
    expect(status.parts['device']?.facts?.['side']).toBe('bob')
    expect((await gateway.stop()).code).toBe(0)
  })

  it('from qkd-gw.toml in the working folder, and flags win', async () => {
    const [unit, agent] = await Promise.all([startUnit({ pair: 'toml' }), startSiteAgent('left')])
    const folder = tempFolder()
    writeFileSync(
      join(folder, 'qkd-gw.toml'),
      [
        ...['[device]', `path = "${unit.path}"`, 'driver = "qix"', 'side = "alice"', 'id = "X_Y_X"'],
        ...['[server]', 'listen = "127.0.0.1:0"', '[site]', `agent = "${agent.address}"`],
        ...['[log]', 'format = "json"', ''],
      ].join('\n'),
    )
    const gateway = startAttach({ args: ['--id', 'A_B_A'], id: 'A_B_A', home: folder })
    const status = await gateway.untilPart('registration', 'registered')
    expect(agent.devices().map(({ id }) => id)).toEqual(['A_B_A'])
    expect(status.parts['tunnel']?.facts?.['tunnel']).toBe('none')
  })

  it('and without tunnel and SiteAgent serves what it can, and says what is missing', async () => {
    const unit = await startUnit({ pair: 'alone' })
    const gateway = startGateway({ device: unit.path, side: 'alice' })
    await gateway.untilPart('device', 'producing')
    await gateway.said(/--tunnel user@host/)
    await gateway.said(/--site-agent host:port/)
    const { parts } = await gateway.status()
    expect(parts['server']?.state).toBe('serving')
    expect(parts['registration']).toMatchObject({ state: 'off', needs: '--site-agent host:port' })
  })
})

describe('qkd-gw status', () => {
  it('says for machines and for people where each part of a running gateway stands', async () => {
    const [unit, ssh, agent] = await Promise.all([
      startUnit({ pair: 'status' }),
      startEmbeddedSshd(),
      startSiteAgent('left'),
    ])
    const gateway = startGateway({ device: unit.path, side: 'alice', ssh, siteAgent: agent.address })
    await gateway.untilPart('registration', 'registered')
    await gateway.untilPart('device', 'producing')
    const asked = ['status', '--state-folder', gateway.stateFolder]
    const json = await runCli([...asked, '--json'])
    expect(json.code).toBe(0)
    const { gateways } = JSON.parse(json.stdout) as { gateways: GatewayStatus[] }
    expect(gateways).toHaveLength(1)
    const [status] = gateways
    expect(status).toMatchObject({ pid: gateway.pid, id: gateway.id, device: unit.path })
    expect(Object.keys(status?.parts ?? {})).toEqual(
      expect.arrayContaining(['device', 'server', 'tunnel', 'registration', 'session', 'link']),
    )
    for (const [name, part] of Object.entries(status?.parts ?? {})) {
      expect(part.sinceMs, name).toBeGreaterThan(status?.startedAtMs ?? Infinity - 1)
      expect(part.sinceMs, name).toBeLessThanOrEqual(Date.now())
    }
    expect(status?.parts['tunnel']).toMatchObject({ state: 'proven', facts: { via: 'here' } })
    expect(status?.parts['session']?.needs).toContain('StartNode')

    const text = await runCli(asked)
    expect(text.code).toBe(0)
    for (const word of ['producing', 'serving', 'proven', 'registered', 'needs StartNode', `pid ${gateway.pid}`]) {
      expect(text.stdout).toContain(word)
    }

    // Nobody but this user may ask.
    expect(statSync(gateway.stateFolder).mode & 0o777).toBe(0o700)
    const socket = join(gateway.stateFolder, `${gateway.id}.sock`)
    expect(statSync(socket).mode & 0o777).toBe(0o600)

    gateway.kill('SIGKILL')
    await gateway.ended
    const afterwards = await runCli([...asked, '--json'])
    expect(afterwards.code).toBe(12)
    expect(JSON.parse(afterwards.stdout)).toEqual({ gateways: [] })
  })
})
