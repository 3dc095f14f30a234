import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { driver } from '../../../drivers/dummyqkd/driver.js'
import {
  isPairDevice,
  PairCallError,
  type PairDevice,
  type PairPeer,
  type PairSession,
} from '../../../src/device/pair-contract.js'
import { ManualClock, settle } from '../support/manual-clock.js'
import { contextFor, peerOf, record, sessionWith } from '../support/pair.js'

/** A peer that writes down what it is asked and answers as told. */
class ScriptedBob {
  readonly calls: string[] = []
  readonly photons: Uint8Array[] = []
  periodPs = 0n
  answer: (call: string) => Promise<void> = async () => {}

  readonly peer: PairPeer = {
    ...peerOf({}),
    startDetecting: (at) => this.#take(`StartDetecting ${at}`),
    stopDetecting: (at) => this.#take(`StopDetecting ${at}`),
    onPhoton: ({ periodPs, qubits }) => {
      this.periodPs = periodPs
      this.photons.push(Uint8Array.from(qubits))
      return this.#take(`OnPhoton ${qubits.length}`)
    },
  }

  #take(call: string): Promise<void> {
    this.calls.push(call)
    return this.answer(call)
  }
}

const never = new AbortController().signal
const bases = (qubits: Uint8Array | undefined): Uint8Array => (qubits ?? new Uint8Array(0)).map((qubit) => qubit & 6)

describe('a Dummy Alice', () => {
  let clock: ManualClock
  let alice: PairDevice
  let bob: ScriptedBob
  let session: PairSession & { failures: Error[] }
  let seen: ReturnType<typeof record>
  let stop: AbortController
  let running: Promise<void>

  beforeEach(async () => {
    clock = new ManualClock()
    bob = new ScriptedBob()
    const device = driver.create(contextFor('alice', clock))
    if (!isPairDevice(device)) throw new Error('no pair device')
    alice = device
    seen = record(alice)
    stop = new AbortController()
    running = alice.run(stop.signal)
    session = sessionWith(bob.peer)
    await alice.pair.prepare(session)
  })

  afterEach(async () => {
    stop.abort()
    await running
  })

  const verify = (frameId: bigint, of: Uint8Array): Promise<string> =>
    (alice.pair.services.verifyBases?.([{ frameId, bases: of }], never) ?? Promise.reject(new Error('missing'))).then(
      (answers) =>
        answers.map((a) => `${a.frameId}:${a.answers.length}:${a.answers.reduce((x, y) => x + y, 0)}`).join(),
      (error: unknown) => (error instanceof PairCallError ? `${error.status}: ${error.message}` : String(error)),
    )

  it('calls nobody before both ends agreed on the session', async () => {
    await clock.advance(5_000)
    expect(bob.calls).toEqual([])
  })

  it('sends a frame a second: start, 100,000 photons 10 microseconds apart, stop', async () => {
    alice.pair.start('byArrival')
    await clock.advance(2_500)
    expect(bob.calls).toEqual([
      'StartDetecting 0',
      'OnPhoton 100000',
      'StopDetecting 0',
      'StartDetecting 0',
      'OnPhoton 100000',
      'StopDetecting 0',
      'StartDetecting 0',
      'OnPhoton 100000',
    ])
    expect(bob.periodPs).toBe(10_000_000n)
    expect(new Set(bob.photons[0])).toEqual(new Set([0, 1, 2, 3]))
    expect(Buffer.from(bob.photons[0] ?? []).equals(Buffer.from(bob.photons[1] ?? []))).toBe(false)
  })

  it('gives 781 keys out before she answers, numbered from 0, and carries the remainder into the next frame', async () => {
    alice.pair.start('byArrival')
    await clock.advance(4_000)
    for (let frame = 0; frame < 4; frame += 1) {
      const answering = verify(BigInt(frame), bases(bob.photons[frame]))
      let answered = false
      void answering.then(() => (answered = true))
      expect(await answering).toBe(`${frame}:100000:100000`)
      expect(answered).toBe(true)
      expect(seen.keys).toHaveLength([781, 1562, 2343, 3125][frame] ?? 0)
    }
    expect(seen.keys.map(({ id }) => id)).toEqual(seen.keys.map((_, i) => BigInt(i)))
    expect(seen.keys[0]?.hex).toHaveLength(32)
    expect(alice.state.value.state).toBe('producing')
    const expected = Buffer.alloc(16)
    bob.photons[0]
      ?.subarray(0, 128)
      .forEach((qubit, i) => (expected[i >> 3] = (expected[i >> 3] ?? 0) | ((qubit & 1) << (i & 7))))
    expect(seen.keys[0]?.hex).toBe(expected.toString('hex'))
  })

  it('answers only for the qubits whose basis is equal', async () => {
    alice.pair.start('byArrival')
    await clock.advance(1_000)
    const rectilinear = (bob.photons[0] ?? new Uint8Array(0)).filter((qubit) => qubit < 2).length
    expect(await verify(0n, new Uint8Array(100_000))).toBe(`0:100000:${rectilinear}`)
  })

  it('aborts a question about a frame that does not come within half a second', async () => {
    alice.pair.start('byArrival')
    const asked = verify(0n, new Uint8Array(8))
    await clock.advance(499)
    let settled = false
    void asked.then(() => (settled = true))
    await settle()
    expect(settled).toBe(false)
    await clock.advance(1)
    expect(await asked).toBe('aborted: Sift: No data available')
  })

  it('answers a question that came a little before its frame', async () => {
    alice.pair.start('byArrival')
    await clock.advance(800)
    const asked = verify(0n, bases(bob.photons[0]))
    await clock.advance(200)
    expect(await asked).toBe('0:100000:100000')
  })

  it('aborts a second question about the same frame, also when both come at once', async () => {
    alice.pair.start('byArrival')
    await clock.advance(800)
    const both = [verify(0n, bases(bob.photons[0])), verify(0n, bases(bob.photons[0]))]
    await clock.advance(200)
    expect((await Promise.all(both)).sort()).toEqual(['0:100000:100000', 'aborted: Sift: No data available'])
    expect(await verify(0n, bases(bob.photons[0]))).toBe('aborted: Sift: No data available')
    expect(seen.keys).toHaveLength(781)
  })

  it('refuses more bases than the frame has qubits, and keeps the frame', async () => {
    alice.pair.start('byArrival')
    await clock.advance(1_000)
    expect(await verify(0n, new Uint8Array(100_001))).toContain('invalidArgument: basis of frame 0')
    expect(await verify(0n, bases(bob.photons[0]))).toBe('0:100000:100000')
  })

  it('refuses a frame named twice and absurdly many frames', async () => {
    alice.pair.start('byArrival')
    await clock.advance(1_000)
    const twice = alice.pair.services.verifyBases?.(
      [
        { frameId: 0n, bases: new Uint8Array(1) },
        { frameId: 0n, bases: new Uint8Array(1) },
      ],
      never,
    )
    await expect(twice).rejects.toMatchObject({ status: 'invalidArgument' })
    const many = Array.from({ length: 65 }, (_, i) => ({ frameId: BigInt(i), bases: new Uint8Array(1) }))
    await expect(alice.pair.services.verifyBases?.(many, never)).rejects.toMatchObject({ status: 'resourceExhausted' })
  })

  it('joins the frames of one question into one string of bits', async () => {
    alice.pair.start('byArrival')
    await clock.advance(2_000)
    const answers = await alice.pair.services.verifyBases?.(
      [0, 1].map((i) => ({ frameId: BigInt(i), bases: bases(bob.photons[i]).subarray(0, 100) })),
      never,
    )
    expect(answers?.map(({ frameId, answers: a }) => [frameId, a.length])).toEqual([
      [0n, 100],
      [1n, 100],
    ])
    // 200 bits are 25 bytes: one key, 9 bytes over.
    expect(seen.keys).toHaveLength(1)
  })

  it('numbers keys by frame and carries nothing over where the peer is a gateway', async () => {
    alice.pair.start('byId')
    expect(seen.events[0]).toMatchObject({ type: 'renumbered' })
    await clock.advance(2_000)
    expect(await verify(1n, bases(bob.photons[1]))).toBe('1:100000:100000')
    expect(seen.keys).toHaveLength(781)
    expect(seen.keys[0]?.id).toBe(1n << 20n)
    expect(await verify(0n, bases(bob.photons[0]))).toBe('0:100000:100000')
    expect(seen.keys[781]?.id).toBe(0n)
    expect(seen.keys).toHaveLength(1562)
  })

  it('begins a frame again when the peer refuses or does not answer, and says nothing of it to the site', async () => {
    let tries = 0
    bob.answer = (call) => {
      if (!call.startsWith('OnPhoton')) return Promise.resolve()
      tries += 1
      if (tries === 1) return Promise.reject(new PairCallError('unavailable', 'not yet'))
      return tries === 2 ? new Promise(() => {}) : Promise.resolve()
    }
    alice.pair.start('byArrival')
    await clock.advance(4_000)
    expect(bob.calls.slice(0, 7)).toEqual([
      'StartDetecting 0',
      'OnPhoton 100000',
      'StartDetecting 0',
      'OnPhoton 100000',
      'StartDetecting 0',
      'OnPhoton 100000',
      'StopDetecting 0',
    ])
    expect(session.failures).toEqual([])
    expect(await verify(0n, bases(bob.photons[2]))).toBe('0:100000:100000')
  })

  it('gives the session up after five failures to begin', async () => {
    bob.answer = () => Promise.reject(new PairCallError('failedPrecondition', 'no session'))
    alice.pair.start('byArrival')
    await clock.advance(20_000)
    expect(session.failures).toHaveLength(1)
    expect(bob.calls).toHaveLength(5)
  })

  it('gives the session up where it cannot know whether a frame was counted', async () => {
    bob.answer = (call) =>
      call.startsWith('Stop') ? Promise.reject(new PairCallError('unavailable', 'cut')) : Promise.resolve()
    alice.pair.start('byArrival')
    await clock.advance(3_000)
    expect(session.failures[0]?.message).toMatch(/frame 0: it is unknown whether the peer counted it/)
    expect(bob.calls).toHaveLength(3)
  })

  it('finishes the frame under way when she is asked to quiesce, and still answers for it', async () => {
    alice.pair.start('byArrival')
    await clock.advance(300)
    await alice.pair.quiesce()
    expect(bob.calls.at(-1)).toBe('StopDetecting 0')
    expect(await verify(0n, bases(bob.photons[0]))).toBe('0:100000:100000')
    await clock.advance(5_000)
    expect(bob.calls).toHaveLength(3)
  })

  it('is never held by a dead peer: quiesce takes its bound and no more', async () => {
    bob.answer = () => new Promise(() => {})
    alice.pair.start('byArrival')
    await clock.advance(10)
    let quiet = false
    const quiescing = alice.pair.quiesce().then(() => (quiet = true))
    await clock.advance(2_500)
    await quiescing
    expect(quiet).toBe(true)
    await alice.pair.end()
    await clock.advance(10_000)
    expect(clock.pending).toBe(0)
  })

  it('refuses questions once the session is over, and counts frames from 0 in the next', async () => {
    alice.pair.start('byArrival')
    await clock.advance(1_000)
    const asked = verify(7n, new Uint8Array(1))
    await alice.pair.end()
    expect(await asked).toBe('aborted: Sift: No data available')
    expect(await verify(0n, bases(bob.photons[0]))).toBe('failedPrecondition: no session is running')
    await alice.pair.prepare(session)
    alice.pair.start('byArrival')
    bob.photons.splice(0)
    await clock.advance(1_000)
    expect(await verify(0n, bases(bob.photons[0]))).toBe('0:100000:100000')
  })

  it('drops the oldest frames that nobody asks about, and counts them', async () => {
    alice.pair.start('byArrival')
    await clock.advance(66_000)
    expect(seen.events.filter(({ type }) => type === 'discarded')).toEqual([
      { type: 'discarded', reason: 'overflow', count: 781 },
      { type: 'discarded', reason: 'overflow', count: 781 },
    ])
    expect(await verify(1n, new Uint8Array(1))).toBe('aborted: Sift: No data available')
  })
})
