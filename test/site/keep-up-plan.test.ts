import { describe, expect, test } from 'vitest'
import {
  decideKeepUp,
  freshMemory,
  type KeepUpLimits,
  type KeepUpMemory,
  type LinkView,
} from '../../src/site/keep-up-plan.js'
import type { EndView } from '../../src/site/link-watch.js'

const limits: KeepUpLimits = { graceMs: 5_000, stalledAfterMs: 60_000, pauseMs: (starts) => 10_000 * 2 ** (starts - 1) }
const running: EndView = { siteUrl: 'a:1', controlAddress: 'a:2', device: 'running' }
const hidden: EndView = { ...running, device: 'hidden' }
const inactive: EndView = { ...running, device: 'inactive' }

function view(nowMs: number, change: Partial<LinkView> = {}): LinkView {
  return { nowMs, left: running, right: running, totalsKnown: true, keysAtMs: nowMs, settled: true, ...change }
}

function times(steps: readonly LinkView[], memory: KeepUpMemory = freshMemory(0)): number[] {
  const starts: number[] = []
  for (const step of steps) {
    const decision = decideKeepUp(step, memory, limits)
    memory = decision.memory
    if (decision.action === 'start') starts.push(step.nowMs)
  }
  return starts
}

const seconds = (from: number, to: number, change: Partial<LinkView>): LinkView[] =>
  Array.from({ length: to - from }, (_, index) => view((from + index) * 1000, { keysAtMs: undefined, ...change }))

describe('a link is started again', () => {
  test('at once when a device has no session and nobody waits for its keys', () => {
    expect(times([view(1000, { left: inactive })])).toEqual([1000])
    expect(times([view(1000, { right: inactive })])).toEqual([1000])
    expect(times([view(1000, { own: 'stopped' })])).toEqual([1000])
  })

  test('with growing pauses while that brings no key', () => {
    expect(times(seconds(0, 80, { right: inactive }))).toEqual([0, 10_000, 30_000, 70_000])
  })

  test('after the grace when a device waits for a session', () => {
    expect(times(seconds(0, 8, { left: { ...running, device: 'listening' } }))).toEqual([5_000])
  })

  test('when no key has reached both sites for long, even where the devices cannot be asked', () => {
    expect(times(seconds(0, 65, { left: hidden, right: hidden }))).toEqual([60_000])
    expect(times(seconds(0, 65, { keysAtMs: 3_000 }))).toEqual([63_000])
  })

  test('once where nothing at all can be seen, as with Java sites behind firewalls', () => {
    expect(times(seconds(0, 600, { left: hidden, right: hidden, totalsKnown: false }))).toEqual([0])
  })
})

describe('a link is left alone', () => {
  test('while keys flow', () => {
    expect(times([view(1_000), view(100_000), view(1_000_000)])).toEqual([])
  })

  test('while a batch is unsettled', () => {
    expect(times([view(1_000, { left: inactive, settled: false })])).toEqual([])
    expect(decideKeepUp(view(1, { left: inactive, settled: false }), freshMemory(0), limits)).toMatchObject({
      state: 'the left device has no session and nobody waits for its keys; a batch is being settled first',
    })
  })

  test('while a SiteAgent does not answer or a device is not registered, and the reason is told', () => {
    const away: EndView = { siteUrl: undefined, trouble: 'refused', controlAddress: undefined, device: 'hidden' }
    expect(decideKeepUp(view(1, { right: away }), freshMemory(0), limits)).toMatchObject({
      action: 'wait',
      state: 'the right SiteAgent does not answer (refused)',
    })
    const gone: EndView = { siteUrl: 'b:1', controlAddress: undefined, device: 'hidden' }
    expect(decideKeepUp(view(1, { right: gone }), freshMemory(0), limits)).toMatchObject({
      state: 'the right device is not registered at b:1',
    })
  })

  test('a start that brought keys resets the pauses', () => {
    const steps = [
      view(0, { left: inactive, keysAtMs: undefined }),
      view(10_000, { left: inactive, keysAtMs: undefined }),
      view(20_000, { keysAtMs: 15_000 }),
      view(21_000, { left: inactive, keysAtMs: 15_000 }),
    ]
    expect(times(steps)).toEqual([0, 10_000, 21_000])
  })
})
