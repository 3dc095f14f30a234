import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { freePort } from '../tunnel/real-sshd.js'
import {
  closeLab,
  eventually,
  startDebianSshd,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
  startUnit,
  tempFolder,
} from './support/lab.js'
import { accountedFor, startTwoSites } from './support/two-sites.js'

afterEach(closeLab)

describe('a device', () => {
  it('that is absent keeps nobody from registering, and is found whenever it comes', async () => {
    const [ssh, agent] = await Promise.all([startEmbeddedSshd(), startSiteAgent('left')])
    const path = join(tempFolder(), 'ttyQIX')
    const gateway = startGateway({ device: path, side: 'alice', ssh, siteAgent: agent.address })
    const { parts } = await gateway.untilPart('registration', 'registered')
    expect(parts['device']?.state).toBe('absent')
    expect(parts['device']?.reason).toContain(path)
    await startUnit({ pair: 'late', link: path })
    await gateway.untilPart('device', 'producing')
  })

  it('pulled and put back during a session ends nothing but its own keys, which go on', async () => {
    const { units, agents, gateways } = await startTwoSites({ rate: 100 })
    const before = (await gateways[0].status()).parts
    for (let round = 1; round <= 4; round += 1) {
      const keys = agents[0].count
      await units[0].fault('unplug', '300')
      await eventually('the device is missed', async () => {
        const { state } = (await gateways[0].status()).parts['device'] ?? {}
        return state !== 'producing' && state !== undefined
      })
      await gateways[0].untilPart('device', 'producing')
      await agents[0].untilKeys(keys + 60)
    }
    const after = (await gateways[0].status()).parts
    for (const part of ['server', 'registration', 'session']) {
      expect(after[part]?.sinceMs, part).toBe(before[part]?.sinceMs)
    }
    expect(after['device']?.facts?.['openings']).toBe(5)
    const [a, b] = await Promise.all([agents[0].keys(), agents[1].keys()])
    const compared = Math.min(a.length, b.length)
    expect(compared).toBeGreaterThan(200)
    expect(a.slice(0, compared)).toEqual(b.slice(0, compared))
    for (const gateway of gateways) {
      const { counts } = await gateway.status()
      expect(accountedFor(counts)).toBe(counts['received'])
    }
  })
})

describe('attach', () => {
  it.each([
    ['device', 'sshd', 'SiteAgent'],
    ['SiteAgent', 'device', 'sshd'],
    ['sshd', 'SiteAgent', 'device'],
  ])('waits for everything and takes it as it comes: %s, %s, %s', async (...order) => {
    const folder = tempFolder()
    const path = join(folder, 'ttyQIX')
    const [sitePort, sshPort] = [await freePort(), await freePort()]
    // Debian's sshd is there once, so that its files are, and gone when the gateway starts.
    const ssh = await startDebianSshd({ port: sshPort })
    await ssh.sshd.stop()
    const gateway = startGateway({ device: path, side: 'alice', ssh, siteAgent: `127.0.0.1:${sitePort}` })
    await gateway.untilPart('device', 'absent')
    await gateway.untilPart('tunnel', 'down')
    const provide: Readonly<Record<string, () => Promise<unknown>>> = {
      device: async () => {
        await startUnit({ pair: 'order', link: path })
        await gateway.untilPart('device', 'producing')
      },
      sshd: async () => {
        await ssh.sshd.start()
        await gateway.untilPart('tunnel', 'proven')
      },
      SiteAgent: () => startSiteAgent('left', sitePort),
    }
    for (const what of order) {
      expect((await gateway.status()).parts['registration']?.state).not.toBe('registered')
      await provide[what]?.()
    }
    await gateway.untilPart('registration', 'registered')
    await gateway.untilPart('device', 'producing')
  })
})
