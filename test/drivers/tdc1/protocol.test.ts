import { describe, expect, it } from 'vitest'
import { parseTdc1Options } from '../../../drivers/tdc1/options.js'
import {
  commandLine,
  countingSettings,
  FLUSH,
  parseCounts,
  parseGateMs,
  parseLevel,
  startTagging,
  statusAtEnd,
  STOP_TAGGING,
  thresholdCommand,
} from '../../../drivers/tdc1/protocol.js'

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

describe('what is said to a TDC1', () => {
  it('starts tagging with reset, settings and mode in one line', () => {
    expect(text(startTagging({ threshold: 'ttl', clock: 'auto', gateMs: 0 }))).toBe(
      '*RST;TTL;REFCLK 0;TIME 0;TIMESTAMP;COUNTS?\r\n',
    )
    expect(text(STOP_TAGGING)).toBe('ABORT;STATUS?\r\n')
    expect(text(FLUSH)).toBe('INPKT\r\n')
  })

  it('sets a counting mode line by line', () => {
    expect(countingSettings('pairs', { threshold: -0.25, clock: 'external', gateMs: 500 }).map(text)).toEqual([
      '*RST\r\n',
      'NEG -0.25\r\n',
      'REFCLK 1\r\n',
      'TIME 500\r\n',
      'PAIRS\r\n',
    ])
    expect(['nim', 'ttl', 1.2].map((threshold) => thresholdCommand(threshold as 'nim' | 'ttl' | number))).toEqual([
      'NIM',
      'TTL',
      'POS 1.2',
    ])
  })

  it('never exceeds 255 bytes in one write', () => {
    expect(() => commandLine('X'.repeat(254))).toThrow(RangeError)
  })
})

describe('what a TDC1 answers', () => {
  it('is a status of seven bytes, at the end of whatever came before it', () => {
    expect(statusAtEnd(Buffer.from('0000 \r\n'))).toEqual({ flags: 0, overflow: false })
    expect(statusAtEnd(Buffer.from('\x11\xef\x01\x800010 \r\n', 'latin1'))).toEqual({ flags: 0x10, overflow: true })
    expect(statusAtEnd(Buffer.from('0000 \r'))).toBeUndefined()
    expect(statusAtEnd(Buffer.from('0000\r\n'))).toBeUndefined()
  })

  it('is four or eight counts', () => {
    expect(parseCounts('1 20 300 4000 \r', 'singles')).toEqual([1, 20, 300, 4000])
    expect(parseCounts('1 2 3 4 5 6 7 8', 'pairs')).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    expect(() => parseCounts('1 2 3', 'singles')).toThrow(/"1 2 3", not by 4 counts/)
  })

  it('is a gate printed as a signed number, and a level in volts', () => {
    expect(parseGateMs('1000')).toBe(1000)
    expect(parseGateMs('-1')).toBe(65_535)
    expect(parseLevel('-0.512 V NIM')).toBe(-0.512)
    expect(() => parseLevel('')).toThrow(/LEVEL\?/)
    expect(() => parseGateMs('x')).toThrow(/TIME\?/)
  })
})

describe('options of the driver', () => {
  it('have the defaults that its README names', () => {
    expect(parseTdc1Options({})).toEqual({
      mode: 'timestamp',
      threshold: 'nim',
      clock: 'auto',
      gateMs: 1000,
      flushMs: 200,
      checkMs: 0,
      silentAfterMs: 3000,
      remedies: true,
      stableFolder: undefined,
    })
  })

  it('are refused by name where they cannot work', () => {
    expect(() => parseTdc1Options({ threshold: '9' })).toThrow(/threshold: "9" is neither/)
    expect(() => parseTdc1Options({ 'gate-ms': '0' })).toThrow(/gate-ms: must be from 1 to 65535/)
    expect(() => parseTdc1Options({ speed: '1' })).toThrow(/speed/)
  })
})
