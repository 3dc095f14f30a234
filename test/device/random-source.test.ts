import { beforeEach, describe, expect, it } from 'vitest'
import { TestedPool } from '../../src/device/random-source.js'
import { ManualClock, settle } from '../drivers/support/manual-clock.js'
import { seededRandom } from '../drivers/support/pair.js'

const never = new AbortController().signal

describe('a pool of tested random bytes', () => {
  let clock: ManualClock
  let failures: string[]
  let pool: TestedPool
  const random = seededRandom(8)

  const create = (condition?: (raw: Uint8Array) => Uint8Array): TestedPool =>
    new TestedPool({
      name: 'test',
      claimsQuantum: false,
      health: { entropyBits: 4 },
      clock,
      capacity: 1_000,
      onFailure: (message) => failures.push(message),
      ...(condition === undefined ? {} : { condition }),
    })

  beforeEach(() => {
    clock = new ManualClock()
    failures = []
    pool = create()
  })

  it('gives nothing of the start-up test out', async () => {
    const start = random.bytes(1_024)
    pool.push(Uint8Array.from(start))
    const reading = pool.read(4, 100, never)
    pool.push(Uint8Array.of(1, 2, 3, 4, 5))
    expect([...(await reading)]).toEqual([1, 2, 3, 4])
    expect(pool.facts()).toMatchObject({ bytesReady: 1, bytesGiven: 4, healthy: true })
  })

  it('gives each byte once, in order of asking, and wipes what it was given', async () => {
    pool.push(random.bytes(1_024))
    const raw = Uint8Array.of(1, 2, 3, 4, 5, 6)
    const readers = [pool.read(2, 100, never), pool.read(0, 100, never), pool.read(3, 100, never)]
    pool.push(raw)
    expect((await Promise.all(readers)).map((bytes) => [...bytes])).toEqual([[1, 2], [], [3, 4, 5]])
    expect([...raw]).toEqual([0, 0, 0, 0, 0, 0])
  })

  it('asks for more while somebody waits, also for more than it can hold', async () => {
    pool.push(random.bytes(1_024))
    let wanted = 0
    pool.onWanted(() => (wanted += 1))
    expect(pool.room).toBe(1_000)
    const reading = pool.read(2_500, 100, never)
    expect(wanted).toBe(1)
    expect(pool.room).toBe(3_500)
    pool.push(random.bytes(1_500))
    pool.push(random.bytes(1_500))
    expect(await reading).toHaveLength(2_500)
    expect(pool.room).toBe(500)
  })

  it('stops loudly when the source dies: those who wait are told, what was ready is thrown away', async () => {
    pool.push(random.bytes(1_024))
    pool.push(random.bytes(500))
    const reading = expect(pool.read(900, 1_000, never)).rejects.toMatchObject({ code: 'E_RANDOM_SOURCE' })
    pool.push(new Uint8Array(50))
    await reading
    expect(failures).toEqual([expect.stringContaining('value 0 came 9 times in a row')])
    expect(pool.facts()).toMatchObject({ healthy: false, bytesReady: 0, healthFailures: 1 })
    await expect(pool.read(1, 100, never)).rejects.toMatchObject({ code: 'E_RANDOM_SOURCE' })
    pool.push(random.bytes(5_000))
    await expect(pool.read(1, 100, never)).rejects.toMatchObject({ code: 'E_RANDOM_SOURCE' })
    pool.restart()
    pool.push(random.bytes(1_024))
    pool.push(random.bytes(10))
    expect(await pool.read(10, 100, never)).toHaveLength(10)
  })

  it('gives up on a source that gives too little', async () => {
    const reading = expect(pool.read(4, 100, never)).rejects.toMatchObject({ code: 'E_DEADLINE' })
    await settle()
    await clock.advance(100)
    await reading
    const stop = new AbortController()
    const second = expect(pool.read(4, 100, stop.signal)).rejects.toMatchObject({ code: 'E_CANCELLED' })
    stop.abort()
    await second
    expect(clock.pending).toBe(0)
  })

  it('tests the raw bytes and gives the conditioned ones', async () => {
    pool = create((raw) => Uint8Array.of(raw.length & 255))
    pool.push(random.bytes(1_024))
    pool.push(random.bytes(33))
    expect([...(await pool.read(1, 100, never))]).toEqual([33])
    pool.push(new Uint8Array(40))
    expect(failures).toHaveLength(1)
  })

  it('holds no more than it may', () => {
    pool.push(random.bytes(1_024))
    for (let i = 0; i < 10; i += 1) pool.push(random.bytes(400))
    expect(pool.facts()).toMatchObject({ bytesReady: 1_000 })
  })
})
