import { PassThrough } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { systemRandom } from '../../src/base/random.js'
import { createLogger } from '../../src/observe/log.js'
import type { TunnelLink } from '../../src/tunnel/link.js'
import { DEFAULT_TIMINGS } from '../../src/tunnel/options.js'
import { Spare } from '../../src/tunnel/spare.js'

interface StubLink extends TunnelLink {
  /** The connection is gone. */
  lose(why: string): void
  readonly asked: Promise<void>
  answer(alive: boolean): void
}

function promised<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>((settle) => (resolve = settle))
  return { promise, resolve }
}

function stubLink(): StubLink {
  const closed = promised<string>()
  const asked = promised<void>()
  const answer = promised<boolean>()
  return {
    keyExchange: 'none',
    postQuantum: false,
    serverVersion: 'none',
    address: '127.0.0.1',
    resolved: [],
    closed: closed.promise,
    listen: (bind) => Promise.resolve(bind),
    unlisten: () => Promise.resolve(),
    dial: () => Promise.reject(new Error('nowhere')),
    openConnections: () => 0,
    exec: () => Promise.resolve(undefined),
    ping() {
      asked.resolve()
      return Promise.race([answer.promise, closed.promise.then(() => false)])
    },
    end: () => Promise.resolve(closed.resolve('ended')),
    destroy: (reason) => closed.resolve(reason),
    lose: (why) => closed.resolve(why),
    asked: asked.promise,
    answer: (alive) => answer.resolve(alive),
  }
}

async function eventually(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

const spares: Spare[] = []

function createSpare(connect: (signal: AbortSignal) => Promise<TunnelLink>): { spare: Spare; said: string[] } {
  const said: string[] = []
  const destination = new PassThrough().on('data', (line: Buffer) => said.push(line.toString()))
  const log = createLogger({ level: 'warn', format: 'json', destination })
  const timings = { ...DEFAULT_TIMINGS, spareAfterMs: 1, spareMaxMs: 5 }
  const spare = new Spare({ connect, timings, options: { clock: systemClock, random: systemRandom, log } })
  spares.push(spare)
  return { spare, said }
}

afterEach(async () => {
  for (const spare of spares.splice(0)) await spare.drop('the test is over')
})

describe('a spare connection', () => {
  it('that is dropped while it is made is gone, with all that a half-made one holds, once the drop resolves', async () => {
    const begun = promised<void>()
    const undone = promised<void>()
    let isUndone = false
    const { spare } = createSpare(async (signal) => {
      begun.resolve()
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      await undone.promise
      isUndone = true
      throw new GatewayError('E_CANCELLED', 'stopped')
    })
    spare.want()
    await begun.promise
    const dropped = spare.drop('stopping').then(() => isUndone)
    await new Promise((resolve) => setTimeout(resolve, 20))
    undone.resolve()
    expect(await dropped).toBe(true)
  })

  it('that is dropped while it is asked takes nothing over, and keeps nobody waiting for its answer', async () => {
    const link = stubLink()
    const { spare } = createSpare(() => Promise.resolve(link))
    spare.want()
    await eventually(() => spare.describe() === 'ready')
    const taken = spare.take()
    await link.asked
    await spare.drop('stopping')
    link.answer(true)
    expect(await taken).toBeUndefined()
    expect(await link.closed).toBe('stopping')
    expect(spare.used).toBe(0)
  })

  it('says each time why it is lost, also for the same reason as before it stood by', async () => {
    const links: StubLink[] = []
    const { spare, said } = createSpare(() => {
      const link = stubLink()
      links.push(link)
      return Promise.resolve(link)
    })
    spare.want()
    for (const lost of [1, 2]) {
      await eventually(() => spare.describe() === 'ready' && links.length === lost)
      links.at(-1)?.lose('connection reset')
      await eventually(() => links.length > lost)
    }
    await eventually(() => said.join('').split('connection reset').length === 3)
  })

  it('that took over leaves no old reason behind', async () => {
    const links: StubLink[] = []
    const { spare } = createSpare(() => {
      const link = stubLink()
      links.push(link)
      return Promise.resolve(link)
    })
    spare.want()
    await eventually(() => spare.describe() === 'ready')
    links[0]?.lose('connection reset')
    await eventually(() => spare.describe() === 'ready' && links.length === 2)
    links[1]?.answer(true)
    expect(await spare.take()).toBe(links[1])
    expect(spare.describe()).toBe('not yet')
  })
})
