import { status as Status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { GatewayError } from '../../src/base/errors.js'
import { DEFAULT_TIMING } from '../../src/link/options.js'
import { noPairHooks, type PairHooks } from '../../src/link/pair-hooks.js'
import type { LinkStatusValue } from '../../src/rpc/device-port.js'
import {
  call,
  type Gateway,
  type GatewayOptions,
  offer,
  parameters,
  startGateway,
  startSession,
  until,
} from './bench.js'

const running = new Set<Gateway>()

async function gateway(options?: GatewayOptions): Promise<Gateway> {
  const started = await startGateway(options)
  running.add(started)
  return started
}

afterEach(async () => {
  await Promise.all([...running].map((one) => one.crash()))
  running.clear()
})

/** Nobody listens here: the port was free a moment ago. */
async function deadAddress(): Promise<string> {
  const gone = await startGateway()
  await gone.crash()
  return gone.address
}

function statesOf(one: Gateway): LinkStatusValue[] {
  const seen: LinkStatusValue[] = [one.link.linkStatus.value]
  one.link.linkStatus.subscribe((next) => seen.push(next))
  return seen
}

describe('a session', () => {
  it('shows Inactive, Listening, Connected, SessionStarted and Listening again to the initiator', async () => {
    const left = await gateway()
    const right = await gateway()
    const seen = statesOf(right)
    right.link.waitForSession(new Uint8Array(), right.site.open())
    await right.link.runSession(parameters, left.address, call())
    await right.link.endSession(call())
    expect(seen.map(({ state }) => state)).toEqual([
      'inactive',
      'listening',
      'connected',
      'sessionStarted',
      'listening',
    ])
  })

  it('counts as one when RunSession comes before WaitForSession', async () => {
    const left = await gateway()
    const right = await gateway()
    await right.link.runSession(parameters, left.address, call())
    expect(right.link.linkStatus.value).toEqual({ state: 'sessionStarted', errorCode: 0 })
    expect(left.link.linkStatus.value).toEqual({ state: 'sessionStarted', errorCode: 0 })
    const stream = right.site.open()
    right.link.waitForSession(new Uint8Array(), stream)
    stream.cancel()
    // Nobody reads its keys any more: a site that polls starts it again.
    await until('inactive', () => right.link.linkStatus.value.state === 'inactive')
  })

  it('is not changed by a second RunSession for the same peer, and gives way to one for another peer', async () => {
    const left = await gateway()
    const other = await gateway()
    const right = await gateway()
    await right.link.runSession(parameters, left.address, call())
    const since = right.link.session.sinceMs
    const states = statesOf(right)
    await right.link.runSession(parameters, `//${left.address}`, call())
    expect(states.length).toBe(1)
    expect(right.link.session.sinceMs).toBeGreaterThanOrEqual(since)
    const steps: string[] = []
    right.link.session.subscribe(({ state }) => steps.push(`${state}, the old peer: ${left.link.session.value.state}`))
    await right.link.runSession(parameters, other.address, call())
    // The old one is settled and ended, and its peer has been told, before the new one begins.
    expect(steps).toContain('starting, the old peer: none')
    expect(steps[0]).toBe('ending, the old peer: started')
    expect(right.link.session.value).toMatchObject({ state: 'started', peerAddress: other.address })
    await until('the old peer knows', () => left.link.session.value.state === 'none')
  })

  it('is tried on after an error towards a C++ site, and shows the error meanwhile', async () => {
    const address = await deadAddress()
    const right = await gateway()
    right.link.waitForSession(new Uint8Array(), right.site.open())
    await expect(right.link.runSession(parameters, address, call())).rejects.toMatchObject({ code: Status.UNAVAILABLE })
    await until('shown', () => right.link.linkStatus.value.errorCode === Number(Status.UNAVAILABLE))
    expect(right.link.linkStatus.value.state).toBe('listening')
    expect(right.link.sessionStatus().state).toBe('starting')
    const left = await gateway({ port: Number(address.split(':')[1]) })
    await until('started', () => left.link.session.value.state === 'started', 20_000)
    await until('shown', () => right.link.linkStatus.value.state === 'sessionStarted')
    expect(right.link.linkStatus.value.errorCode).toBe(0)
  })

  it('is not tried again after an error towards a Java site, which asks again by itself', async () => {
    const right = await gateway()
    right.site.dialectNow = 'java'
    await expect(right.link.runSession(parameters, await deadAddress(), call())).rejects.toMatchObject({
      code: Status.UNAVAILABLE,
    })
    await until('given up', () => right.link.session.value.state === 'none')
    expect(right.link.linkStatus.value).toEqual({ state: 'inactive', errorCode: Status.UNAVAILABLE })
  })

  it('fails at once, and says why, while the own control address is not proven', async () => {
    const left = await gateway()
    const right = await gateway({ controlAddress: () => undefined })
    right.site.dialectNow = 'java'
    await expect(right.link.runSession(parameters, left.address, call())).rejects.toThrow(/not proven/)
  })

  it('ends twice, or without having begun, with OK', async () => {
    const left = await gateway()
    const right = await gateway()
    await left.link.endSession(call())
    await left.link.sessionEnding(call())
    await startSession(left, right)
    await Promise.all([left.link.endSession(call()), left.link.endSession(call())])
    expect(left.link.session.value.state).toBe('none')
    await until('the peer knows', () => right.link.session.value.state === 'none')
    await right.link.endSession(call())
  })

  it('begins anew where RunSession overtakes the end of the old one', async () => {
    const left = await gateway()
    const right = await gateway()
    await startSession(left, right)
    const asked = right.link.runSession(parameters, left.address, call())
    const ended = left.link.endSession(call())
    await Promise.all([asked, ended])
    await until('both have a session', () => [left, right].every(({ link }) => link.session.value.state === 'started'))
  })

  it('gives the newest WaitForSession the keys and ends the older one with CANCELLED', async () => {
    const left = await gateway()
    const right = await gateway()
    let first = await startSession(left, right)
    const idle = right.site.open()
    right.link.waitForSession(new Uint8Array(), idle)
    await until('the older one ends, without any key', () => first.right.signal.aborted)
    expect(first.right.endedWith).toBe(Status.CANCELLED)
    first = { ...first, right: idle }
    offer(left, 0, 100)
    offer(right, 0, 100)
    await right.site.has(50)
    const newest = right.site.open()
    right.link.waitForSession(new Uint8Array(), newest)
    await until('the older one ends', () => first.right.signal.aborted)
    expect(first.right.endedWith).toBe(Status.CANCELLED)
    offer(left, 100, 300)
    offer(right, 100, 300)
    await until('equal', () => newest.taken > 0 && left.site.keys.join() === right.site.keys.join())
    expect(newest.signal.aborted).toBe(false)
  })

  it('ends the older WaitForSession only once the batch on it is settled', async () => {
    const timing = { settleMs: 8_000 }
    const [left, right] = [await gateway({ timing }), await gateway({ timing })]
    const first = await startSession(left, right)
    right.site.holdReports = true
    offer(left, 0, 50)
    offer(right, 0, 50)
    await until('the right site has it, untold', () => right.site.keys.length === 49)
    const newest = right.site.open()
    right.link.waitForSession(new Uint8Array(), newest)
    offer(left, 50, 100)
    offer(right, 50, 100)
    await until('the link says so', () => /an older WaitForSession/.test(right.link.linkStatusReport().reason ?? ''))
    expect([first.right.signal.aborted, newest.taken]).toEqual([false, 0])
    right.site.holdReports = false
    right.site.flush()
    await until('the older one ends', () => first.right.signal.aborted)
    expect(first.right.endedWith).toBe(Status.CANCELLED)
    await until('equal', () => newest.taken > 0 && left.site.keys.join() === right.site.keys.join())
    expect(new Set(right.site.keys).size).toBe(right.site.keys.length)
  })

  it('is given up when the peer was not reached for long, and says with what error', async () => {
    const right = await gateway({ timing: { retryFirstMs: 20, retryMaxMs: 50, retryForMs: 300 } })
    right.link.waitForSession(new Uint8Array(), right.site.open())
    await expect(right.link.runSession(parameters, await deadAddress(), call())).rejects.toMatchObject({
      code: Status.UNAVAILABLE,
    })
    expect(right.link.sessionStatus()).toMatchObject({ state: 'starting' })
    await until('given up', () => right.link.session.value.state === 'none')
    expect(right.link.linkStatus.value).toEqual({ state: 'listening', errorCode: Status.UNAVAILABLE })
    expect(right.link.sessionStatus().reason).toContain('the last session failed')
  })

  it('is refused in time where the own device does not make ready, and the next one begins', async () => {
    let hangs = true
    let ended = 0
    const pair: PairHooks = {
      ...noPairHooks,
      prepare: () => (hangs ? new Promise(() => {}) : Promise.resolve()),
      end: async () => void (ended += 1),
    }
    const left = await gateway({ pair, timing: { answerMs: 300 } })
    const right = await gateway()
    await expect(right.link.runSession(parameters, left.address, call())).rejects.toMatchObject({
      code: Status.FAILED_PRECONDITION,
    })
    expect(left.link.session.value).toMatchObject({ state: 'none', errorCode: Status.FAILED_PRECONDITION })
    expect(ended).toBe(1)
    hangs = false
    await until('tried again', () => left.link.session.value.state === 'started')
  })

  it('that the own device refuses or ends says why, and what to do', async () => {
    const failure = new GatewayError('E_DEVICE_IO', 'the unit is not installed', { remedy: 'install it' })
    let refuses = true
    let fail: (error: Error) => void = () => {}
    const pair: PairHooks = {
      ...noPairHooks,
      prepare: async (session) => {
        fail = (error) => session.fail(error)
        if (refuses) throw failure
      },
    }
    const [left, right] = [await gateway(), await gateway({ pair })]
    await expect(right.link.runSession(parameters, left.address, call())).rejects.toMatchObject({
      details: 'the unit is not installed (install it)',
    })
    refuses = false
    await until('tried again', () => right.link.session.value.state === 'started')
    fail(failure)
    await until('ended', () => right.link.session.value.state === 'none')
    expect(right.link.session.value).toMatchObject({ reason: 'the unit is not installed (install it)' })
  })

  it('answers within the 3 s that nobody waits longer than', () => {
    expect(DEFAULT_TIMING.answerMs).toBeLessThan(3_000)
  })

  it('with a device that is no gateway starts, and says that nothing agrees on keys', async () => {
    const left = await gateway()
    const stream = left.site.open()
    left.link.waitForSession(new Uint8Array(), stream)
    await left.link.sessionStarting(parameters, '127.0.0.1:9', call())
    expect(left.link.session.value).toMatchObject({ state: 'started', peerLink: { peer: 'foreign' } })
    expect(left.link.linkStatusReport().state).toBe('unagreed')
    offer(left, 0, 100)
    left.link.deliverUnagreed([new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)])
    await left.site.has(2)
    expect(left.site.keys).toEqual(['01'.repeat(32), '02'.repeat(32)])
    const { received, delivered, held } = left.link.counts()
    expect({ received, delivered, held }).toEqual({ received: 102n, delivered: 2n, held: 100n })
  })
})
