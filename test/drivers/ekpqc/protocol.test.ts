import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lessonTable, verdict } from '../../../drivers/ekpqc/lesson.js'
import {
  basisOf,
  bitOf,
  bitsOfReadings,
  command,
  comparisonOf,
  comparisonOnWire,
  flagsOfMask,
  hexMask,
  infraredBytes,
  infraredHeader,
  infraredPrint,
  infraredText,
  keep,
  polarisationSequence,
  readingsReader,
} from '../../../drivers/ekpqc/protocol.js'
import { createWindowKeys } from '../../../drivers/ekpqc/window-keys.js'
import type { DeviceEvent } from '../../../src/device/contract.js'

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

describe('the quantum board', () => {
  it('takes a command with a blank after it and no line end', () => {
    expect(text(command('*IDN?'))).toBe('*IDN? ')
    expect(() => command('POLSEQ 0123')).toThrow()
    expect(() => command('longer than the board takes')).toThrow()
  })

  it('takes a sequence without a blank after its 16 digits', () => {
    expect(text(polarisationSequence(Uint8Array.from({ length: 16 }, (_, i) => i & 3)))).toBe('POLSEQ 0123012301230123')
    expect(() => polarisationSequence(new Uint8Array(15))).toThrow()
    expect(() => polarisationSequence(new Uint8Array(16).fill(4))).toThrow()
  })

  it('has bit and basis in a digit: H 0+, D 0x, V 1+, A 1x', () => {
    expect([0, 1, 2, 3].map((digit) => [bitOf(digit), basisOf(digit)])).toEqual([
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ])
  })

  it('gives 16 readings in a line, whole or not yet', () => {
    const line = Buffer.from(`${Array.from({ length: 16 }, (_, i) => i * 60).join(' ')} \n`)
    for (let length = 0; length < line.length; length += 1)
      expect(readingsReader(line.subarray(0, length))).toBeUndefined()
    expect(readingsReader(line)).toEqual({ value: Array.from({ length: 16 }, (_, i) => i * 60), used: line.length })
  })

  it.each(['OK\r\n', 'Unknown command\r\n', '1 2 3 \n', `${'x '.repeat(16)}\n`, '9'.repeat(200)])(
    'never takes %j for readings',
    (line) => {
      expect(() => readingsReader(Buffer.from(line))).toThrow()
    },
  )

  it('reads light above the threshold as 0', () => {
    expect([...bitsOfReadings([700, 200, 201, 0], 200)]).toEqual([0, 1, 0, 1])
    expect([...keep(Uint8Array.of(0, 1, 0, 1), Uint8Array.of(1, 0, 0, 1), new Uint8Array(4))]).toEqual([0, 1])
  })
})

describe('the classical board', () => {
  it('prints a header without its leading zero', () => {
    expect(text(infraredHeader('A'))).toBe('SEND \x07\x07\x07A')
    expect(infraredPrint(Uint8Array.of(7, 7, 7, 0x41))).toBe('7070741')
    expect(infraredPrint(Uint8Array.of(7, 7, 7, 0x42))).toBe('7070742')
    expect(infraredPrint(new Uint8Array(4))).toBe('0')
    expect(text(infraredText('1A2B'))).toBe('SEND 1A2B')
  })

  it('is read back whatever was sent', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), (bytes) => {
        expect([...(infraredBytes(infraredPrint(bytes)) ?? [])]).toEqual([...bytes])
      }),
    )
    expect(infraredBytes('Listening interrupted!')).toBeUndefined()
    expect(infraredBytes('123456789')).toBeUndefined()
  })

  it('carries 16 bases as four hex digits', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1 }), { minLength: 16, maxLength: 16 }), (flags) => {
        expect([...(flagsOfMask(hexMask(Uint8Array.from(flags))) ?? [])]).toEqual(flags)
      }),
    )
    expect(hexMask(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1))).toBe('8003')
    expect(flagsOfMask('12G4')).toBeUndefined()
  })
})

describe('keys of runs', () => {
  function collect(runsPerKey: number, keyBytes: number, runs: { id: bigint; bits: number[] }[]): DeviceEvent[] {
    const events: DeviceEvent[] = []
    const keys = createWindowKeys(runsPerKey, keyBytes, (event) => events.push(event))
    for (const { id, bits } of runs) keys.add(id, { bits: Uint8Array.from(bits), compared: 0, errors: 0 })
    return events
  }

  it('come once every run of a window is there, least significant bit first, numbered by the window', () => {
    const bits = [1, 0, 1, 0, 0]
    const events = collect(2, 1, [
      { id: 4n, bits },
      { id: 5n, bits },
    ])
    expect(events).toEqual([{ type: 'key', id: 2n, key: Uint8Array.of(0b10100101) }])
  })

  it('are withheld where a run is missing or the bits do not suffice, and what follows is whole again', () => {
    const full = Array.from({ length: 8 }, () => 1)
    const events = collect(2, 1, [
      { id: 0n, bits: full },
      { id: 3n, bits: full },
      { id: 4n, bits: [1] },
      { id: 5n, bits: [1] },
      { id: 6n, bits: full },
      { id: 7n, bits: [] },
    ])
    expect(events).toEqual([
      { type: 'discarded', reason: 'invalid', count: 1, id: 0n },
      { type: 'discarded', reason: 'invalid', count: 1, id: 1n },
      { type: 'discarded', reason: 'invalid', count: 1, id: 2n },
      { type: 'key', id: 3n, key: Uint8Array.of(255) },
    ])
  })
})

it('keys of a window with too many errors in what was compared are withheld as compromised', () => {
  const events: DeviceEvent[] = []
  const told: string[] = []
  const keys = createWindowKeys(
    2,
    1,
    (event) => events.push(event),
    (text) => told.push(text),
  )
  const bits = (): Uint8Array => new Uint8Array(8).fill(1)
  for (const [id, errors] of [
    [0n, 1],
    [1n, 0],
    [2n, 2],
    [3n, 0],
  ] as const)
    keys.add(id, { bits: bits(), compared: 8, errors })
  expect(events).toEqual([
    { type: 'key', id: 0n, key: Uint8Array.of(255) },
    { type: 'discarded', reason: 'compromised', count: 1, id: 1n },
  ])
  expect(told).toEqual([
    'window 0: 16 bits of 2 runs, key of 8 bits made (demonstrator, not secure)',
    'window 1: no key, 2 of 16 compared bits differ',
  ])
})

describe('the comparison of some bits in public', () => {
  it('goes over the wire and back, and is told from bases', () => {
    const bits = Uint8Array.from({ length: 16 }, (_, i) => (i >> 1) & 1)
    const compared = Uint8Array.from({ length: 16 }, (_, i) => (i % 3 === 0 ? 1 : 0))
    const read = comparisonOf(comparisonOnWire(bits, compared))
    expect(read?.compared).toEqual(compared)
    expect(read?.bits.filter((_, i) => compared[i] === 1)).toEqual(bits.filter((_, i) => compared[i] === 1))
    expect(comparisonOf(new Uint8Array(15))).toBeUndefined()
    expect(comparisonOf(new Uint8Array(16).fill(4))).toBeUndefined()
    expect(keep(bits, new Uint8Array(16).fill(1), compared)).toEqual(bits.filter((_, i) => compared[i] !== 1))
  })

  it('says what an error rate means once enough was compared', () => {
    expect(verdict({ compared: 0, errors: 0 }, 0.11)).toMatchObject({ alarming: false })
    expect(verdict({ compared: 10, errors: 9 }, 0.11)).toMatchObject({ alarming: false })
    expect(verdict({ compared: 40, errors: 1 }, 0.11)).toEqual({
      text: 'QBER so far 2.5 % (1 of 40 compared bits differ)',
      alarming: false,
    })
    const bad = verdict({ compared: 40, errors: 10 }, 0.11)
    expect(bad.alarming).toBe(true)
    expect(bad.text).toMatch(/25\.0 %.*measures and resends/)
  })
})

describe('the lesson', () => {
  const run = {
    runId: 3n,
    sent: Uint8Array.from({ length: 16 }, (_, i) => i & 3),
    bases: new Uint8Array(16),
    bits: Uint8Array.from({ length: 16 }, (_, i) => (i & 3) >> 1),
    answers: Uint8Array.from({ length: 16 }, (_, i) => ((i & 1) === 0 ? 1 : 0)),
    compared: Uint8Array.from({ length: 16 }, (_, i) => (i === 2 || i === 4 ? 1 : 0)),
    errors: 1,
  }

  it('says in its first line that it is a demonstrator', () => {
    expect(lessonTable(run, true)[0]).toContain('demonstrator, not secure')
  })

  it('shows bits only where asked to', () => {
    const shown = lessonTable(run, true).join('\n')
    const hidden = lessonTable(run, false).join('\n')
    expect(shown).toMatch(/for the key\s+0\s+1\s+0/)
    expect(hidden).toMatch(/for the key\s+\*\s+\*/)
    // What was compared in public is no secret.
    expect(hidden).toMatch(/compared +1 +0 *\n/)
    expect(hidden).toMatch(/Alice sends\s+\*\s+D\s+V\s+A\s+H\s+D\s+\*/)
    expect(hidden).toContain('8 of 16 bits sifted, 2 of them compared in public, 1 of those differ')
  })
})
