import { afterEach, describe, expect, it } from 'vitest'
import { openPtyLine } from '../../../src/io/pty.js'
import { encodeFrame } from '../../../drivers/qix/protocol.js'
import { base, bench, Ear, makeDevice, stateOf, type Bench } from './support.js'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

async function start(emulated: Record<string, string>, options: Record<string, string> = {}): Promise<Bench> {
  const made = await bench(emulated, options)
  stops.push(() => made.stop())
  return made
}

const key = (value: number): Uint8Array => new Uint8Array(32).fill(value)

/** A line that the test itself speaks on, with a running driver. */
async function scripted(options: Record<string, string> = {}) {
  const line = await openPtyLine(base)
  const device = makeDevice(line.path, options)
  const ear = new Ear(device)
  const ending = new AbortController()
  const running = device.run(ending.signal)
  stops.push(async () => {
    ending.abort()
    await running
    await line.close()
  })
  await stateOf(device.state, ({ state }) => state === 'open')
  const say = (id: number, value: number, status = 1): Promise<number> =>
    line.send(encodeFrame({ id: BigInt(id), key: key(value), status }))
  return { line, device, ear, say, ending, running }
}

describe('the QIX driver on a pseudo-terminal', () => {
  it('delivers every key of a unit in order, with its own ids', async () => {
    const { ear, device } = await start({ rate: '200' })
    await ear.untilKeys(100)
    const ids = ear.keys.map(({ id }) => id)
    expect(ids).toEqual(ids.map((_, index) => (ids[0] ?? 0n) + BigInt(index)))
    expect(new Set(ear.keys.map((event) => Buffer.from(event.key).toString('hex'))).size).toBe(ids.length)
    expect(device.state.value.state).toBe('producing')
  })

  it('passes on nothing that is compromised or damaged, and counts it', async () => {
    const { say, line, ear } = await scripted()
    await say(1, 1)
    await say(2, 2, 0xff)
    await say(3, 3, 0x00)
    const damaged = encodeFrame({ id: 4n, key: key(4), status: 1 })
    damaged[20] = 99
    await line.send(damaged)
    await say(5, 5)
    await ear.untilKeys(2)
    expect(ear.events).toEqual([
      { type: 'key', id: 1n, key: key(1) },
      { type: 'discarded', reason: 'compromised', count: 1, id: 2n },
      { type: 'discarded', reason: 'compromised', count: 1, id: 3n },
      { type: 'discarded', reason: 'corrupt', count: 1 },
      { type: 'key', id: 5n, key: key(5) },
    ])
  })

  it('counts damaged frames that follow each other one by one, whatever was damaged of each', async () => {
    const { line, ear, say } = await scripted()
    await say(1, 1)
    const inSync = encodeFrame({ id: 2n, key: key(2), status: 1 })
    inSync[1] = 0
    const inKey = encodeFrame({ id: 3n, key: key(3), status: 1 })
    inKey[20] = 99
    // What looks like a frame inside a damaged key is none.
    const holdsSync = encodeFrame({ id: 4n, key: key(4), status: 1 })
    holdsSync.set([0x5a, 0xa5], 20)
    await line.send(Buffer.concat([inSync, inKey, holdsSync]))
    await say(5, 5)
    await ear.untilKeys(2)
    expect(ear.events.slice(1)).toMatchObject([
      { type: 'discarded', reason: 'corrupt', count: 3 },
      { type: 'key', id: 5n },
    ])
  })

  it('tells repetitions, late frames and a new numbering apart', async () => {
    const { say, ear } = await scripted()
    for (const id of [10, 11, 11, 13, 12, 14, 3, 4]) await say(id, id)
    await ear.untilKeys(6)
    expect(ear.events).toMatchObject([
      { type: 'key', id: 10n },
      { type: 'key', id: 11n },
      { type: 'discarded', reason: 'repeated', id: 11n },
      { type: 'key', id: 13n },
      { type: 'discarded', reason: 'outOfOrder', id: 12n },
      { type: 'key', id: 14n },
      { type: 'renumbered', reason: 'the unit went back to id 3' },
      { type: 'key', id: 3n },
      { type: 'key', id: 4n },
    ])
  })

  it('begins in mid-frame, and takes stray AT text of another program for what it is', async () => {
    const { say, line, ear } = await scripted()
    await line.send(encodeFrame({ id: 1n, key: key(1), status: 1 }).subarray(20))
    await say(2, 2)
    await line.send(new TextEncoder().encode('AT+GCAP\r'))
    await say(3, 3)
    await ear.untilKeys(2)
    expect(ear.events).toEqual([
      { type: 'key', id: 2n, key: key(2) },
      { type: 'key', id: 3n, key: key(3) },
    ])
  })

  it('gives every listener a copy of its own', async () => {
    const { say, device } = await scripted()
    const first = new Promise<Uint8Array>((resolve) => {
      device.subscribe((event) => {
        if (event.type !== 'key') return
        event.key.fill(0)
        resolve(event.key)
      })
    })
    const second = new Promise<Uint8Array>((resolve) => {
      device.subscribe((event) => event.type === 'key' && resolve(event.key))
    })
    await say(1, 1)
    expect(await first).toEqual(key(0))
    expect(await second).toEqual(key(1))
  })

  it('says that the line rate is wrong where only nonsense arrives', async () => {
    const { device, unit } = await start({ rate: '100' }, { baud: '19200' })
    const state = await stateOf(device.state, (now) => now.state === 'silent')
    expect(state).toMatchObject({ reason: expect.stringContaining('the line rate is not 19200 baud') as string })
    // The unit is set to that rate: the same opening then produces.
    await unit.fault('baud', ['19200'])
    await stateOf(device.state, (now) => now.state === 'producing')
    expect(device.facts()['openings']).toBe(1)
  })

  it('shows an open but silent unit as such, opens the port again, and goes on when the unit speaks', async () => {
    const { device, ear, unit } = await start({ rate: '100' }, { 'silent-after-ms': '200' })
    await ear.untilKeys(3)
    await unit.fault('hang', ['0'])
    const state = await stateOf(device.state, (now) => now.state === 'silent')
    expect(state).toMatchObject({ reason: 'nothing came for 200 ms' })
    const before = ear.keys.length
    await unit.fault('resume', [])
    await ear.untilKeys(before + 3)
    expect(device.state.value.state).toBe('producing')
  })

  it('refuses options that cannot work before it touches any hardware', () => {
    expect(() => makeDevice('/dev/null', { baud: 'fast' })).toThrow(/baud/)
    expect(() => makeDevice('/dev/null', { colour: 'red' })).toThrow(/colour/)
  })

  it('rejects a path that is no device, and waits for one that is absent', async () => {
    const { signal } = new AbortController()
    await expect(makeDevice('/dev/null').run(signal)).rejects.toMatchObject({ code: 'E_DEVICE_NOT_A_DEVICE' })
    const ending = new AbortController()
    const device = makeDevice('/nowhere/tty')
    const running = device.run(ending.signal)
    await stateOf(device.state, (now) => now.state === 'absent' && now.reason.includes('waiting for it'))
    ending.abort()
    await running
    expect(device.state.value.state).toBe('stopped')
  })

  it('runs on an emulator inside its own process where there are no pseudo-terminals', async () => {
    const device = makeDevice('emulator:pair=x,rate=200')
    const ear = new Ear(device)
    const ending = new AbortController()
    const running = device.run(ending.signal)
    await ear.untilKeys(10)
    ending.abort()
    await running
    expect(device.facts()).toMatchObject({ emulated: true })
  })
})

describe('unplugging a QIX unit', () => {
  it('is survived twenty times in mid-frame, under one name, without losing the thread', async () => {
    const { device, ear, unit } = await start({ rate: '200' })
    await ear.untilKeys(1)
    for (let round = 1; round <= 20; round += 1) {
      await unit.fault('unplug', ['20'])
      await stateOf(device.state, ({ state }) => state === 'absent')
      const plugged = performance.now()
      await stateOf(device.state, ({ state }) => state === 'producing')
      expect(performance.now() - plugged).toBeLessThan(20_000)
    }
    expect(device.facts()).toMatchObject({ openings: 21, losses: 20 })
    expect(ear.events.filter(({ type }) => type === 'gap')).toHaveLength(20)
    expect(ear.events.filter(({ type }) => type === 'discarded')).toEqual([])
    const ids = ear.keys.map(({ id }) => id)
    expect(ids).toEqual([...ids].sort((a, b) => Number(a - b)))
  })

  it('is blamed on another program where the node vanishes within a second of appearing', async () => {
    const { line, device } = await scripted()
    await line.unplug()
    await stateOf(device.state, ({ state }) => state === 'absent')
    await line.plug()
    await stateOf(device.state, ({ state }) => state === 'open')
    await line.unplug()
    const state = await stateOf(device.state, (now) => now.state === 'absent' && now.reason.includes('brltty'))
    expect(state).toMatchObject({ reason: expect.stringContaining('appeared and vanished within a second') as string })
  })

  it('a device that speaks nonsense under the right name is "not yet", and the real one is taken when it comes', async () => {
    const { line, device, say, ear } = await scripted({ 'silent-after-ms': '500' })
    await line.send(new TextEncoder().encode('bootloader ready\r\n'.repeat(20)))
    const state = await stateOf(device.state, (now) => now.state === 'silent')
    expect(state).toMatchObject({ reason: expect.stringContaining('it looks like text') as string })
    await line.unplug()
    await stateOf(device.state, (now) => now.state === 'absent')
    await line.plug()
    await stateOf(device.state, (now) => now.state === 'open')
    await say(1, 1)
    await ear.untilKeys(1)
    expect(device.state.value.state).toBe('producing')
  })
})
