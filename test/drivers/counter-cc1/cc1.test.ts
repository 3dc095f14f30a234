import { afterEach, describe, expect, it } from 'vitest'
import { driver } from '../../../drivers/counter-cc1/driver.js'
import { emulator } from '../../../drivers/counter-cc1/emulator.js'
import { dwellSeconds, gateCommand, parseFirmware, parseNumber } from '../../../drivers/counter-cc1/protocol.js'
import { systemClock } from '../../../src/base/clock.js'
import type { DeviceEvent } from '../../../src/device/contract.js'
import { createVisibility } from '../../../src/device/visibility.js'
import { type Attached, attach, untilDevice } from '../support/attached.js'
import { contextFor } from '../support/pair.js'

describe('the CC1', () => {
  it('tells its firmware, and numbers with or without a unit', () => {
    expect(parseFirmware('Firmware v2.010')).toBe(2.01)
    expect(parseFirmware('Unknown Command')).toBeUndefined()
    expect(parseNumber('20032')).toBe(20_032)
    expect(parseNumber(' 1.5 s')).toBe(1.5)
    expect(parseNumber('Unknown Command')).toBeUndefined()
  })

  it('tells the dwell time in seconds, with old firmware in milliseconds', () => {
    expect(dwellSeconds('2', 2.21)).toBe(2)
    expect(dwellSeconds('2000', 2.01)).toBe(2)
    expect(dwellSeconds('0', 2.21)).toBeUndefined()
  })

  it('switches its gate by word, with old firmware by number', () => {
    expect(Buffer.from(gateCommand(true, 2.21)).toString()).toBe(':GATE:ON\n')
    expect(Buffer.from(gateCommand(true, 2.01)).toString()).toBe(':GATE 1\n')
  })
})

describe('visibility', () => {
  it('is the contrast of the counts in the window', () => {
    const visibility = createVisibility(3)
    expect(visibility.push(100)).toBeUndefined()
    expect(visibility.push(0)).toBe(100)
    expect(visibility.push(50)).toBe(100)
    expect(visibility.push(50)).toBe(100)
    expect(visibility.push(150)).toBe(50)
    expect(createVisibility(2).push(0)).toBeUndefined()
  })
})

describe('the CC1 driver', () => {
  let attached: Attached | undefined
  afterEach(async () => {
    await attached?.stop()
    attached = undefined
  })

  function untilVisibilities(at: Attached, count: number): Promise<number> {
    let seen = 0
    return new Promise((resolve) => {
      at.device.subscribe((event: DeviceEvent) => {
        if (event.type !== 'figure' || event.path[1] !== 'Visibility') return
        seen += 1
        if (seen >= count) resolve(event.value)
      })
    })
  }

  it.each([
    ['2.21', true],
    ['2.01', false],
  ])('counts with firmware %s', async (firmware, pty) => {
    attached = await attach({
      driver,
      emulator,
      pty,
      driverOptions: { 'window-ns': '3', 'delay-ns': '4' },
      emulatorOptions: { firmware, 'dwell-s': '0.02' },
    })
    expect(await untilVisibilities(attached, 15)).toBeGreaterThan(70)
    expect(attached.device.state.value).toMatchObject({
      state: 'producing',
      identity: `Qubitekk CC1, firmware ${firmware}`,
    })
    expect(attached.emulator.facts()).toMatchObject({ windowNs: 3, delayNs: 4 })
    expect(attached.device.facts()).toMatchObject({ dwellMs: 20 })
  })

  it('begins anew after nonsense for an answer, and after it was unplugged', async () => {
    attached = await attach({ driver, emulator, emulatorOptions: { 'dwell-s': '0.02' } })
    await untilVisibilities(attached, 2)
    await attached.emulator.fault('garbage', ['300'])
    await untilVisibilities(attached, 3)
    await attached.line.unplug()
    await untilDevice(attached.device.state, 'absent')
    await attached.line.plug()
    await untilVisibilities(attached, 2)
  })

  it('names a wrong option', () => {
    expect(() => driver.create(contextFor('bob', systemClock, { 'delay-ns': '3' }))).toThrow('delay-ns: must be even')
  })
})
