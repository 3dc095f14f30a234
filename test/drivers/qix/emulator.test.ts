import { mkdtempSync, rmSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import type { DeviceEmulator } from '../../../src/device/emulator-contract.js'
import { createMemoryLines } from '../../../src/io/memory-line.js'
import { emulator } from '../../../drivers/qix/emulator.js'
import { pairSource } from '../../../drivers/qix/frame-source.js'
import { QixDecoder, type QixItem } from '../../../drivers/qix/protocol.js'
import { runCommand } from '../../device/processes.js'
import { base, Ear, makeDevice, stateOf } from './support.js'

const stops: (() => unknown)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

/** An emulator on an in-memory line and what comes out of it, decoded. */
async function unit(options: Record<string, string>) {
  const lines = createMemoryLines()
  const line = lines.create('unit')
  const port = await lines.openSerial('memory:unit', { baudRate: 9_600 }, new AbortController().signal)
  const items: QixItem[] = []
  const decoder = new QixDecoder()
  const waiting = new Set<() => void>()
  let chunks = 0
  port.onData((chunk) => {
    chunks += 1
    items.push(...decoder.push(chunk))
    for (const wake of [...waiting]) wake()
  })
  const made: DeviceEmulator = emulator.create({ ...base, line, options })
  const until = (enough: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (!enough()) return
        waiting.delete(look)
        resolve()
      }
      waiting.add(look)
      look()
    })
  const frames = () => items.flatMap((item) => (item.type === 'frame' ? [item.frame] : []))
  const ending = new AbortController()
  return {
    line,
    made,
    items,
    frames,
    chunks: () => chunks,
    untilFrames: (count: number) => until(() => frames().length >= count),
    run: () => {
      const running = made.run(ending.signal)
      stops.push(async () => {
        ending.abort()
        await running
      })
    },
  }
}

describe('the emulated QIX unit', () => {
  it('numbers random keys from 0 at about the rate that its line carries', async () => {
    const { untilFrames, frames, run } = await unit({})
    const before = performance.now()
    run()
    await untilFrames(10)
    const tookMs = performance.now() - before
    expect(frames().map(({ id }) => id)).toEqual(Array.from({ length: frames().length }, (_, index) => BigInt(index)))
    expect(tookMs).toBeGreaterThan(400)
  })

  it('gives the same keys under the same ids from the same seed, and others from another', () => {
    const [a, b, c] = ['s', 's', 't'].map((seed) => pairSource(50, seed))
    expect(a?.at(1_000)).toEqual(b?.at(1_000))
    expect(a?.at(1_000).key).not.toEqual(c?.at(1_000).key)
    expect(a?.at(1_000).key).not.toEqual(a?.at(1_001).key)
    const before = a?.at(1_001).key
    a?.restart(7n)
    b?.restart(7n)
    expect(a?.at(1_002)).toMatchObject({ id: 7n })
    // Restarted at different moments, but the same id still stands for the same key, and not for that of before.
    expect(b?.at(1_005)).toMatchObject({ id: 7n })
    expect(a?.at(1_003)).toEqual(b?.at(1_006))
    expect(a?.at(1_999).key).not.toEqual(before)
  })

  it.each([
    ['drop', ['2'], [2, 3, 4]],
    ['repeat', ['1'], [0, 0, 1, 2]],
    ['reorder', [], [1, 0, 2]],
    ['corrupt', ['1'], [1, 2]],
    ['garbage', ['200'], [0, 1, 2]],
    ['text', ['AT+GCAP'], [0, 1, 2]],
    ['split', ['1', '10'], [0, 1, 2]],
    ['delay', ['50'], [0, 1, 2]],
    ['restart', ['40'], [40, 41]],
  ] as const)('on "%s" sends what such a fault sends', async (name, args, ids) => {
    const { made, untilFrames, frames, run } = await unit({ rate: '100' })
    await made.fault(name, args)
    run()
    await untilFrames(ids.length)
    expect(
      frames()
        .slice(0, ids.length)
        .map(({ id }) => Number(id)),
    ).toEqual(ids)
  })

  it('marks keys compromised, stops half way through a frame when unplugged, and is silent when hung', async () => {
    const { made, line, untilFrames, frames, run } = await unit({ rate: '100' })
    await made.fault('compromised', ['1'])
    run()
    await untilFrames(2)
    expect(
      frames()
        .map(({ status }) => status)
        .slice(0, 2),
    ).toEqual([0xff, 0x01])
    await made.fault('hang', ['0'])
    await made.fault('unplug', ['0', 'now'])
    expect(line.plugged).toBe(false)
    await made.fault('plug', [])
    expect(line.plugged).toBe(true)
  })

  it('refuses faults, arguments and options that it does not know', async () => {
    const { made } = await unit({})
    await expect(made.fault('explode', [])).rejects.toMatchObject({ code: 'E_USAGE' })
    await expect(made.fault('drop', ['some'])).rejects.toMatchObject({ code: 'E_USAGE' })
    await expect(unit({ pair: 'x', 'time-based': 'on' })).rejects.toMatchObject({ code: 'E_USAGE' })
    await expect(unit({ rate: '0' })).rejects.toMatchObject({ code: 'E_USAGE' })
  })
})

describe('qkd-gw emulate qix, as processes of their own', () => {
  it('two with one seed feed two sites the same keys, share nothing but the clock, and obey commands', async () => {
    const units = [0, 1].map(() => runCommand(['emulate', 'qix', '--pair', 'seed', '--rate', '100', '--json']))
    for (const { child } of units) stops.push(() => child.kill('SIGKILL'))
    const ears = await Promise.all(
      units.map(async (process) => {
        const { path } = await process.next(({ event }) => event === 'ready')
        const device = makeDevice(String(path))
        const ending = new AbortController()
        const ear = new Ear(device)
        const running = device.run(ending.signal)
        stops.push(async () => {
          ending.abort()
          await running
        })
        return ear
      }),
    )
    await Promise.all(ears.map((ear) => ear.untilKeys(60)))
    const [a, b] = ears.map((ear) => new Map(ear.keys.map(({ id, key }) => [id, Buffer.from(key).toString('hex')])))
    const shared = [...(a ?? [])].filter(([id]) => b?.has(id) === true)
    expect(shared.length).toBeGreaterThan(20)
    for (const [id, key] of shared) expect(b?.get(id)).toBe(key)
    const [first] = units
    first?.child.stdin.write('drop 3\nnonsense\nfacts\nquit\n')
    expect(await first?.next(({ event }) => event === 'fault')).toMatchObject({ fault: 'drop', args: ['3'] })
    expect(await first?.next(({ event }) => event === 'error')).toMatchObject({ code: 'E_USAGE' })
    expect(await first?.next(({ event }) => event === 'facts')).toMatchObject({ plugged: true })
    expect(await first?.ended).toBe(0)
  })

  it('one that is killed and started again under its link is the same device again', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'qkd-gw-emulate-'))
    stops.push(() => rmSync(folder, { recursive: true }))
    const link = join(folder, 'unit')
    const start = async () => {
      const process = runCommand(['emulate', 'qix', '--rate', '100', '--link', link, '--json'])
      stops.push(() => process.child.kill('SIGKILL'))
      expect(await process.next(({ event }) => event === 'ready')).toMatchObject({ path: link, transport: 'pty' })
      return process
    }
    const first = await start()
    const device = makeDevice(link)
    const ending = new AbortController()
    const running = device.run(ending.signal)
    stops.push(async () => {
      ending.abort()
      await running
    })
    await stateOf(device.state, ({ state }) => state === 'producing')
    // A stale link could lead to the next PTY that somebody makes.
    unlinkSync(link)
    first.child.kill('SIGKILL')
    await stateOf(device.state, ({ state }) => state === 'absent')
    await start()
    await stateOf(device.state, ({ state }) => state === 'producing')
  })

  it('ends with whoever started it, when asked to', async () => {
    const process = runCommand(['emulate', 'qix', '--until-stdin-ends', '--json'])
    await process.next(({ event }) => event === 'ready')
    process.child.stdin.end()
    expect(await process.ended).toBe(0)
  })
})
