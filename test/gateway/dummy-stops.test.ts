import { afterEach, describe, expect, it } from 'vitest'
import type { DummyEvent } from '../../src/standin/dummy-device.js'
import { closeDummyLab, eventually, makeLink, unhurried, type DummyLink } from './support/dummy-lab.js'

afterEach(closeDummyLab)

const framesOf = (link: DummyLink): Extract<DummyEvent, { event: 'frame' }>[] =>
  link.theirs.events.history.filter((event) => event.event === 'frame')

function expectEqualKeys(link: DummyLink): void {
  const [ours, theirs] = link.keys()
  expect(ours).toEqual(theirs)
}

describe('a stop and a start', () => {
  it.each([
    ['alice', 'alice'],
    ['alice', 'bob'],
    ['bob', 'alice'],
    ['bob', 'bob'],
  ] as const)('as %s, %s on the left: both devices go on with the same keys', async (ours, left) => {
    const link = await makeLink({ ours, left, ...unhurried })
    for (let round = 0; round < 2; round += 1) {
      await link.start()
      await link.untilQuiet()
      await link.end()
      await link.ours.untilPart('session', 'none', 'listening')
    }
    // What came with the end, while nobody waited any more, comes out with the first block of the next session.
    await link.start()
    await link.untilQuiet()
    expectEqualKeys(link)
    expect(link.ours.status().counts).toMatchObject({ received: link.theirs.keys.length, held: 0, dropped: {} })
  })

  it('frames are counted from 0 in each session', async () => {
    const link = await makeLink({ ours: 'bob', their: { faults: { endSessionHangs: false } } })
    await link.start()
    await eventually('frames', () => framesOf(link).length >= 4)
    await link.end()
    const before = framesOf(link).length
    await link.start()
    await eventually('frames of the second session', () => framesOf(link).length >= before + 3)
    expect(framesOf(link).slice(before, before + 3)).toEqual(
      [0n, 1n, 2n].map((frame) => ({ event: 'frame', frame, outcome: 'sifted' })),
    )
  })
})

describe('frames that one side loses', () => {
  it('a frame that the C++ Bob never asks about costs both sites the same keys', async () => {
    const link = await makeLink({ ours: 'alice' })
    await link.start()
    await link.untilKeys(20)
    link.theirs.faults.loseFrames = 3
    await eventually(
      'the lost frames',
      () => framesOf(link).filter(({ outcome }) => outcome === 'dropped').length === 3,
    )
    await link.untilKeys(link.keys()[0].length + 30)
    expectEqualKeys(link)
  })

  it('a C++ Bob with one wrong bit is not noticed by anybody, as upstream, and that is what status says', async () => {
    const link = await makeLink({ ours: 'alice' })
    await link.start()
    await link.untilKeys(20)
    link.theirs.faults.corruptFrames = 1
    await link.untilKeys(60)
    const [ours, theirs] = link.keys()
    expect(ours).not.toEqual(theirs)
    expect((await link.ours.untilPart('link', 'unagreed')).warnings).toContainEqual(
      expect.stringContaining('nothing compares them'),
    )
  })
})

describe('where nobody reads', () => {
  it('keys are kept and come out with the first block after, in order', async () => {
    const link = await makeLink({ ours: 'alice' })
    link.siteOfOurs.faults.readsNothing = true
    await link.start()
    await eventually('keys at the other site', () => link.siteOfTheirs.receivedKeys().length > 60)
    expect(link.siteOfOurs.receivedKeys()).toHaveLength(0)
    link.siteOfOurs.faults.readsNothing = false
    link.siteOfOurs.readAgain()
    await link.untilKeys(80)
    expectEqualKeys(link)
  })
})
