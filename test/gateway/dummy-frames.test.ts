import { status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { IDetector, IPhotonSim } from '../../src/rpc/gen/cqp/remote/detector_pb.js'
import { IDevice } from '../../src/rpc/gen/cqp/remote/device_pb.js'
import { ISession } from '../../src/rpc/gen/cqp/remote/session_pb.js'
import { ISift, type BasisBySiftFrame } from '../../src/rpc/gen/cqp/remote/sift_pb.js'
import { RpcError } from '../../src/rpc/rpc-error.js'
import { callUnary } from '../../src/standin/wire.js'
import { clientOf, closeDummyLab, eventually, runSession, startOurs, type OurDevice } from './support/dummy-lab.js'
import { nthCall, soon, startHandPeer, waitForSession, type HandPeer } from './support/hand-peer.js'

afterEach(closeDummyLab)

/** Bits as a string, the least significant bit of each byte first, cut into keys; what is left over at the end. */
function keysOf(bytes: readonly number[], keyBytes: number): { keys: string[]; rest: number[] } {
  const count = Math.floor(bytes.length / keyBytes)
  const keys = Array.from({ length: count }, (_, index) =>
    Buffer.from(bytes.slice(index * keyBytes, (index + 1) * keyBytes)).toString('hex'),
  )
  return { keys, rest: bytes.slice(count * keyBytes) }
}

function packed(bits: readonly number[]): number[] {
  const text = bits.join('')
  return Array.from({ length: Math.ceil(bits.length / 8) }, (_, index) =>
    Number.parseInt([...text.slice(index * 8, index * 8 + 8).padEnd(8, '0')].reverse().join(''), 2),
  )
}

/** A call that is refused: its status and text. */
async function refused(call: Promise<unknown>): Promise<{ code: number; details: string }> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!(error instanceof RpcError)) throw new Error(`not refused: ${String(error)}`)
  return { code: error.code, details: error.details }
}

describe('our Alice, call by call', () => {
  async function begin(keyBytes: number, qubits: number): Promise<{ alice: OurDevice; bob: HandPeer }> {
    const [alice, bob] = await Promise.all([
      startOurs({ side: 'alice', keyBytes, qubits, frameMs: 50 }),
      startHandPeer(),
    ])
    await alice.untilPart('tunnel', 'proven')
    return { alice, bob }
  }
  const ask = (alice: OurDevice, frames: Record<string, readonly number[]>) => {
    const basis = Object.fromEntries(
      Object.entries(frames).map(([frame, bases]) => [
        frame,
        { indexedBasis: bases.map((value, index) => ({ index: BigInt(index), basis: value })) },
      ]),
    )
    return callUnary(clientOf(alice), ISift.method.verifyBases, { basis })
  }
  const starts = (alice: OurDevice, bob: HandPeer): Promise<unknown> =>
    callUnary(clientOf(alice), ISession.method.sessionStarting, { details: {}, initiatorAddress: bob.address })

  it.each([16, 32])('sends frames, compares bases, packs and cuts keys of %i bytes', async (keyBytes) => {
    const { alice, bob } = await begin(keyBytes, 1_003)
    const reader = waitForSession(alice)
    await starts(alice, bob)
    const photons: (readonly number[])[] = []
    for (const frame of [0, 1, 2, 3]) {
      const { periodPs, qubits } = await nthCall(bob, 'OnPhoton', frame)
      expect(periodPs).toBe(50_000_000_000n / 1_003n)
      expect(qubits).toHaveLength(1_003)
      expect(new Set(qubits)).toEqual(new Set([0, 1, 2, 3]))
      photons.push(qubits)
    }
    await nthCall(bob, 'StopDetecting', 3)
    expect(bob.calls.history.slice(0, 6).map(({ method }) => method)).toEqual([
      ...['StartDetecting', 'OnPhoton', 'StopDetecting', 'StartDetecting', 'OnPhoton', 'StopDetecting'],
    ])

    // Bob asks about frame 0 alone and about 1 to 3 in one go; every third basis is the other one.
    const bytes: number[] = []
    const askAbout = async (frames: readonly number[]): Promise<void> => {
      const bases = new Map(
        frames.map((frame) => [
          String(frame),
          (photons[frame] ?? []).map((qubit, k) => ((qubit & 6) + (k % 3 === 0 ? 2 : 0)) & 2),
        ]),
      )
      const { answers } = await ask(alice, Object.fromEntries(bases))
      const bits: number[] = []
      for (const frame of frames) {
        const equal = answers[String(frame)]?.answers ?? []
        expect(equal).toEqual((photons[frame] ?? []).map((_, k) => k % 3 !== 0))
        expect(answers[String(frame)]?.intensity).toEqual([])
        bits.push(...(photons[frame] ?? []).filter((_, k) => k % 3 !== 0).map((qubit) => qubit & 1))
      }
      bytes.push(...packed(bits))
    }
    await askAbout([0])
    await askAbout([1, 2, 3])
    // 668 bits are 84 bytes; three times 668 bits as one string are 251 bytes, not 252.
    expect(bytes).toHaveLength(84 + 251)
    const { keys, rest } = keysOf(bytes, keyBytes)
    await reader.untilKeys(keys.length)
    expect(reader.keys).toEqual(keys)
    // One message a block.
    expect(reader.messages).toEqual([Math.floor(84 / keyBytes), keys.length - Math.floor(84 / keyBytes)])

    // What was left over begins the first key of the next session.
    await callUnary(clientOf(alice), ISession.method.sessionEnding, {})
    await alice.untilPart('session', 'none', 'listening')
    const before = bob.calls.history.length
    await starts(alice, bob)
    await bob.calls.until(({ method }) => method === 'StopDetecting', soon(), before)
    const photon = bob.calls.history.slice(before).find((call) => call.method === 'OnPhoton')
    const first = photon?.method === 'OnPhoton' ? photon.qubits : []
    await ask(alice, { 0: first.map((qubit) => qubit & 6) })
    const next = keysOf([...rest, ...packed(first.map((qubit) => qubit & 1))], keyBytes)
    await reader.untilKeys(keys.length + next.keys.length)
    expect(reader.keys).toEqual([...keys, ...next.keys])
  })

  it('answers about a frame once, waits half a second for one to come, and refuses what has no meaning', async () => {
    const { alice, bob } = await begin(16, 800)
    const reader = waitForSession(alice)
    expect(await refused(ask(alice, { 0: [0] }))).toMatchObject({ code: status.FAILED_PRECONDITION })
    await starts(alice, bob)
    await nthCall(bob, 'StopDetecting', 0)
    const tooLong = await refused(ask(alice, { 0: Array<number>(801).fill(0) }))
    expect(tooLong.code).toBe(status.INVALID_ARGUMENT)
    expect(tooLong.details).toMatch(/frame 0.*801.*800/)
    const astray = { 0: { indexedBasis: [{ index: 1n, basis: 0 }] } }
    expect((await refused(callUnary(clientOf(alice), ISift.method.verifyBases, { basis: astray }))).details).toMatch(
      /basis\[0\]\.indexedBasis\[0\]\.index.*dense/,
    )
    // A list that is shorter than the frame is answered as far as it goes.
    const { answers } = await ask(alice, { 0: Array<number>(640).fill(0) })
    expect(answers['0']?.answers).toHaveLength(640)
    expect(await refused(ask(alice, { 0: [0] }))).toEqual({ code: status.ABORTED, details: 'Sift: No data available' })
    const askedMs = performance.now()
    expect(await refused(ask(alice, { 100000: [0] }))).toMatchObject({ code: status.ABORTED })
    expect(performance.now() - askedMs).toBeGreaterThan(450)
    expect(reader.messages.length).toBeLessThanOrEqual(1)
  })
})

describe('our Bob, call by call', () => {
  async function begin(keyBytes: number): Promise<{ bob: OurDevice; alice: HandPeer }> {
    const [bob, alice] = await Promise.all([startOurs({ side: 'bob', keyBytes }), startHandPeer()])
    await bob.untilPart('tunnel', 'proven')
    return { bob, alice }
  }
  async function send(bob: OurDevice, ...photons: (readonly number[])[]): Promise<void> {
    const client = clientOf(bob)
    await callUnary(client, IDetector.method.startDetecting, {})
    for (const qubits of photons) {
      await callUnary(client, IPhotonSim.method.onPhoton, {
        periodPicoseconds: 10_000_000n,
        values: { qubits: [...qubits] },
      })
    }
    await callUnary(client, IDetector.method.stopDetecting, {})
  }
  const frameOf = (seed: number, length = 1_003): number[] =>
    Array.from({ length }, (_, k) => ((k * 7 + (k >> 3) + seed) * 5) % 6)
  const kept = (frame: number, k: number): boolean => (k + frame) % 3 !== 0

  it.each([16, 32])('asks about each frame, and packs and cuts keys of %i bytes', async (keyBytes) => {
    const { bob, alice } = await begin(keyBytes)
    alice.verify = async (basis) =>
      Object.fromEntries(
        Object.entries(basis).map(([frame, { indexedBasis }]) => [
          frame,
          { answers: indexedBasis.map((_, k) => kept(Number(frame), k)) },
        ]),
      )
    const reader = waitForSession(bob)
    await runSession(bob, alice.address)
    expect(await nthCall(alice, 'SessionStarting', 0)).toMatchObject({ initiatorAddress: bob.address })
    const frames = [0, 1, 2].map((seed) => frameOf(seed))
    for (const [index, photons] of frames.entries()) {
      // Of several in a frame the last one counts.
      await send(bob, ...(index === 1 ? [frameOf(9, 500)] : []), photons)
      const { basis } = await nthCall(alice, 'VerifyBases', index)
      expect(Object.keys(basis)).toEqual([String(index)])
      const list: BasisBySiftFrame['basis'][string] | undefined = basis[String(index)]
      expect(list?.indexedBasis.map((entry) => [entry.index, entry.basis])).toEqual(
        photons.map((qubit, k) => [BigInt(k), qubit & 6]),
      )
    }
    const bytes = frames.flatMap((photons, frame) =>
      packed(photons.filter((_, k) => kept(frame, k)).map((qubit) => qubit & 1)),
    )
    const { keys, rest } = keysOf(bytes, keyBytes)
    await reader.untilKeys(keys.length)
    expect(reader.keys).toEqual(keys)
    expect(reader.messages).toHaveLength(3)

    // Into the next session what was left over is carried, and frames begin at 0 again.
    await callUnary(clientOf(bob), IDevice.method.endSession, {})
    await nthCall(alice, 'SessionEnding', 0)
    await runSession(bob, alice.address)
    await send(bob, frameOf(3))
    expect(Object.keys((await nthCall(alice, 'VerifyBases', 3)).basis)).toEqual(['0'])
    const bits = frameOf(3).filter((_, k) => kept(0, k))
    const next = keysOf([...rest, ...packed(bits.map((qubit) => qubit & 1))], keyBytes)
    await reader.untilKeys(keys.length + next.keys.length)
    expect(reader.keys).toEqual([...keys, ...next.keys])
  })

  it('drops a frame that Alice refuses and goes on with the next', async () => {
    const { bob, alice } = await begin(16)
    const answer = alice.verify
    alice.verify = () => Promise.reject(new RpcError(status.ABORTED, 'Sift: No data available'))
    const reader = waitForSession(bob)
    await runSession(bob, alice.address)
    await send(bob, frameOf(0, 1_024))
    await nthCall(alice, 'VerifyBases', 0)
    alice.verify = answer
    await send(bob, frameOf(1, 1_024))
    await reader.untilKeys(8)
    expect(reader.keys).toEqual(keysOf(packed(frameOf(1, 1_024).map((qubit) => qubit & 1)), 16).keys)
    expect(bob.status().counts['discardedByDevice']).toEqual({ invalid: 8 })
    expect(bob.status().parts['session']?.state).toBe('started')
  })

  it('ends the session where the answer cannot be of this frame, and names the frame', async () => {
    const { bob, alice } = await begin(16)
    alice.verify = async () => ({ 0: { answers: [true] } })
    await runSession(bob, alice.address)
    await send(bob, frameOf(0, 1_024))
    const status = await eventually('the end of the session', () => {
      const present = bob.status()
      return present.parts['session']?.facts?.['errorCode'] === 9 ? present : undefined
    })
    expect(status.parts['session']?.reason).toMatch(/frame 0: the peer may have delivered its keys.*could not/)
    expect(status.parts['device']?.facts).toMatchObject({ framesInDoubt: 1 })
    await nthCall(alice, 'SessionEnding', 0)
  })
})
