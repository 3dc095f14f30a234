import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { serverStream } from '../../src/rpc/bridge.js'
import { Side_Type } from '../../src/rpc/gen/cqp/remote/common_pb.js'
import { IDevice, LinkStatus_State } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { ISession } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { EventLog } from '../../src/standin/event-log.js'
import { callUnary } from '../../src/standin/wire.js'
import {
  after,
  clientOf,
  closeDummyLab,
  freePort,
  runSession,
  startOurs,
  startSite,
  startTheirs,
  type OurDevice,
  type OurOptions,
} from './support/dummy-lab.js'
import { nthCall, soon, startHandPeer, waitForSession } from './support/hand-peer.js'

afterEach(closeDummyLab)

interface Follower {
  /** Each status as `Name` or `Name errorCode`. */
  readonly states: readonly string[]
  /** Once the latest one is this. */
  until(state: string): Promise<void>
  hangUp(): void
  readonly ended: Promise<{ code: number }>
}

/** GetLinkStatus over a client of its own. */
async function follow(device: { readonly address: string }): Promise<Follower> {
  const stop = new AbortController()
  const options = { deadlineMs: Infinity, signal: stop.signal }
  const call = serverStream(clientOf(device), IDevice.method.getLinkStatus, {}, options)
  const log = new EventLog<string>()
  const read = async (): Promise<void> => {
    for await (const { state, errorCode } of call) {
      log.emit(`${LinkStatus_State[state] ?? state}${errorCode === 0n ? '' : ` ${errorCode}`}`)
    }
  }
  read().catch(() => {})
  after(() => stop.abort())
  // The present state comes at once.
  await log.until(() => true, soon())
  return {
    states: log.history,
    async until(state) {
      if (log.history.at(-1) === state) return
      await log.until((next) => next === state, soon(), log.history.length)
    },
    hangUp: () => stop.abort(),
    ended: call.status,
  }
}

async function device(options: Partial<OurOptions> = {}): Promise<OurDevice> {
  const ours = await startOurs({ side: 'bob', ...options })
  await ours.untilPart('tunnel', 'proven')
  return ours
}

const endSession = (ours: OurDevice): Promise<unknown> => callUnary(clientOf(ours), IDevice.method.endSession, {})

describe('GetLinkStatus', () => {
  it('of the initiator: Inactive, Listening once somebody waits, Connected, SessionStarted, Listening', async () => {
    const [ours, peer] = await Promise.all([device(), startHandPeer()])
    const told = await follow(ours)
    expect(told.states).toEqual(['Inactive'])
    const reader = waitForSession(ours)
    await told.until('Listening')
    peer.hangs.add('SessionStarting')
    const running = runSession(ours, peer.address).catch(() => {})
    await nthCall(peer, 'SessionStarting', 0)
    await told.until('Connected')
    await endSession(ours)
    await running
    await told.until('Listening')
    peer.hangs.clear()
    await runSession(ours, peer.address)
    await told.until('SessionStarted')
    await endSession(ours)
    await told.until('Listening')
    reader.hangUp()
    await told.until('Inactive')
    // Changes may be coalesced, and Ready is never sent.
    const allowed = new Set(['Inactive', 'Listening', 'Connected', 'SessionStarted'])
    expect(told.states.filter((state) => !allowed.has(state))).toEqual([])
  })

  it('of the other end: SessionStarted, and at the end what it falls back to', async () => {
    const [ours, peer] = await Promise.all([device({ side: 'alice' }), startHandPeer()])
    const told = await follow(ours)
    waitForSession(ours)
    await told.until('Listening')
    const client = clientOf(ours)
    await callUnary(client, ISession.method.sessionStarting, { details: {}, initiatorAddress: peer.address })
    await told.until('SessionStarted')
    await callUnary(client, ISession.method.sessionEnding, {})
    await told.until('Listening')
    expect(told.states).toEqual(['Inactive', 'Listening', 'SessionStarted', 'Listening'])
  })

  it('takes a RunSession that comes before WaitForSession for a session', async () => {
    const [ours, peer] = await Promise.all([device(), startHandPeer()])
    const told = await follow(ours)
    await runSession(ours, peer.address)
    await told.until('SessionStarted')
    waitForSession(ours)
    // A later caller is told the present state first.
    expect((await follow(ours)).states).toEqual(['SessionStarted'])
    expect(told.states).not.toContain('Listening')
  })

  it('is Inactive once a session has nobody any more who waits for its keys', async () => {
    const [ours, peer] = await Promise.all([device(), startHandPeer()])
    const reader = waitForSession(ours)
    await runSession(ours, peer.address)
    const told = await follow(ours)
    reader.hangUp()
    await told.until('Inactive')
    waitForSession(ours)
    await told.until('SessionStarted')
  })

  it('of a peer that is not reached: the state it falls back to, with the error', async () => {
    const ours = await device()
    const told = await follow(ours)
    await expect(runSession(ours, `127.0.0.1:${await freePort()}`)).rejects.toBeDefined()
    await told.until('Inactive 14')
    waitForSession(ours)
    await told.until('Listening 14')
    await endSession(ours)
    await told.until('Listening')
  })

  it('of a session that the device ends: the state it falls back to, with the error', async () => {
    const [ours, peer] = await Promise.all([device({ side: 'alice' }), startHandPeer()])
    waitForSession(ours)
    const told = await follow(ours)
    await runSession(ours, peer.address)
    await nthCall(peer, 'OnPhoton', 0)
    peer.die()
    await told.until('Listening 9')
    const healthy = await startTheirs({ side: 'bob' })
    await runSession(ours, healthy.address)
    await told.until('SessionStarted')
  })

  it('tells every caller the same, ends when a caller hangs up, and with the gateway', async () => {
    const [ours, peer] = await Promise.all([device(), startHandPeer()])
    const followers = await Promise.all([1, 2, 3].map(() => follow(ours)))
    const [first] = followers
    first?.hangUp()
    expect((await first?.ended)?.code).toBe(status.CANCELLED)
    await runSession(ours, peer.address)
    const others = followers.slice(1)
    await Promise.all(others.map((follower) => follower.until('SessionStarted')))
    await ours.stop()
    const codes = await Promise.all(others.map(({ ended }) => ended))
    const ends: readonly number[] = [status.OK, status.CANCELLED, status.UNAVAILABLE]
    expect(codes.filter(({ code }) => !ends.includes(code))).toEqual([])
  })
})

describe('GetDetails', () => {
  it('is what was registered, in both numberings, before a session, in one and after', async () => {
    const site = await startSite({ name: 'A' })
    const [ours, peer] = await Promise.all([
      startOurs({ side: 'bob', siteAgent: site.address, keyBytes: 32 }),
      startHandPeer(),
    ])
    await ours.untilPart('registration', 'registered')
    const details = () => callUnary(clientOf(ours), IDevice.method.getDetails, {})
    const first = await details()
    expect(first).toMatchObject({
      config: { id: 'dummyqkd__0__32_bob', side: Side_Type.Bob, kind: 'dummyqkd', bytesPerKey: 32 },
      // Fields 2 and 3: either numbering reads the control address.
      bindAddress: ours.address,
      controlAddress: ours.address,
      siteAgentAddress: site.address,
    })
    expect(site.devices()).toEqual([{ id: ours.id, controlAddress: ours.address }])
    await runSession(ours, peer.address)
    expect(await details()).toEqual(first)
    await endSession(ours)
    expect(await details()).toEqual(first)
  })
})
