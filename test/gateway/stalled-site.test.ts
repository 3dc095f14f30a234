import { afterEach, expect, it } from 'vitest'
import { ISiteAgent } from '../../src/rpc/gen/cqp/remote/site_pb.js'
import { pathOf } from '../../src/site/link-path.js'
import { callUnary } from '../../src/standin/wire.js'
import { clientOf, closeDummyLab, eventually, startOurs, startSite, type OurDevice } from './support/dummy-lab.js'

afterEach(closeDummyLab)

/** Keys that the device has given to this gateway so far. */
const given = (device: OurDevice): number => Number(device.status().counts['received'])

const warned = (device: OurDevice, text: string): boolean => device.status().warnings.join('\n').includes(text)

it.each(['right', 'left'] as const)(
  'a site that stops reading is shown at both ends, holds the other one back, and nothing is lost (the %s one)',
  { timeout: 120_000 },
  async (seat) => {
    const [a, b] = await Promise.all([startSite({ name: 'A' }), startSite({ name: 'B', seat: 'right' })])
    const [left, right] = await Promise.all([
      startOurs({ side: 'alice', siteAgent: a.address, id: 'A_B_A', keyBytes: 32 }),
      startOurs({ side: 'bob', siteAgent: b.address, id: 'A_B_B', keyBytes: 32 }),
    ])
    await Promise.all([left, right].map((device) => device.untilPart('registration', 'registered')))
    const path = pathOf({ site: a.url, deviceId: left.id }, { site: b.url, deviceId: right.id })
    await callUnary(clientOf(a), ISiteAgent.method.startNode, path)
    const both = (): number => Math.min(a.receivedKeys().length, b.receivedKeys().length)
    await eventually('first keys at both sites', () => both() >= 20)

    const stalled = seat === 'right' ? { site: b, device: right } : { site: a, device: left }
    const other = seat === 'right' ? { site: a, device: left } : { site: b, device: right }
    stalled.site.faults.readsNothing = true
    await eventually('its own gateway says so', () => warned(stalled.device, 'it does not read'))
    const linkOf = (device: OurDevice) => device.status().parts['link']
    await eventually('and its link waits', () => linkOf(stalled.device)?.state === 'waiting')
    expect(linkOf(stalled.device)?.reason).toContain('does not read')
    expect(stalled.device.log()).toContain('link waiting: the SiteAgent does not read')
    // The right site never has what the left one lacks; the left one is ahead by one batch, and both say so.
    const ahead = other.site.receivedKeys().length - stalled.site.receivedKeys().length
    if (seat === 'left') expect(ahead).toBe(0)
    else {
      expect(ahead).toBeGreaterThan(0)
      for (const device of [left, right]) expect(warned(device, `${ahead} keys are at one site only`)).toBe(true)
      await eventually('the other one waits', () => linkOf(left)?.reason?.startsWith('the other SiteAgent has not'))
    }
    expect(other.device.status().parts['link']?.facts).toMatchObject({
      otherTotal: String(stalled.site.receivedKeys().length),
    })

    const [had, before] = [other.site.receivedKeys().length, given(other.device)]
    await eventually('many more keys of the devices', () => given(other.device) >= before + 200)
    expect(other.site.receivedKeys()).toHaveLength(had)

    stalled.site.faults.readsNothing = false
    stalled.site.readAgain()
    await eventually('all that waited, at both sites', () => both() >= had + 150)
    const compared = both()
    expect(a.digest(compared)).toBe(b.digest(compared))
    for (const device of [left, right]) {
      await eventually('nothing is shown any more', () => !warned(device, 'does not read'))
      expect(device.status().counts['dropped']).toEqual({})
    }
  },
)
