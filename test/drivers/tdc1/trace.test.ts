import { describe, expect, it } from 'vitest'
import { startTagging, STOP_TAGGING } from '../../../drivers/tdc1/protocol.js'
import { trace } from '../../../drivers/tdc1/trace.js'
import { tdc1Bytes, tdc1Word } from '../../../src/device/event-formats/tdc1-words.js'

describe('a trace of a TDC1', () => {
  it('shows commands, answers and status, hides tags, and gives every byte once', () => {
    const decoder = trace.createDecoder()
    const tags = tdc1Bytes([tdc1Word(3960, 1, true), tdc1Word(5000, 2), tdc1Word(6000, 4)])
    const said: ['rx' | 'tx', Uint8Array][] = [
      ['tx', Buffer.from('*IDN?\r\n')],
      ['rx', Buffer.from('S-Fifteen TDC1\r\n')],
      ['tx', startTagging({ threshold: 'nim', clock: 'auto', gateMs: 0 })],
      ['rx', tags.subarray(0, 5)],
      ['rx', tags.subarray(5)],
      ['tx', STOP_TAGGING],
      ['rx', tags],
      ['rx', Buffer.from('0010')],
      ['rx', Buffer.from(' \r\n')],
    ]
    const pieces = said.flatMap(([direction, bytes]) => decoder.push(direction, bytes))
    pieces.push(...decoder.flush())
    expect(pieces.map(({ label }) => label)).toEqual([
      'command',
      'answer',
      'command',
      '1 records, 1 of them dummies',
      '2 records, 0 of them dummies',
      'command',
      '1 records, 1 of them dummies',
      '2 records, 0 of them dummies',
      'status',
    ])
    expect(pieces.map(({ parts }) => parts.every(({ secret }) => secret))).toEqual([
      false,
      false,
      false,
      true,
      true,
      false,
      true,
      true,
      false,
    ])
    const given = pieces.flatMap(({ parts }) => parts.map(({ bytes }) => Buffer.from(bytes)))
    expect(Buffer.concat(given).equals(Buffer.concat(said.map(([, bytes]) => Buffer.from(bytes))))).toBe(true)
  })
})
