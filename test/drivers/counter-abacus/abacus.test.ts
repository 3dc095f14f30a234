import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { driver } from '../../../drivers/counter-abacus/driver.js'
import { emulator } from '../../../drivers/counter-abacus/emulator.js'
import {
  answerFrame,
  answerReader,
  parseFrame,
  parseIdentity,
  readFrame,
  writeFrame,
} from '../../../drivers/counter-abacus/protocol.js'
import type { DeviceEvent } from '../../../src/device/contract.js'
import { type Attached, attach, untilDevice } from '../support/attached.js'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const registers = fc.array(
  fc.record({ address: fc.integer({ min: 0, max: 255 }), value: fc.integer({ min: 0, max: 2 ** 32 - 1 }) }),
  { minLength: 1, maxLength: 20 },
)

describe('Abacus frames', () => {
  it('are eight bytes with four of data', () => {
    expect(hex(readFrame(9))).toBe('020e090000000004')
    expect(hex(writeFrame(81, 10))).toBe('020f510000000a04')
    expect(parseFrame(writeFrame(81, 10))).toEqual({ kind: 'write', address: 81, data: 10 })
    expect(parseFrame(readFrame(9).subarray(1))).toBeUndefined()
  })

  it('are answered with a checksum that makes the bytes after the length add up to FF', () => {
    const answer = answerFrame([{ address: 1, value: 258 }])
    expect(hex(answer)).toBe('7e050100000102fb')
    expect(answer.subarray(2).reduce((sum, byte) => (sum + byte) & 255, 0)).toBe(255)
  })

  it('come back however they are cut up, and no damaged one does', () => {
    fc.assert(
      fc.property(registers, fc.nat(), (list, place) => {
        const answer = answerFrame(list)
        for (let length = 0; length < answer.length; length += 1) {
          expect(answerReader(answer.subarray(0, length))).toBeUndefined()
        }
        expect(answerReader(answer)?.value).toEqual(new Map(list.map(({ address, value }) => [address, value])))
        const damaged = Uint8Array.from(answer)
        const at = 2 + (place % (answer.length - 2))
        damaged[at] = (damaged[at] ?? 0) ^ 1
        expect(() => answerReader(damaged)).toThrow('checksum')
      }),
    )
  })

  it('have a model with its number of channels', () => {
    expect(parseIdentity('Tausand Abacus AB1004')).toEqual({ model: 'AB1004', channels: 4 })
    expect(parseIdentity('Tausand Abacus AB1502')).toEqual({ model: 'AB1502', channels: 2 })
    expect(parseIdentity('Tausand Abacus')).toBeUndefined()
  })
})

describe('the Abacus driver', () => {
  let attached: Attached
  afterEach(() => attached.stop())

  function visibilities(count: number): Promise<number[]> {
    const values: number[] = []
    return new Promise((resolve) => {
      attached.device.subscribe((event: DeviceEvent) => {
        if (event.type === 'figure' && event.path[1] === 'Visibility') values.push(event.value)
        if (values.length >= count) resolve(values)
      })
    })
  }

  it('counts on a real tty and shows the visibility of the coincidences, never a key', async () => {
    attached = await attach({
      driver,
      emulator,
      pty: true,
      driverOptions: { 'poll-ms': '10', 'window-ns': '5' },
      emulatorOptions: { 'sampling-ms': '20' },
    })
    const events: DeviceEvent[] = []
    attached.device.subscribe((event) => events.push(event))
    expect((await visibilities(25)).at(-1)).toBeGreaterThan(80)
    expect(attached.device.facts()).toMatchObject({ A: 400, B: 400 })
    expect(attached.device.state.value).toMatchObject({ state: 'producing', identity: 'Tausand Abacus AB1004' })
    expect(attached.emulator.facts()).toMatchObject({ windowNs: 5, badFrames: 0 })
    expect(new Set(events.map(({ type }) => type))).toEqual(new Set(['figure']))
  })

  it('asks again after damaged and lost answers, and after it was unplugged', async () => {
    attached = await attach({
      driver,
      emulator,
      driverOptions: { 'poll-ms': '10' },
      emulatorOptions: { 'sampling-ms': '20' },
    })
    await visibilities(2)
    await attached.emulator.fault('corrupt', ['2'])
    await attached.emulator.fault('split', ['2', '20'])
    await visibilities(3)
    await attached.line.unplug()
    await untilDevice(attached.device.state, 'absent')
    await attached.line.plug()
    await visibilities(2)
  })

  it('does not pretend to know the registers of a two-channel unit', async () => {
    attached = await attach({ driver, emulator, emulatorOptions: { model: 'AB1002' } })
    expect(await untilDevice(attached.device.state, 'silent')).toMatchObject({
      reason: expect.stringContaining('AB1002: the registers of two-channel units are not known') as string,
    })
  })
})
