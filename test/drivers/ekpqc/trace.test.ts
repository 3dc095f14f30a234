import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { trace } from '../../../drivers/ekpqc/trace.js'
import type { TracePiece } from '../../../src/device/trace-contract.js'

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'))

/** Label and text of each piece, secret bytes as `*`. */
function seen(pieces: readonly TracePiece[]): [string, string][] {
  const text = ({ bytes: part, secret }: TracePiece['parts'][number]): string =>
    secret ? '*'.repeat(part.length) : Buffer.from(part).toString('latin1')
  return pieces.map(({ label, parts }) => [label, parts.map(text).join('')])
}

describe('a trace of the kit', () => {
  it('shows commands and answers, and masks what tells bits of the key', () => {
    const decoder = trace.createDecoder()
    expect(seen(decoder.push('tx', bytes('*IDN? ')))).toEqual([['command', '*IDN? ']])
    expect(seen(decoder.push('rx', bytes('Quan')))).toEqual([])
    expect(seen(decoder.push('rx', bytes('tum\r\nOK\r\n')))).toEqual([
      ['answer', 'Quantum\r\n'],
      ['answer', 'OK\r\n'],
    ])
    expect(seen(decoder.push('tx', bytes('POLSEQ 0123012301230123')))).toEqual([
      ['command: a sequence of 16', `POLSEQ ${'*'.repeat(16)}`],
    ])
    const readings = `${'700 '.repeat(16)}\n`
    expect(seen(decoder.push('rx', bytes(readings)))).toEqual([['16 readings', '*'.repeat(readings.length)]])
    expect(seen(decoder.push('rx', bytes('0123012301230123\n')))).toEqual([['the sequence', '*'.repeat(17)]])
    // Damaged readings and half a sequence are no less secret.
    expect(seen(decoder.push('rx', bytes('700 12 7x0 3 700\n')))).toEqual([['answer', '*'.repeat(17)]])
    expect(seen(decoder.push('tx', bytes('01230123')))).toEqual([['command', '*'.repeat(8)]])
    decoder.push('rx', bytes('70'))
    expect(seen(decoder.flush())).toEqual([['unfinished answer', '**']])
  })

  it('gives every byte out once, whatever comes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 8 }), (chunks) => {
        const decoder = trace.createDecoder()
        const pieces = [...chunks.flatMap((chunk) => decoder.push('rx', chunk)), ...decoder.flush()]
        const came = pieces.flatMap(({ parts }) => parts.flatMap((part) => [...part.bytes]))
        expect(came).toEqual(chunks.flatMap((chunk) => [...chunk]))
      }),
    )
  })
})
