import { afterEach, describe, expect, it } from 'vitest'
import {
  call,
  countsHold,
  type Gateway,
  type GatewayOptions,
  offer,
  startGateway,
  startSession,
  until,
} from './bench.js'

const running: Gateway[] = []

async function gateway(options?: GatewayOptions): Promise<Gateway> {
  const started = await startGateway(options)
  running.push(started)
  return started
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.crash()))
})

describe('two gateways', () => {
  it('deliver the same keys in the same order, whatever one side lacks', async () => {
    const left = await gateway()
    const right = await gateway()
    await startSession(left, right)
    const leftLacks = [3, 70, 71, 500]
    const rightLacks = [5, 72, 900, 901, 902]
    for (let from = 0; from < 1_300; from += 100) {
      offer(left, from, from + 100, leftLacks)
      offer(right, from, from + 100, rightLacks)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    await left.site.has(1_100)
    await until('both stores are equal', () => left.site.keys.length === right.site.keys.length)
    expect(left.site.keys).toEqual(right.site.keys)
    expect(countsHold(left, right)).toBe(true)
  })

  it('keep what waits without a session and deliver it when one begins', async () => {
    const left = await gateway()
    const right = await gateway()
    offer(left, 0, 200)
    offer(right, 0, 200)
    await startSession(left, right)
    await left.site.has(150)
    await right.site.has(150)
    expect(left.link.linkStatus.value).toEqual({ state: 'sessionStarted', errorCode: 0 })
    expect(right.link.linkStatus.value).toEqual({ state: 'sessionStarted', errorCode: 0 })
  })

  it('go on after stops at either site with exactly the key that follows', async () => {
    const left = await gateway()
    const right = await gateway()
    let next = 0
    for (let cycle = 0; cycle < 12; cycle += 1) {
      const streams = await startSession(left, right)
      const before = left.site.keys.length
      left.site.takesOnCancel = cycle % 2 === 0
      right.site.takesOnCancel = cycle % 3 === 0
      for (let burst = 0; burst < 4; burst += 1) {
        offer(left, next, next + 20)
        offer(right, next, next + 20)
        next += 20
        await new Promise((resolve) => setTimeout(resolve, cycle))
      }
      if (cycle % 4 === 3) await left.site.has(before + 1)
      streams.left.cancel()
      await left.link.endSession(call())
      streams.right.cancel()
      await right.link.endSession(call())
      expect(left.link.linkStatus.value.state).toBe('inactive')
    }
    await startSession(left, right)
    offer(left, next, next + 100)
    offer(right, next, next + 100)
    const sure = left.site.keys.length + 20
    await left.site.has(sure)
    await until('both stores are equal', () => left.site.keys.length === right.site.keys.length)
    expect(left.site.keys).toEqual(right.site.keys)
    expect(new Set(left.site.keys).size).toBe(left.site.keys.length)
    expect(countsHold(left, right)).toBe(true)
  })
})
