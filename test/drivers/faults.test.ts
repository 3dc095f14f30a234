import { describe, expect, it } from 'vitest'
import type { Device } from '../../src/device/contract.js'
import {
  type Bench,
  DRIVER_CASES,
  type DriverCase,
  startBench,
  startEmulator,
  untilState,
} from './support/every-driver.js'

/** What every emulator offers, whatever its cables are. */
const EVERYWHERE = ['drop', 'delay', 'corrupt', 'split', 'unplug', 'plug', 'hang', 'resume']
const RATE_MATTERS = new Set(['qix', 'qcicada', 'ekpqc', 'counter-cc1', 'counter-abacus'])
const RATE_IN_DOUBT = /most likely the line rate is not|not at \d+ baud\?/
const WITH_A_BUFFER = new Set(['tdc1', 'nox'])

/** Each with the count of the emulator by which it shows that it did so. */
const FAULTS = [
  { fault: 'drop', args: ['1'], counted: 'dropped' },
  { fault: 'delay', args: ['200'], counted: 'delayed' },
  { fault: 'split', args: ['2'], counted: 'split' },
  { fault: 'hang', args: ['0'], counted: 'withheld' },
  // May well stop a random source for a minute, or until it is plugged in again.
  { fault: 'corrupt', args: ['2'], counted: 'corrupted' },
  { fault: 'unplug', args: ['100', 'now'], counted: 'unplugs' },
]

async function until(what: string, holds: () => boolean): Promise<void> {
  const giveUpAtMs = performance.now() + 30_000
  while (!holds()) {
    if (performance.now() > giveUpAtMs) throw new Error(`never came: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function onBench(chosen: DriverCase, act: (bench: Bench) => Promise<void>): Promise<void> {
  const bench = await startBench(chosen)
  try {
    await act(bench)
  } finally {
    await bench.stop()
  }
}

function works(device: Device, chosen: DriverCase): Promise<unknown> {
  return untilState(device, `${chosen.driver} works`, ({ state }) => state === chosen.works || state === 'producing')
}

// They wait more than they work: several at a time.
describe.concurrent.each(DRIVER_CASES)('the emulator of $driver', (chosen) => {
  it('has every fault that its cables and its device can have, and names them for one that it has not', async () => {
    const end = await startEmulator(chosen)
    try {
      const names = end.emulator.faults.map(({ name }) => name)
      expect(names).toEqual(expect.arrayContaining(EVERYWHERE))
      expect(new Set(names).size).toBe(names.length)
      if (chosen.cables !== 'usb') expect(names).toContain('baud')
      if (chosen.cables === 'serial and usb') expect(names).toEqual(expect.arrayContaining(['unplug-serial']))
      if (WITH_A_BUFFER.has(chosen.driver)) expect(names).toContain('overflow')
      await expect(end.emulator.fault('melt', [])).rejects.toMatchObject({
        code: 'E_USAGE',
        remedy: expect.stringContaining('corrupt') as string,
      })
    } finally {
      await end.stop()
    }
  })

  it('does what was commanded, and the driver works again after each', async () => {
    await onBench(chosen, async ({ device, emulator }) => {
      await works(device, chosen)
      for (const { fault, args, counted } of FAULTS) {
        const openings = Number(device.facts()['openings'])
        const before = Number(emulator.facts()[counted])
        expect(await emulator.fault(fault, args)).toEqual(expect.any(String))
        await until(`${fault} was done`, () => Number(emulator.facts()[counted]) > before)
        if (fault === 'unplug') await until('it is seen', () => Number(device.facts()['openings']) > openings)
        if (fault === 'hang') await emulator.fault('resume', [])
        if (fault !== 'corrupt') await works(device, chosen)
      }
      if (chosen.cables === 'serial and usb') {
        const openings = Number(device.facts()['openings'])
        await emulator.fault('unplug-serial', ['100'])
        await until('it is seen', () => Number(device.facts()['openings']) > openings)
        await works(device, chosen)
      }
      expect(emulator.facts()).toMatchObject({ plugged: true })
    })
  }, 120_000)
})

describe('a device at another line rate', () => {
  // Those whose line is a real one; the rate of the others (USB) means nothing.
  it.concurrent.each(DRIVER_CASES.filter(({ driver }) => RATE_MATTERS.has(driver)))(
    'is said to be so most likely, or perhaps where it answers nothing: $driver',
    async (chosen) => {
      await onBench(chosen, async ({ device, emulator }) => {
        await emulator.fault('baud', ['4800'])
        await untilState(
          device,
          'the line rate is doubted',
          (now) => now.state === 'silent' && RATE_IN_DOUBT.test(now.reason),
          60_000,
        )
      })
    },
    120_000,
  )
})
