import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { driver } from '../../../drivers/dummyqkd/driver.js'
import { qubitsFromRandom } from '../../../drivers/dummyqkd/protocol.js'
import {
  type FrameAnswers,
  type FrameBases,
  isPairDevice,
  PairCallError,
  type PairDevice,
  type PairServices,
} from '../../../src/device/pair-contract.js'
import { ManualClock, settle } from '../support/manual-clock.js'
import { contextFor, peerOf, record, seededRandom, sessionWith } from '../support/pair.js'

const never = new AbortController().signal
const QUBITS = qubitsFromRandom(seededRandom(5).bytes(25_000), 100_000)

const agree = (frames: readonly FrameBases[]): FrameAnswers[] =>
  frames.map(({ frameId, bases }) => ({ frameId, answers: new Uint8Array(bases.length).fill(1) }))

describe('a Dummy Bob', () => {
  let clock: ManualClock
  let bob: PairDevice
  let seen: ReturnType<typeof record>
  let session: ReturnType<typeof sessionWith>
  let asked: FrameBases[][]
  let answer: (frames: readonly FrameBases[]) => Promise<readonly FrameAnswers[]>
  let stop: AbortController
  let running: Promise<void>

  async function begin(options: Record<string, string> = {}): Promise<void> {
    const device = driver.create(contextFor('bob', clock, options))
    if (!isPairDevice(device)) throw new Error('no pair device')
    bob = device
    seen = record(bob)
    stop = new AbortController()
    running = bob.run(stop.signal)
    session = sessionWith({
      ...peerOf({}),
      verifyBases: (frames) => {
        asked.push([...frames])
        return answer(frames)
      },
    })
    await bob.pair.prepare(session)
  }

  beforeEach(() => {
    clock = new ManualClock()
    asked = []
    answer = async (frames) => agree(frames)
  })

  afterEach(async () => {
    stop.abort()
    await running
  })

  const services = (): PairServices => bob.pair.services
  async function frame(qubits = QUBITS): Promise<void> {
    await services().startDetecting?.(0n, never)
    await services().onPhoton?.({ periodPs: 10_000_000n, qubits: Uint8Array.from(qubits) }, never)
    await services().stopDetecting?.(0n, never)
    await settle()
  }

  it('asks about a dense list of the bases, frames counted from 0, and cuts the kept bits into keys', async () => {
    await begin()
    bob.pair.start('byArrival')
    await frame()
    await frame()
    expect(asked.map(([f]) => [f?.frameId, f?.bases.length])).toEqual([
      [0n, 100_000],
      [1n, 100_000],
    ])
    expect([...(asked[0]?.[0]?.bases.subarray(0, 8) ?? [])]).toEqual([...QUBITS.subarray(0, 8)].map((q) => q & 6))
    expect(seen.keys).toHaveLength(1562)
    expect(seen.keys[0]?.hex).toHaveLength(32)
  })

  it('cuts keys of 32 bytes for the fork', async () => {
    await begin({ 'key-bytes': '32' })
    bob.pair.start('byArrival')
    await frame()
    expect(seen.keys).toHaveLength(390)
    expect(seen.keys[0]?.hex).toHaveLength(64)
  })

  it('takes photons that come before the answer to its own SessionStarting, and sifts once both agreed', async () => {
    await begin()
    await frame()
    expect(asked).toEqual([])
    bob.pair.start('byArrival')
    await settle()
    expect(asked).toHaveLength(1)
    expect(seen.keys).toHaveLength(781)
  })

  it('lets the last of several OnPhoton in a frame count', async () => {
    await begin()
    bob.pair.start('byArrival')
    await services().startDetecting?.(0n, never)
    await services().onPhoton?.({ periodPs: 1n, qubits: new Uint8Array(80) }, never)
    await services().onPhoton?.({ periodPs: 1n, qubits: new Uint8Array(128).fill(1) }, never)
    await services().stopDetecting?.(0n, never)
    await settle()
    expect(seen.keys.map(({ hex }) => hex)).toEqual(['ff'.repeat(16)])
  })

  it('counts a frame without photons, as the other side does', async () => {
    await begin()
    bob.pair.start('byArrival')
    await services().startDetecting?.(0n, never)
    await services().stopDetecting?.(0n, never)
    await frame()
    expect(asked.map(([f]) => f?.frameId)).toEqual([1n])
  })

  it('refuses photons outside a frame, values that are no qubits and absurdly many', async () => {
    await begin()
    bob.pair.start('byArrival')
    const photons = (qubits: Uint8Array): Promise<void> | undefined =>
      services().onPhoton?.({ periodPs: 1n, qubits }, never)
    await expect(photons(new Uint8Array(1))).rejects.toMatchObject({ status: 'failedPrecondition' })
    await expect(services().stopDetecting?.(0n, never)).rejects.toMatchObject({ status: 'failedPrecondition' })
    await services().startDetecting?.(0n, never)
    await expect(photons(Uint8Array.of(0, 7))).rejects.toThrow('qubit 1')
    await expect(photons(new Uint8Array(1_000_001))).rejects.toMatchObject({ status: 'resourceExhausted' })
  })

  it('drops a frame that the sender does not have, counts it, and goes on', async () => {
    await begin()
    bob.pair.start('byArrival')
    answer = () => Promise.reject(new PairCallError('aborted', 'Sift: No data available'))
    await frame()
    answer = async (frames) => agree(frames)
    await frame()
    expect(seen.events.filter(({ type }) => type === 'discarded')).toEqual([
      { type: 'discarded', reason: 'invalid', count: 781 },
    ])
    expect(seen.keys).toHaveLength(781)
    expect(session.failures).toEqual([])
  })

  it('asks once more when no answer came, and goes on with the second', async () => {
    await begin()
    bob.pair.start('byArrival')
    answer = () => new Promise(() => {})
    await frame()
    answer = async (frames) => agree(frames)
    await clock.advance(2_000)
    expect(asked).toHaveLength(2)
    expect(seen.keys).toHaveLength(781)
  })

  it('says loudly that the sites may have parted where the sender delivered and the answer is lost', async () => {
    await begin()
    bob.pair.start('byArrival')
    answer = () => new Promise(() => {})
    await frame()
    answer = () => Promise.reject(new PairCallError('aborted', 'Sift: No data available'))
    await clock.advance(2_000)
    expect(session.failures[0]).toMatchObject({ code: 'E_LINK_MISMATCH' })
    expect(seen.keys).toEqual([])
  })

  it('only drops such a frame where the gateways agree by id', async () => {
    await begin()
    bob.pair.start('byId')
    answer = () => new Promise(() => {})
    await frame()
    await clock.advance(2_000)
    answer = async (frames) => agree(frames)
    await frame()
    expect(session.failures).toEqual([])
    expect(asked).toHaveLength(2)
    expect(seen.keys[0]?.id).toBe(1n << 20n)
  })

  it('does not take an answer to another question', async () => {
    await begin()
    bob.pair.start('byArrival')
    answer = async (frames) => agree(frames).map((a) => ({ ...a, answers: a.answers.subarray(1) }))
    await frame()
    expect(session.failures[0]?.message).toContain('fits another question')
    expect(seen.keys).toEqual([])
  })

  it('keeps at most 16 frames for a sender that does not answer', async () => {
    await begin()
    for (let i = 0; i < 20; i += 1) await frame(QUBITS.subarray(0, 256))
    expect(seen.events.filter(({ type }) => type === 'discarded')).toHaveLength(4)
    bob.pair.start('byArrival')
    await settle()
    expect(asked).toHaveLength(16)
  })

  it('measures in bases of its own choice where asked to', async () => {
    await begin({ bases: 'random' })
    bob.pair.start('byArrival')
    await frame()
    const own = asked[0]?.[0]?.bases ?? new Uint8Array(0)
    const equal = own.filter((basis, i) => basis === ((QUBITS[i] ?? 0) & 6)).length
    expect(equal).toBeGreaterThan(48_000)
    expect(equal).toBeLessThan(52_000)
  })

  it('waits in quiesce for the frame that is being sifted, but not for a dead peer', async () => {
    await begin()
    bob.pair.start('byArrival')
    let release: () => void = () => {}
    answer = (frames) => new Promise((resolve) => (release = () => resolve(agree(frames))))
    await frame()
    let quiet = false
    const quiescing = bob.pair.quiesce().then(() => (quiet = true))
    await settle()
    expect(quiet).toBe(false)
    await expect(services().startDetecting?.(0n, never)).rejects.toMatchObject({ status: 'failedPrecondition' })
    release()
    await quiescing
    expect(seen.keys).toHaveLength(781)
    await bob.pair.end()
    await bob.pair.prepare(session)
    bob.pair.start('byArrival')
    answer = () => new Promise(() => {})
    await frame()
    const second = bob.pair.quiesce()
    await clock.advance(2_500)
    await second
  })

  it('gives a frame out whose answer comes after the end, before a next session begins', async () => {
    await begin()
    bob.pair.start('byArrival')
    let release: () => void = () => {}
    answer = (frames) => new Promise((resolve) => (release = () => resolve(agree(frames))))
    await frame()
    const ending = bob.pair.end()
    await expect(services().startDetecting?.(0n, never)).rejects.toThrow('no session is running')
    let prepared = false
    const next = bob.pair.prepare(session).then(() => (prepared = true))
    await settle()
    expect([prepared, seen.keys.length]).toEqual([false, 0])
    release()
    await Promise.all([ending, next])
    expect(seen.keys).toHaveLength(781)
    expect(bob.facts()).not.toHaveProperty('framesInDoubt')
  })

  it('waits for such an answer no longer than for any, and counts the frame as in doubt', async () => {
    await begin()
    bob.pair.start('byArrival')
    answer = () => new Promise(() => {})
    await frame()
    const ending = bob.pair.end()
    await clock.advance(2_000)
    await ending
    expect(asked).toHaveLength(1)
    expect(bob.facts()).toMatchObject({ framesInDoubt: 1, inSession: false })
  })

  it('shows that no frames come from a sender that is gone, until they come again', async () => {
    await begin()
    bob.pair.start('byArrival')
    await frame()
    expect(bob.state.value.state).toBe('producing')
    await clock.advance(10_000)
    expect(bob.state.value).toMatchObject({ state: 'silent', reason: 'the peer has sent no photons for 10 s' })
    await frame()
    expect(bob.state.value.state).toBe('producing')
    await bob.pair.end()
    await clock.advance(60_000)
    expect(bob.state.value.state).toBe('identified')
  })

  it('refuses every call without a session', async () => {
    await begin()
    await bob.pair.end()
    await expect(services().startDetecting?.(0n, never)).rejects.toThrow('no session is running')
    await expect(services().onPhoton?.({ periodPs: 1n, qubits: QUBITS }, never)).rejects.toThrow('no session')
    await expect(services().stopDetecting?.(0n, never)).rejects.toThrow('no session')
  })

  it('names a wrong option', () => {
    stop = new AbortController()
    running = Promise.resolve()
    expect(() => driver.create(contextFor('bob', clock, { 'key-bytes': '0' }))).toThrow(
      'key-bytes: must be from 1 to 255',
    )
    expect(() => driver.create(contextFor('bob', clock, { keybytes: '16' }))).toThrow(/keybytes/)
  })
})
