import { describe, expect, it, type TestContext } from 'vitest'
import { openPtyLine } from '../../../src/io/pty.js'
import { createNodeIo } from '../../../src/io/node-io.js'
import { emulator } from '../../../drivers/tdc1/emulator.js'
import { serialSettings } from '../../../drivers/tdc1/options.js'
import { startTagging } from '../../../drivers/tdc1/protocol.js'
import { ascends, stateOf } from '../../device/event-formats/ear.js'
import { base, bench, makeDevice, type Bench } from './support.js'

/** Both ends, running; they end with the test. */
async function start(
  { onTestFinished }: TestContext,
  unit: Record<string, string>,
  driver: Record<string, string> = {},
): Promise<Bench> {
  const made = await bench(unit, driver)
  onTestFinished(() => made.stop())
  return made
}

describe('the TDC1 driver on a pseudo-terminal', () => {
  it('identifies the unit and delivers its time tags in ascending time', async (context) => {
    const { device, ear } = await start(context, { rate: '50000', seed: 'one' })
    const identified = await stateOf(device.state, ({ state }) => state === 'producing')
    expect(identified).toMatchObject({ identity: 'S-Fifteen Instruments TDC1 emulator' })
    await ear.untilTags(20_000)
    expect(ascends(ear.times)).toBe(true)
    expect(ear.gaps).toEqual([])
    for (const input of [1, 2, 4, 8]) expect(ear.patterns).toContain(input)
    const seconds = Number((ear.times.at(-1) ?? 0n) - (ear.times[0] ?? 0n)) / 1e12
    expect(ear.times.length / seconds).toBeGreaterThan(45_000)
    expect(ear.times.length / seconds).toBeLessThan(55_000)
    expect(device.facts()).toMatchObject({ mode: 'timestamp', runs: 1, outOfOrder: 0, invalid: 0, slips: 0 })
  })

  it('keeps up with half a million tags a second', async (context) => {
    const { ear } = await start(context, { rate: '500000' })
    await ear.untilTags(300_000)
    expect(ear.gaps).toEqual([])
    expect(ascends(ear.times)).toBe(true)
  })

  it('stops the unit before it closes the port', async (context) => {
    const { ear, unit, stopDevice } = await start(context, { rate: '20000' })
    await ear.untilTags(1000)
    expect(unit.facts()).toMatchObject({ tagging: true })
    await stopDevice()
    expect(unit.facts()).toMatchObject({ tagging: false })
  })

  it('begins with a unit that still tags for somebody who went away', async (context) => {
    const line = await openPtyLine(base)
    const unit = emulator.create({ ...base, line, options: { rate: '20000' } })
    const unitEnding = new AbortController()
    const unitRunning = unit.run(unitEnding.signal)
    // Somebody starts it and is gone.
    const host = await createNodeIo(base).openSerial(line.path, serialSettings(), unitEnding.signal)
    const heard = new Promise<void>((resolve) => host.onData(() => resolve()))
    await host.write(startTagging({ threshold: 'nim', clock: 'auto', gateMs: 0 }), 1000)
    await heard
    await host.close()
    const { device, ear } = makeDevice(line.path)
    const ending = new AbortController()
    const running = device.run(ending.signal)
    context.onTestFinished(async () => {
      ending.abort()
      await running
      unitEnding.abort()
      await unitRunning
      await line.close()
    })
    await ear.untilTags(1000)
    expect(ear.gaps).toEqual([])
    expect(ascends(ear.times)).toBe(true)
    expect(device.facts()).toMatchObject({ openings: 1, runs: 1 })
  })

  it('begins and ends tagging as it is told, with a gap between two runs and a time line that goes on', async (context) => {
    const { ear, device } = await start(context, { rate: '20000' })
    await ear.untilTags(2000)
    device.setTagging(false)
    await ear.until(({ gaps }) => gaps.length === 1)
    expect(ear.gaps[0]?.reason).toBe('tagging was stopped')
    device.setTagging(true)
    await ear.untilTags(2000)
    expect(ascends(ear.times)).toBe(true)
    expect(device.facts()).toMatchObject({ runs: 2 })
  })

  it.concurrent('gets every record of a slow source, and all of its wraps', async (context) => {
    // 2 Hz: most half-wraps hold nothing but a dummy.
    const { ear, device } = await start(context, { wave: '2' }, { 'flush-ms': '20' })
    await ear.untilTags(5)
    const steps = ear.times.slice(1).map((time, i) => time - (ear.times[i] ?? 0n))
    expect(steps).toEqual(steps.map(() => 500_000_000_000n))
    expect(ear.times[0]).toBe(500_000_000_000n)
    expect(device.facts()['dummies']).toBeGreaterThan(8)
    expect(device.facts()['flushes']).toBeGreaterThan(10)
  })

  it.concurrent('counts singles and pairs gate by gate', async (context) => {
    const singles = await start(context, { rate: '20000' }, { mode: 'singles', 'gate-ms': '100' })
    await singles.ear.until(({ figures }) => figures.length >= 8)
    expect(singles.ear.figures.slice(0, 4).map(({ name }) => name)).toEqual([
      'Detector Counts 1',
      'Detector Counts 2',
      'Detector Counts 3',
      'Detector Counts 4',
    ])
    for (const { value } of singles.ear.figures.slice(0, 4)) expect(value).toBeGreaterThan(350)
    const pairs = await start(context, { wave: '5000' }, { mode: 'pairs', 'gate-ms': '100', threshold: '-0.2' })
    await pairs.ear.until(({ figures }) => figures.length >= 8)
    const [first = 0, ...others] = pairs.ear.figures.slice(0, 8).map(({ value }) => value)
    expect([499, 500]).toContain(first)
    expect(others).toEqual([0, 0, 0, 0, 0, 0, 0])
  })
})

describe('faults of a TDC1', () => {
  it('that slip by two bytes cost a gap, not the stream', async (context) => {
    const { ear, unit, device } = await start(context, { rate: '200000' })
    await ear.untilTags(20_000)
    await unit.fault('slip', [])
    await ear.until(({ gaps }) => gaps.length >= 2)
    await ear.untilTags(20_000)
    expect(ear.gaps.map(({ reason }) => reason).slice(0, 2)).toEqual([
      'the stream slipped: 2 bytes were lost',
      'tagging was interrupted to ask for overflow',
    ])
    expect(ascends(ear.times)).toBe(true)
    expect(device.facts()).toMatchObject({ slips: 1, overflows: 0 })
  })

  it('that overflow are noticed by the status behind a slip, and reported', async (context) => {
    const { ear, unit, device } = await start(context, { rate: '200000' })
    await ear.untilTags(20_000)
    await unit.fault('overflow', ['300'])
    await unit.fault('slip', [])
    await ear.until(({ gaps }) => gaps.some(({ reason }) => reason.includes('FIFO')))
    await ear.untilTags(20_000)
    expect(ear.discarded.get('overflow')).toBe(1)
    expect(device.facts()).toMatchObject({ overflows: 1 })
    expect(ascends(ear.times)).toBe(true)
  })

  it('that swap, repeat or zero a record are counted and leave the times of the others alone', async (context) => {
    const { ear, unit, device } = await start(context, { wave: '20000' })
    for (const fault of ['swap', 'repeat-record', 'zero']) {
      await ear.untilTags(3000)
      await unit.fault(fault, [])
    }
    await ear.untilTags(3000)
    const odd = ear.times.filter((time) => time % 50_000_000n !== 0n)
    expect(odd).toEqual([])
    expect(ear.discarded.get('outOfOrder')).toBe(1)
    expect(ear.discarded.get('repeated')).toBe(1)
    expect(ear.discarded.get('invalid')).toBe(1)
    expect(device.facts()).toMatchObject({ outOfOrder: 2, invalid: 1, slips: 0 })
  })

  it('that damage, drop, delay or split what is on the line leave an ascending time line', async (context) => {
    const { ear, unit } = await start(context, { rate: '100000' })
    for (const [fault, args] of [
      ['corrupt', ['3']],
      ['drop', ['2']],
      ['delay', ['150']],
      ['split', ['2', '30']],
      ['garbage', ['33']],
      ['text', []],
      ['repeat', ['1']],
      ['reorder', []],
    ] as const) {
      await ear.untilTags(5000)
      await unit.fault(fault, args)
    }
    await ear.untilTags(30_000)
    // Inside a stretch without a gap no tag may stand before another.
    let from = 0
    for (const after of [...ear.gaps.map((gap) => gap.after), ear.times.length]) {
      expect(ascends(ear.times.slice(from, after))).toBe(true)
      from = after
    }
  })

  it.concurrent('that overflow without a slip are noticed where the status is asked for regularly', async (context) => {
    const { ear, unit } = await start(context, { rate: '50000' }, { 'check-seconds': '1' })
    await ear.untilTags(5000)
    await unit.fault('overflow', [])
    await ear.until(({ gaps }) => gaps.length > 0)
    expect(ear.gaps[0]?.reason).toBe('the FIFO of the unit ran over: records are missing')
  })

  it.concurrent('that hang are seen as silence, and the unit produces again afterwards', async (context) => {
    const { ear, unit, device } = await start(context, { rate: '50000' }, { 'silent-after-ms': '400' })
    await ear.untilTags(2000)
    await unit.fault('hang', ['1500'])
    const silent = await stateOf(device.state, ({ state }) => state === 'silent')
    expect(silent).toMatchObject({ reason: expect.stringContaining('nothing came for 400 ms') as string })
    await stateOf(device.state, ({ state }) => state === 'producing')
    await ear.untilTags(2000)
  })

  it.concurrent('that unplug in mid-record and come back are a gap, and the time line goes on', async (context) => {
    const { ear, unit, device } = await start(context, { rate: '100000' })
    await ear.untilTags(5000)
    await unit.fault('unplug', ['300'])
    await stateOf(device.state, ({ state }) => state === 'absent')
    const before = ear.times.length
    await ear.until(({ times }) => times.length > before + 5000)
    expect(ear.gaps.length).toBeGreaterThanOrEqual(1)
    expect(ascends(ear.times)).toBe(true)
    expect(device.facts()['losses']).toBeGreaterThanOrEqual(1)
  })

  it.concurrent('that are another device under its name are said to be so, and waited for', async (context) => {
    const line = await openPtyLine(base)
    const unhear = line.onData((chunk) => {
      if (Buffer.from(chunk).toString().includes('*IDN?')) void line.send(Buffer.from('Quantum\r\n'))
    })
    const { device } = makeDevice(line.path)
    const ending = new AbortController()
    const running = device.run(ending.signal)
    context.onTestFinished(async () => {
      ending.abort()
      await running
      unhear()
      await line.close()
    })
    const state = await stateOf(device.state, (now) => now.state === 'silent')
    expect(state).toMatchObject({ reason: expect.stringContaining('"Quantum", which names no TDC1') as string })
  })
})
