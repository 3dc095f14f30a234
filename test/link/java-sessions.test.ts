import { afterEach, expect, it } from 'vitest'
import { FakeSite, type Gateway, offer, startGateway, startSession } from './bench.js'

const running: Gateway[] = []

async function javaGateway(): Promise<Gateway> {
  const site = new FakeSite()
  site.dialectNow = 'java'
  const gateway = await startGateway({ site })
  running.push(gateway)
  return gateway
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.crash()))
})

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

it('two sites that number anew with each WaitForSession begin each with the same key, however often they ask', async () => {
  const left = await javaGateway()
  const right = await javaGateway()
  await startSession(left, right)
  let next = 0
  const keys = setInterval(() => {
    for (const gateway of [left, right]) offer(gateway, next, next + 1)
    next += 1
  }, 1)
  try {
    for (let round = 0; round < 25; round += 1) {
      await pause(20 + round * 4)
      // As StartNode does while a link runs: one more reader at each site, the older one stays.
      left.link.waitForSession(new Uint8Array(), left.site.open())
      await pause(round % 8)
      right.link.waitForSession(new Uint8Array(), right.site.open())
      await expect
        .poll(() => Math.min(left.site.streams.at(-1)?.taken ?? 0, right.site.streams.at(-1)?.taken ?? 0), {
          timeout: 10_000,
        })
        .toBeGreaterThan(0)
      const common = Math.min(left.site.keys.length, right.site.keys.length)
      expect(right.site.keys.slice(0, common)).toEqual(left.site.keys.slice(0, common))
    }
  } finally {
    clearInterval(keys)
  }
})

it('sites whose readers are cut go on with the next pair of WaitForSessions, whatever was verified for the last', async () => {
  const left = await javaGateway()
  const right = await javaGateway()
  let streams = await startSession(left, right)
  let next = 0
  const keys = setInterval(() => {
    for (const gateway of [left, right]) offer(gateway, next, next + 8)
    next += 8
  }, 1)
  try {
    for (let round = 0; round < 40; round += 1) {
      await expect
        .poll(() => Math.min(streams.left.taken, streams.right.taken), { timeout: 5_000, interval: 1 })
        .toBeGreaterThan(0)
      await pause(round % 9)
      streams.left.cancel()
      streams.right.cancel()
      streams = { left: left.site.open(), right: right.site.open() }
      left.link.waitForSession(new Uint8Array(), streams.left)
      right.link.waitForSession(new Uint8Array(), streams.right)
    }
  } finally {
    clearInterval(keys)
  }
})
