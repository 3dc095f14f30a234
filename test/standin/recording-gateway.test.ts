import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { systemClock, type Clock } from '../../src/base/clock.js'
import { systemRandom } from '../../src/base/random.js'
import { attach } from '../../src/gateway/attach.js'
import { configSchema } from '../../src/gateway/config/schema.js'
import { listedDifferences } from './recording/listed.js'
import { loadRecording } from './recording/recording.js'
import { startSeatPlayer } from './recording/seat-player.js'
import { compareTraces, recordedTrace, type Seat } from './recording/trace.js'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

/**
 * The gateway's second lasts three: what takes a frame of 100,000 qubits milliseconds elsewhere takes a machine that runs
 * other tests as well, with both ends in one process, far longer than the protocol's deadlines.
 */
const slowness = 3
const slowClock: Clock = {
  ...systemClock,
  monotonicMs: () => systemClock.monotonicMs() / slowness,
  after: (delayMs, fire) => systemClock.after(delayMs * slowness, fire),
}

/** Our gateway with the Dummy driver, without a tunnel, at this SiteAgent. */
async function startGateway(seat: Seat, siteAgent: string): Promise<{ stop(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-recording-'))
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
  const stop = new AbortController()
  const side = seat === 'Alice' ? 'alice' : 'bob'
  const config = configSchema.parse({
    // The protocol gives a frame of 100,000 qubits 500 ms, which a machine that runs other tests as well may miss.
    device: { path: 'dummy:', side, id: `dummyqkd__0__16_${side}`, options: { 'frame-wait-ms': '20000' } },
    server: { listen: `127.0.0.1:${await freePort()}` },
    site: { agent: siteAgent },
    state: { folder },
    log: { level: 'silent' },
  })
  const running = attach(config, {
    stdin: process.stdin,
    stderr: process.stderr,
    env: {},
    clock: slowClock,
    random: systemRandom,
    signal: stop.signal,
    configFile: undefined,
  })
  running.catch(() => {})
  const end = async (): Promise<void> => {
    stop.abort()
    await running
  }
  cleanups.push(end)
  return { stop: end }
}

const events = loadRecording()
const frames = 2

describe('the recorded session played against our Dummy device', () => {
  const listed = listedDifferences()
  const seen = new Set<string>()

  const patience = { timeout: 240_000 }

  test.each(['Alice', 'Bob'] as const)(
    'in the seat of %s it differs only where the list says so',
    patience,
    async (seat) => {
      const player = await startSeatPlayer(seat)
      cleanups.push(() => player.close())
      const gateway = await startGateway(seat, player.siteAgentAddress)
      const found = await player.play(frames, () => gateway.stop())
      const differences = compareTraces(recordedTrace(events, seat, frames), found)
      const unlisted = differences.filter(({ where }) => {
        const entry = listed.find((candidate) => candidate.matches(where))
        if (entry !== undefined) seen.add(entry.pattern)
        return entry === undefined
      })
      expect(unlisted).toEqual([])
    },
  )

  test('every difference of the list is one', () => {
    expect(listed.map(({ pattern }) => pattern).filter((pattern) => !seen.has(pattern))).toEqual([])
  })
})
