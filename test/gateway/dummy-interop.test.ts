import { afterEach, describe, expect, it } from 'vitest'
import type { DummyEvent } from '../../src/standin/dummy-device.js'
import { closeDummyLab, makeLink, type DummyLink } from './support/dummy-lab.js'

afterEach(closeDummyLab)

const framesOf = (link: DummyLink): Extract<DummyEvent, { event: 'frame' }>[] =>
  link.theirs.events.history.filter((event) => event.event === 'frame')

function expectEqualKeys(link: DummyLink, keyBytes = 16): void {
  const [ours, theirs] = link.keys()
  expect(ours).toEqual(theirs)
  expect(new Set(ours.map(({ length }) => length))).toEqual(new Set([2 * keyBytes]))
  expect(new Set(ours).size).toBe(ours.length)
}

describe('our Dummy device and a C++ one', () => {
  it.each([
    ['alice', 'alice'],
    ['alice', 'bob'],
    ['bob', 'alice'],
    ['bob', 'bob'],
  ] as const)('as %s, %s on the left: equal keys in equal order, of 16 bytes and of 32', async (ours, left) => {
    await Promise.all(
      [16, 32].map(async (keyBytes) => {
        const link = await makeLink({ ours, left, keyBytes })
        await link.start()
        // A frame has 100.5 bytes, which count as 101; keys go over the borders of blocks.
        await link.untilKeys(Math.floor((7 * 101) / keyBytes))
        expectEqualKeys(link, keyBytes)
        const frames = framesOf(link)
        expect(frames.map(({ frame }) => frame)).toEqual(frames.map((_, index) => BigInt(index)))
        expect(frames.every(({ outcome }) => outcome === 'sifted')).toBe(true)
        expect(link.ours.status().parts['session']).toMatchObject({
          state: 'started',
          facts: { role: left === ours ? 'left' : 'right', peer: link.theirs.address, peerIsGateway: false },
        })
      }),
    )
  })

  it('as a Bob who measures in bases of his own choice, and keeps half', async () => {
    const link = await makeLink({ ours: 'bob', our: { bases: 'random' }, their: { qubitsPerFrame: 1_608 } })
    await link.start()
    await link.untilKeys(40)
    expectEqualKeys(link)
  })
})

describe('status towards a C++ device', () => {
  it('says that agreement is only as good as the peer, that the keys are not secret, and how many went out', async () => {
    const link = await makeLink({ ours: 'alice' })
    await link.start()
    await link.untilKeys(20)
    const { parts, warnings, counts } = await link.ours.untilPart('link', 'unagreed')
    expect(parts['link']?.reason).toMatch(/does not speak the link service.*in the order of arrival/)
    expect(warnings).toContainEqual(expect.stringMatching(/^keys are NOT SECRET: /))
    expect(warnings).toContainEqual(expect.stringMatching(/only as good as the peer: nothing compares them/))
    expect(Number(counts['delivered'])).toBeGreaterThanOrEqual(20)
    expect(counts['dropped']).toEqual({})
    expect(link.ours.log()).toContain('agreement is only as good as the peer')
    for (const key of link.keys()[0]) expect(link.ours.log()).not.toContain(key)
  })
})
