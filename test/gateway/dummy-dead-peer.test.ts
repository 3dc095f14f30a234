import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { IDetector, IPhotonSim } from '../../src/rpc/gen/cqp/remote/detector_pb.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { ISession } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { RpcError } from '../../src/rpc/rpc-error.js'
import { callUnary } from '../../src/standin/wire.js'
import {
  clientOf,
  closeDummyLab,
  makeLink,
  runSession,
  startOurs,
  startTheirs,
  type OurDevice,
} from './support/dummy-lab.js'
import { nthCall, soon, startHandPeer, waitForSession, type HandPeer, type PeerMethod } from './support/hand-peer.js'

afterEach(closeDummyLab)

/** Bound of every answer to a SiteAgent, with room for a busy machine. */
const PROMPTLY_MS = 4_500

async function promptly<T>(what: string, work: Promise<T>): Promise<T> {
  const beganMs = performance.now()
  // A refusal has to come in time as well.
  await work.catch(() => {})
  expect(performance.now() - beganMs, what).toBeLessThan(PROMPTLY_MS)
  return work
}

const endSession = (device: OurDevice): Promise<unknown> => callUnary(clientOf(device), IDevice.method.endSession, {})
const starts = (device: OurDevice, peer: { address: string }): Promise<unknown> =>
  callUnary(clientOf(device), ISession.method.sessionStarting, { details: {}, initiatorAddress: peer.address })

async function sendFrame(bob: OurDevice): Promise<void> {
  const client = clientOf(bob)
  await callUnary(client, IDetector.method.startDetecting, {})
  await callUnary(client, IPhotonSim.method.onPhoton, { periodPicoseconds: 1n, values: { qubits: [0, 1, 2, 3] } })
  await callUnary(client, IDetector.method.stopDetecting, {})
}

/** A healthy device takes the place of the dead one, and keys flow. */
async function goesOn(device: OurDevice, side: 'alice' | 'bob'): Promise<void> {
  const healthy = await startTheirs({ side: side === 'alice' ? 'bob' : 'alice' })
  const reader = waitForSession(device)
  await promptly('RunSession', runSession(device, healthy.address))
  await reader.untilKeys(12)
  const theirs = healthy.keys.slice(0, reader.keys.length).map((key) => Buffer.from(key).toString('hex'))
  expect(reader.keys.slice(0, theirs.length)).toEqual(theirs)
}

/** Our device in a session with a peer that was told what not to answer. */
async function inSession(
  side: 'alice' | 'bob',
  role: 'left' | 'right',
  hangs: readonly PeerMethod[],
): Promise<{ ours: OurDevice; peer: HandPeer }> {
  const [ours, peer] = await Promise.all([startOurs({ side }), startHandPeer()])
  await ours.untilPart('tunnel', 'proven')
  for (const method of hangs) peer.hangs.add(method)
  if (role === 'left') await starts(ours, peer)
  else await runSession(ours, peer.address)
  return { ours, peer }
}

describe('a peer that never answers', () => {
  it('StartDetecting, OnPhoton or StopDetecting: our Alice can be stopped and started with another one', async () => {
    const methods = ['StartDetecting', 'OnPhoton', 'StopDetecting'] as const
    await Promise.all(
      methods.map(async (method) => {
        const { ours, peer } = await inSession('alice', 'left', [method, 'SessionEnding'])
        await nthCall(peer, method, 0)
        await promptly('EndSession', endSession(ours))
        await goesOn(ours, 'alice')
      }),
    )
  })

  it('VerifyBases: our Bob can be stopped and started with another one', async () => {
    const { ours, peer } = await inSession('bob', 'right', ['VerifyBases', 'SessionEnding'])
    await sendFrame(ours)
    await nthCall(peer, 'VerifyBases', 0)
    await promptly('EndSession', endSession(ours))
    // The frame has no key in it that would be missing: four bits are not one.
    await goesOn(ours, 'bob')
  })

  it('SessionStarting: RunSession says so in time, to either side', async () => {
    const sides = ['alice', 'bob'] as const
    await Promise.all(
      sides.map(async (side) => {
        const [ours, peer] = await Promise.all([startOurs({ side }), startHandPeer()])
        await ours.untilPart('tunnel', 'proven')
        peer.hangs.add('SessionStarting')
        const answer = promptly('RunSession', runSession(ours, peer.address))
        await expect(answer).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED })
        expect(ours.status().parts['session']).toMatchObject({ state: 'starting', facts: { peer: peer.address } })
        await promptly('EndSession', endSession(ours))
        await goesOn(ours, side)
      }),
    )
  })

  it('everything: our gateway ends within 5 s all the same', async () => {
    const { ours, peer } = await inSession('alice', 'left', ['OnPhoton', 'SessionEnding'])
    await nthCall(peer, 'OnPhoton', 0)
    const beganMs = performance.now()
    expect(await ours.stop()).toEqual({ outcome: 'settled' })
    expect(performance.now() - beganMs).toBeLessThan(6_000)
  })
})

describe('a peer that dies', () => {
  it('at any of its answers: our Alice ends the session, says why, and goes on with another one', async () => {
    const methods = ['SessionStarting', 'StartDetecting', 'OnPhoton', 'StopDetecting'] as const
    await Promise.all(
      methods.map(async (method) => {
        const [ours, peer] = await Promise.all([startOurs({ side: 'alice' }), startHandPeer()])
        await ours.untilPart('tunnel', 'proven')
        peer.hangs.add(method)
        const died = nthCall(peer, method, 0).then(() => peer.die())
        const run = runSession(ours, peer.address).then(
          () => 0,
          (error: unknown) => error,
        )
        const answered = await promptly('RunSession', run)
        await died
        if (method === 'SessionStarting') {
          expect(answered).toBeInstanceOf(RpcError)
          await promptly('EndSession', endSession(ours))
        } else {
          expect(answered).toBe(0)
          const { parts } = await ours.untilPart('session', 'none', 'listening')
          expect(parts['session']?.facts?.['errorCode']).toBe(status.FAILED_PRECONDITION)
          expect(parts['session']?.reason).toMatch(/^the last session failed: /)
        }
        await goesOn(ours, 'alice')
      }),
    )
  })

  it.each(['StartDetecting', 'OnPhoton'] as const)(
    'after its %s: our Bob can be started with another one',
    async (last) => {
      const { ours, peer } = await inSession('bob', 'right', [])
      const client = clientOf(ours)
      await callUnary(client, IDetector.method.startDetecting, {})
      if (last === 'OnPhoton') {
        await callUnary(client, IPhotonSim.method.onPhoton, { periodPicoseconds: 1n, values: { qubits: [0, 1] } })
      }
      peer.die()
      // Nobody tells the site; what it does in the end is this.
      await promptly('EndSession', endSession(ours))
      await goesOn(ours, 'bob')
    },
  )

  it('while our Bob waits for its answer: the session ends, and the frame in doubt is named', async () => {
    const { ours, peer } = await inSession('bob', 'right', ['VerifyBases'])
    await sendFrame(ours)
    await nthCall(peer, 'VerifyBases', 0)
    peer.die()
    const { parts } = await ours.untilPart('session', 'none')
    expect(parts['session']?.reason).toMatch(/frame 0: the peer may have delivered its keys/)
    expect(parts['device']?.facts).toMatchObject({ framesInDoubt: 1 })
    await goesOn(ours, 'bob')
  })
})

describe('the deadlock of the C++ Alice in EndSession', () => {
  it('holds the site of hers, and neither our Bob nor his site', async () => {
    const link = await makeLink({ ours: 'bob' })
    await link.start()
    await link.untilKeys(10)
    let answered = false
    void link.end().then(
      () => (answered = true),
      () => {},
    )
    await link.siteOfTheirs.events.until(({ event }) => event === 'stream-ended', soon())
    // Site B is never told. The operator stops there as well.
    await promptly('EndKeyExchange at the site of ours', link.end(link.siteOfOurs))
    expect(answered).toBe(false)
    expect(link.ours.status().parts['session']?.state).toBe('none')
    expect(link.siteOfOurs.inUse()).toEqual([])
  })

  it('does not hold our Bob on the left', async () => {
    const link = await makeLink({ ours: 'bob', left: 'bob', their: { faults: { endSessionHangs: true } } })
    await link.start()
    await link.untilKeys(10)
    await promptly('EndKeyExchange', link.end())
    expect(link.ours.status().parts['session']?.state).toBe('none')
    await link.start()
    await link.untilKeys(link.keys()[0].length + 10)
  })
})

it('a C++ device that comes back at another address is served there', async () => {
  const ours = await startOurs({ side: 'bob' })
  await ours.untilPart('tunnel', 'proven')
  const first = await startTheirs({ side: 'alice' })
  const reader = waitForSession(ours)
  await runSession(ours, first.address)
  await reader.untilKeys(10)
  await first.close()
  const second = await startTheirs({ side: 'alice' })
  await promptly('RunSession', runSession(ours, second.address))
  const before = reader.keys.length
  await reader.untilKeys(before + 10)
  expect(ours.status().parts['session']?.facts).toMatchObject({ peer: second.address })
})
