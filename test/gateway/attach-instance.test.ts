import { existsSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import {
  closeLab,
  deviceId,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
  startUnit,
  tempFolder,
} from './support/lab.js'

afterEach(closeLab)

describe('a second attach', () => {
  it('of the same device, id or state folder names the running process and touches nothing', async () => {
    const [unit, other] = await Promise.all([startUnit({ pair: 'one' }), startUnit({ pair: 'two' })])
    const agent = await startSiteAgent('left')
    const ssh = await startEmbeddedSshd()
    const folder = tempFolder()
    const alias = join(folder, 'tty-by-another-name')
    symlinkSync(unit.path, alias)
    const first = startGateway({ device: unit.path, side: 'alice', ssh, siteAgent: agent.address })
    await first.untilPart('registration', 'registered')
    await first.untilPart('device', 'producing')
    const logins = ssh.sshd.counts.connections
    const unused = join(folder, 'state')

    const attempts = {
      device: { device: unit.path, id: deviceId('X'), stateFolder: unused },
      'device under another name': { device: alias, id: deviceId('X'), stateFolder: unused },
      id: { device: other.path, id: first.id, stateFolder: unused },
      'state folder': { device: other.path, id: deviceId('X'), stateFolder: first.stateFolder },
    }
    for (const [what, options] of Object.entries(attempts)) {
      const second = startGateway({ side: 'alice', ssh, siteAgent: agent.address, ...options })
      const { code } = await second.ended
      expect(second.stderr(), what).toContain(`process ${first.pid}`)
      expect(second.stderr(), what).toContain('E_SECOND_INSTANCE')
      expect(code, what).toBe(8)
    }
    expect(existsSync(unused)).toBe(false)
    expect(ssh.sshd.counts.connections).toBe(logins)
    expect(agent.devices().map(({ id }) => id)).toEqual([first.id])
    expect((await first.status()).parts['device']?.state).toBe('producing')
    expect((await first.stop()).code).toBe(0)
  })

  it('of another device is not refused because its node was that of another one before', async () => {
    const folder = tempFolder()
    const unit = await startUnit({ pair: 'one' })
    const name = join(folder, 'ttyQIX')
    symlinkSync(unit.path, name)
    const first = startGateway({ device: name, side: 'alice', id: deviceId('X') })
    await first.untilPart('device', 'producing')
    // As after a renumbering: the name by which the first one knows its device no longer leads to that node.
    rmSync(name)
    const node = realpathSync(unit.path)
    const second = startGateway({ device: node, side: 'alice', id: deviceId('Y') })
    // It runs, and waits for the port, which the first one has not given back here.
    await second.untilPart('device', 'busy')
    // Whoever asks for that node again meets the one that claims it now.
    const third = startGateway({ device: node, side: 'alice', id: deviceId('Z') })
    expect((await third.ended).code).toBe(8)
    expect(third.stderr()).toContain(`process ${second.pid}`)
  })

  it('is refused too where the device came only after the first one had started', async () => {
    const path = join(tempFolder(), 'ttyQIX')
    const first = startGateway({ device: path, side: 'alice', id: deviceId('X') })
    await first.untilPart('device', 'absent')
    await startUnit({ pair: 'late', link: path })
    await first.untilPart('device', 'producing')
    const second = startGateway({ device: path, side: 'alice', id: deviceId('Y') })
    expect((await second.ended).code).toBe(8)
    expect(second.stderr()).toContain(`process ${first.pid}`)
  })

  it('starts at once after the first one was killed, and finds its way back to the same keys', async () => {
    const unit = await startUnit({ pair: 'killed' })
    const agent = await startSiteAgent('left')
    const ssh = await startEmbeddedSshd()
    const options = {
      ...{
        device: unit.path,
        side: 'alice' as const,
        ssh,
        siteAgent: agent.address,
        stateFolder: join(tempFolder(), 's'),
      },
    }
    for (let round = 0; round < 3; round += 1) {
      const gateway = startGateway(options)
      await gateway.untilPart('registration', 'registered')
      await gateway.untilPart('device', 'producing')
      gateway.kill('SIGKILL')
      expect((await gateway.ended).signal).toBe('SIGKILL')
    }
    const last = startGateway(options)
    await last.untilPart('registration', 'registered')
    expect(agent.devices()).toHaveLength(1)
    expect((await last.stop()).code).toBe(0)
    expect(agent.devices()).toEqual([])
  })
})
