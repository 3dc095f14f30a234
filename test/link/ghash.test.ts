import { readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { Ghash } from '../../src/link/ghash.js'

const macs = z
  .object({
    ghash: z.array(
      z.object({
        name: z.string(),
        H: z.string(),
        A: z.string(),
        C: z.string().optional(),
        CLabel: z.string().optional(),
        CBytes: z.number().optional(),
        ghash: z.string(),
      }),
    ),
    wegmanCarter: z.array(
      z.object({ bytes: z.number(), H: z.string(), pad: z.string(), message: z.string(), tag: z.string() }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('../fixtures/vectors/mac.json', import.meta.url), 'utf8')))

const fields = z
  .object({
    fields: z.array(
      z.object({ t: z.number(), multiply: z.array(z.object({ a: z.string(), b: z.string(), product: z.string() })) }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('../fixtures/vectors/gf-hash.json', import.meta.url), 'utf8')))

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'))
const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex')

/** The vectors' pseudo-random bytes. */
function stream(label: string, length: number): Uint8Array {
  const blocks: Buffer[] = []
  for (let block = 0; block * 32 < length; block += 1) {
    const counter = Buffer.alloc(4)
    counter.writeUInt32BE(block)
    blocks.push(createHash('sha256').update(label).update(counter).digest())
  }
  return Uint8Array.from(Buffer.concat(blocks).subarray(0, length))
}

/** Turns the order of the bits in each byte: from one convention of the field to the other. */
function reversedBits(data: Uint8Array): Uint8Array {
  return data.map((byte) => {
    let reversed = 0
    for (let bit = 0; bit < 8; bit += 1) reversed |= ((byte >> bit) & 1) << (7 - bit)
    return reversed
  })
}

describe('the polynomial hash over GF(2^128)', () => {
  it.each(macs.ghash.filter(({ A }) => A === ''))('agrees with the published value: $name', (vector) => {
    const message = vector.C === undefined ? stream(vector.CLabel ?? '', vector.CBytes ?? 0) : bytes(vector.C)
    expect(hex(new Ghash(bytes(vector.H)).update(message).digest())).toBe(vector.ghash)
  })

  it.each(macs.wegmanCarter)('gives the masked tag of a message of $bytes bytes', (vector) => {
    const hash = new Ghash(bytes(vector.H)).update(bytes(vector.message)).digest()
    const pad = bytes(vector.pad)
    expect(hex(hash.map((byte, index) => byte ^ (pad[index] ?? 0)))).toBe(vector.tag)
  })

  it('multiplies as the other bit order of the same field does', () => {
    const multiplications = fields.fields.find(({ t }) => t === 128)?.multiply ?? []
    expect(multiplications.length).toBeGreaterThan(3)
    for (const { a, b, product } of multiplications) {
      // hash(m) = (m·b + length)·b, so without the length's share one block gives m·b², two blocks m, 0 give m·b³.
      const point = reversedBits(bytes(b))
      const ofProduct = withoutLength(point, reversedBits(bytes(product)))
      const ofFactor = withoutLength(point, Buffer.concat([reversedBits(bytes(a)), new Uint8Array(16)]))
      expect(hex(ofFactor)).toBe(hex(ofProduct))
    }
  })

  it('does not depend on how a message is cut into parts', () => {
    const message = stream('parts', 1000)
    const point = stream('point', 16)
    const whole = hex(new Ghash(point).update(message).digest())
    for (const size of [1, 7, 15, 16, 17, 33, 999]) {
      const hash = new Ghash(point)
      for (let at = 0; at < message.length; at += size) hash.update(message.subarray(at, at + size))
      expect(hex(hash.digest())).toBe(whole)
    }
  })
})

function withoutLength(point: Uint8Array, message: Uint8Array): Uint8Array {
  const ofZeros = new Ghash(point).update(new Uint8Array(message.length)).digest()
  return new Ghash(point)
    .update(message)
    .digest()
    .map((byte, index) => byte ^ (ofZeros[index] ?? 0))
}
