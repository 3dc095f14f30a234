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
const WITH_A_BUFFER = new Set(['tdc1', 'nox'])

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
      for (const [fault, ...args] of [
        ['drop', '1'],
        ['delay', '200'],
        ['corrupt', '2'],
        ['split', '2'],
        ['hang', '300'],
        ['unplug', '100', 'now'],
        ...(chosen.cables === 'serial and usb' ? [['unplug-serial', '100']] : []),
      ]) {
        const openings = Number(device.facts()['openings'])
        expect(await emulator.fault(fault ?? '', args)).toEqual(expect.any(String))
        if (fault?.startsWith('unplug') === true) {
          await untilState(device, `${fault} is seen`, () => Number(device.facts()['openings']) > openings)
        }
        await works(device, chosen)
      }
      expect(emulator.facts()).toMatchObject({ plugged: true })
    })
  }, 120_000)
})

describe('a device at another line rate', () => {
  it.concurrent.each(DRIVER_CASES.filter(({ driver }) => ['qix', 'qcicada', 'ekpqc'].includes(driver)))(
    'is said to be so most likely: $driver',
    async (chosen) => {
      await onBench(chosen, async ({ device, emulator }) => {
        await emulator.fault('baud', ['4800'])
        const state = await untilState(
          device,
          'the line rate is doubted',
          (now) => now.state === 'silent' && now.reason.includes('line rate'),
          60_000,
        )
        expect(state).toMatchObject({ reason: expect.stringContaining('most likely the line rate is not') as string })
      })
    },
    120_000,
  )
})
