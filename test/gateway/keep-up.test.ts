import { afterEach, describe, expect, it } from 'vitest'
import { freePort } from '../tunnel/real-sshd.js'
import {
  closeLab,
  deviceId,
  eventually,
  startEmbeddedSshd,
  startGateway,
  startSiteAgent,
  startUnit,
} from './support/lab.js'

afterEach(closeLab)

describe("the left gateway's link.keepUp", () => {
  it('starts the link, and after a cut tunnel keys flow again without a hand, equal at both sites', async () => {
    const pair = 'keep-up'
    const [unitA, unitB] = await Promise.all([startUnit({ pair, rate: 100 }), startUnit({ pair, rate: 100 })])
    const [sshA, sshB] = await Promise.all([startEmbeddedSshd(), startEmbeddedSshd()])
    const [a, b] = await Promise.all([startSiteAgent('left'), startSiteAgent('right')])
    const [portA, portB] = await Promise.all([freePort(), freePort()])
    const [idA, idB] = [deviceId('A'), deviceId('B')]
    const left = startGateway({
      device: unitA.path,
      side: 'alice',
      id: idA,
      ssh: sshA,
      siteAgent: a.address,
      remoteListen: `127.0.0.1:${portA}`,
      toml: `[link.keepUp]
leftSite = "${a.address}"
leftId = "${idA}"
rightSite = "${b.address}"
rightId = "${idB}"`,
    })
    startGateway({
      device: unitB.path,
      side: 'bob',
      id: idB,
      ssh: sshB,
      siteAgent: b.address,
      remoteListen: `127.0.0.1:${portB}`,
    })
    const both = (): number => Math.min(a.receivedKeys().length, b.receivedKeys().length)
    await eventually('first keys at both sites', () => both() >= 40)
    for (const ssh of [sshA, sshB]) {
      const before = both()
      ssh.sshd.cut()
      await eventually('keys again after the cut', () => both() >= before + 60)
    }
    const compared = both()
    expect(a.digest(compared)).toBe(b.digest(compared))
    expect(left.stderr()).toContain('starting the link')
  })
})
