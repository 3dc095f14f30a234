import { describe, expect, it } from 'vitest'
import { createBackoff } from '../../src/base/backoff.js'
import { StateCell, untilState } from '../../src/base/cell.js'
import { sleep, systemClock, withDeadline } from '../../src/base/clock.js'
import { formatHostPort, parseHostPort } from '../../src/base/host-port.js'
import { systemRandom } from '../../src/base/random.js'

describe('waiting', () => {
  it('a deadline names what did not answer, and aborts the work', async () => {
    let aborted = false
    const never = withDeadline(systemClock, 10, 'SiteAgent 10.0.0.1:8000', (signal) => {
      signal.addEventListener('abort', () => (aborted = true))
      return new Promise(() => {})
    })
    await expect(never).rejects.toMatchObject({ code: 'E_DEADLINE' })
    await expect(never).rejects.toThrow('10.0.0.1:8000')
    expect(aborted).toBe(true)
  })

  it('a parent that has aborted already keeps the work from starting', async () => {
    let started = false
    const work = withDeadline(
      systemClock,
      1_000,
      'x',
      async () => {
        started = true
      },
      AbortSignal.abort(),
    )
    await expect(work).rejects.toMatchObject({ code: 'E_CANCELLED' })
    expect(started).toBe(false)
  })

  it('sleep ends as soon as its signal does', async () => {
    const controller = new AbortController()
    const sleeping = sleep(systemClock, 60_000, controller.signal)
    controller.abort()
    await expect(sleeping).rejects.toMatchObject({ code: 'E_CANCELLED' })
  })

  it('pauses grow up to the longest one, with jitter around each, and begin again after success', () => {
    const backoff = createBackoff({ firstMs: 100, maxMs: 1_000, jitter: 0.2 }, systemRandom)
    const pauses = Array.from({ length: 8 }, () => backoff.nextMs())
    expect(pauses[0]).toBeGreaterThanOrEqual(90)
    expect(pauses[0]).toBeLessThanOrEqual(110)
    for (const pause of pauses.slice(4)) {
      expect(pause).toBeGreaterThanOrEqual(900)
      expect(pause).toBeLessThanOrEqual(1_100)
    }
    backoff.reset()
    expect(backoff.nextMs()).toBeLessThanOrEqual(110)
  })
})

describe('a state cell', () => {
  it('tells every listener of a change even where one of them throws', () => {
    const failures: unknown[] = []
    const cell = new StateCell('a', systemClock, (error) => failures.push(error))
    const seen: string[] = []
    cell.subscribe(() => {
      throw new Error('listener')
    })
    cell.subscribe((next, previous) => seen.push(`${previous}>${next}`))
    cell.set('b')
    expect(seen).toEqual(['a>b'])
    expect(failures).toHaveLength(1)
  })

  it('waiting for a state ends with the state or with the signal', async () => {
    const cell = new StateCell<'a' | 'b'>('a', systemClock)
    const controller = new AbortController()
    const waiting = untilState(cell, (state): state is 'b' => state === 'b', controller.signal)
    cell.set('b')
    await expect(waiting).resolves.toBe('b')
    const never = untilState(cell, (state): state is 'a' => state === 'a', controller.signal)
    controller.abort(new Error('enough'))
    await expect(never).rejects.toThrow('enough')
  })
})

describe('an address', () => {
  it.each([
    ['45.55.2.5:9000', '45.55.2.5', 9000],
    ['[2001:db8::5]:9000', '2001:db8::5', 9000],
    ['dns:///site-a.example:8000', 'site-a.example', 8000],
    ['dns:localhost:1', 'localhost', 1],
    ['ipv4:127.0.0.1:2', '127.0.0.1', 2],
    ['ipv6:[::1]:3', '::1', 3],
    ['//10.0.0.1:4', '10.0.0.1', 4],
  ])('is read in every spelling that peers use: %s', (text, host, port) => {
    expect(parseHostPort(text, 'x')).toEqual({ host, port })
    expect(parseHostPort(formatHostPort({ host, port }), 'x')).toEqual({ host, port })
  })

  it.each(['', 'host', 'host:', 'host:70000', 'http://host:1', 'a:b:1', 'host:1/x'])(
    'is refused by name when it is none: "%s"',
    (text) => {
      expect(() => parseHostPort(text, '--listen')).toThrow(/--listen/)
    },
  )
})
