import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { ascii, bytesReader, Dialogue, lineReader, linesReader } from '../../src/device/dialogue.js'
import { ManualClock, settle } from '../drivers/support/manual-clock.js'

describe('question and answer', () => {
  const never = new AbortController().signal
  let clock: ManualClock
  let written: string[]
  let dialogue: Dialogue

  beforeEach(() => {
    clock = new ManualClock()
    written = []
    dialogue = new Dialogue(
      { path: '/dev/x', write: async (bytes) => void written.push(Buffer.from(bytes).toString()) },
      clock,
      64,
    )
  })

  const ask = (what: string): Promise<string> =>
    dialogue.ask({ what, bytes: ascii(what), read: lineReader(), timeoutMs: 100 }, never)

  it('sends one question after the other, each after the answer to the one before', async () => {
    const both = Promise.all([ask('a?'), ask('b?')])
    await settle()
    expect(written).toEqual(['a?'])
    dialogue.onData(ascii('1\r\n'))
    await settle()
    expect(written).toEqual(['a?', 'b?'])
    dialogue.onData(ascii('2\n'))
    expect(await both).toEqual(['1', '2'])
  })

  it('gives the same answers for any chunking', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(4), { maxLength: 30 }), async (sizes) => {
        const bytes = ascii('first\r\nsecond\n')
        const asking = dialogue.ask({ what: '?', bytes: ascii('?'), read: linesReader(2), timeoutMs: 100 }, never)
        await settle()
        let at = 0
        for (const size of sizes) dialogue.onData(bytes.subarray(at, (at += size)))
        dialogue.onData(bytes.subarray(at))
        expect(await asking).toEqual(['first', 'second'])
      }),
      { numRuns: 20 },
    )
  })

  it('throws away what nobody asked for, and counts it', async () => {
    dialogue.onData(ascii('boot message\n'))
    const asking = ask('?')
    await settle()
    dialogue.onData(ascii('answer\n'))
    expect(await asking).toBe('answer')
    expect(dialogue.stray).toBe(13)
  })

  it('gives up at the deadline and goes on with the next question', async () => {
    const first = expect(ask('a?')).rejects.toMatchObject({ code: 'E_DEADLINE' })
    const second = ask('b?')
    await clock.advance(100)
    await first
    dialogue.onData(ascii('b\n'))
    expect(await second).toBe('b')
  })

  it('refuses an answer that can never end, and does not grow', async () => {
    const asking = expect(
      dialogue.ask({ what: '?', bytes: ascii('?'), read: lineReader(20), timeoutMs: 100 }, never),
    ).rejects.toMatchObject({ code: 'E_DEVICE_PROTOCOL' })
    await settle()
    dialogue.onData(new Uint8Array(30).fill(65))
    await asking
    for (let i = 0; i < 1_000; i += 1) dialogue.onData(new Uint8Array(60))
    expect(dialogue.stray).toBeGreaterThan(50_000)
  })

  it('lets whoever waits know that the port is gone', async () => {
    const asking = expect(ask('?')).rejects.toMatchObject({ code: 'E_CANCELLED' })
    await settle()
    dialogue.end()
    await asking
    await expect(ask('again?')).rejects.toMatchObject({ code: 'E_CANCELLED' })
  })

  it('waits for silence, and gives up on a line that never falls silent', async () => {
    const quiet = dialogue.drain(30, 1_000, never)
    await clock.advance(20)
    dialogue.onData(ascii('x'))
    await clock.advance(29)
    let done = false
    void quiet.then(() => (done = true))
    await settle()
    expect(done).toBe(false)
    await clock.advance(1)
    expect(await quiet).toBe(true)
    const noisy = dialogue.drain(30, 100, never)
    for (let i = 0; i < 12; i += 1) {
      await clock.advance(10)
      dialogue.onData(ascii('x'))
    }
    expect(await noisy).toBe(false)
  })

  it('keeps what came after an answer for a question that only listens', async () => {
    const asking = dialogue.ask({ what: '?', bytes: ascii('?'), read: bytesReader(2), timeoutMs: 100 }, never)
    await settle()
    dialogue.onData(Uint8Array.of(1, 2, 3))
    expect([...(await asking)]).toEqual([1, 2])
    expect(dialogue.stray).toBe(0)
  })
})
