import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  configurationReader,
  failuresIn,
  infoReader,
  oneShotReader,
  startOneShot,
  statusReader,
} from '../../../drivers/random/qcicada-protocol.js'
import { hashHalves } from '../../../drivers/random/source-device.js'
import { parseVersion, replyReader } from '../../../drivers/random/swiftrng-protocol.js'

describe('QCicada', () => {
  const status = Buffer.from('1181e8030000', 'hex')

  it('asks for bytes once with mode and length, least significant byte first', () => {
    expect(Buffer.from(startOneShot(8_192)).toString('hex')).toBe('04010020')
  })

  it('says how it is and what it finds wrong', () => {
    const read = statusReader(status)
    expect(read).toMatchObject({ used: 6, value: { readyBytes: 1_000 } })
    expect(read && failuresIn(read.value)).toEqual(['adaptiveProportion'])
    expect(statusReader(Buffer.from('1103000000', 'hex'))).toBeUndefined()
    const healthy = statusReader(Buffer.from('110300000000', 'hex'))
    expect(healthy && failuresIn(healthy.value)).toEqual([])
  })

  it('gives its bytes right behind the answer', () => {
    const bytes = Buffer.concat([status, Buffer.from([1, 2, 3, 4])])
    expect(oneShotReader(4)(bytes.subarray(0, 9))).toBeUndefined()
    expect([...(oneShotReader(4)(bytes)?.value.bytes ?? [])]).toEqual([1, 2, 3, 4])
  })

  it('tells its names, cut at the first zero byte', () => {
    const info = Buffer.alloc(57, 0)
    info[0] = 0x1b
    info.writeUInt32LE(7, 1)
    info.write('QC123', 9)
    info.write('rev B', 33)
    expect(infoReader(info)).toEqual({
      used: 57,
      value: { coreVersion: 7, firmwareVersion: 0, serialNumber: 'QC123', hardware: 'rev B' },
    })
    const configuration = Buffer.alloc(13)
    configuration[0] = 0x17
    configuration[1] = 1
    expect(configurationReader(configuration)?.value.postProcessing).toBe('rawNoise')
  })

  it('refuses in its own way, and anything else is no answer', () => {
    expect(() => statusReader(Uint8Array.of(0x12))).toThrow('refused')
    expect(() => statusReader(Uint8Array.of(0x1b))).toThrow('not 11')
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 80 }), (bytes) => {
        for (const read of [statusReader, infoReader, configurationReader, oneShotReader(8)]) {
          try {
            expect(read(bytes)?.used ?? 0).toBeLessThanOrEqual(bytes.length)
          } catch (error) {
            expect(error).toMatchObject({ code: 'E_DEVICE_PROTOCOL' })
          }
        }
      }),
    )
  })
})

describe('SwiftRNG', () => {
  it('ends each reply with a status', () => {
    expect(replyReader(2)(Uint8Array.of(1, 2))).toBeUndefined()
    expect(replyReader(2)(Uint8Array.of(1, 2, 0, 9))).toMatchObject({ used: 3 })
    expect(() => replyReader(2)(Uint8Array.of(1, 2, 5))).toThrow('status 5')
  })

  it('has a version of a letter and a number', () => {
    expect(parseVersion(Buffer.from('V2.0'))).toBe(2)
    expect(parseVersion(Buffer.from('V1.7'))).toBe(1.7)
    expect(parseVersion(Buffer.from('2.00'))).toBeUndefined()
  })

  it('is hashed two to one where it does not condition its bytes', () => {
    expect(hashHalves(new Uint8Array(127))).toHaveLength(32)
    const [a, b] = [hashHalves(new Uint8Array(128)), hashHalves(new Uint8Array(128).fill(1, 127))]
    expect(Buffer.from(a.subarray(0, 32))).toEqual(Buffer.from(a.subarray(32)))
    expect(Buffer.from(b.subarray(0, 32))).toEqual(Buffer.from(a.subarray(0, 32)))
    expect(Buffer.from(b.subarray(32))).not.toEqual(Buffer.from(a.subarray(32)))
  })
})
