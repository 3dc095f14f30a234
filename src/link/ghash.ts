/**
 * GHASH: the polynomial hash over GF(2^128) of the GCM specification, with that standard's bit order (the first bit of
 * a block is the coefficient of x^0) and its polynomial x^128 + x^7 + x^2 + x + 1.
 */

const BLOCK_BYTES = 16

/** Multiplication by x is a right shift; a bit that falls out comes back as this pattern at the top. */
const REDUCTION = 0xe100_0000

type Element = [number, number, number, number]

function timesX([a, b, c, d]: Element): Element {
  const carry = d & 1
  return [
    ((a >>> 1) ^ (carry === 1 ? REDUCTION : 0)) >>> 0,
    ((b >>> 1) | (a << 31)) >>> 0,
    ((c >>> 1) | (b << 31)) >>> 0,
    ((d >>> 1) | (c << 31)) >>> 0,
  ]
}

/** What the last byte of an element becomes at the top when the element is multiplied by x^8. */
const reductionOfByte: Uint32Array = Uint32Array.from({ length: 256 }, (_, byte) => {
  let element: Element = [0, 0, 0, byte]
  for (let i = 0; i < 8; i += 1) element = timesX(element)
  return element[0]
})

/** Products of every value of the first byte of a block with `point`, four words each. */
function byteProducts(point: Uint8Array): Uint32Array {
  const view = new DataView(point.buffer, point.byteOffset, BLOCK_BYTES)
  const table = new Uint32Array(256 * 4)
  let element: Element = [view.getUint32(0), view.getUint32(4), view.getUint32(8), view.getUint32(12)]
  for (let bit = 128; bit > 0; bit >>= 1) {
    table.set(element, bit * 4)
    element = timesX(element)
  }
  for (let value = 1; value < 256; value += 1) {
    const low = value & -value
    if (low === value) continue
    const rest = value ^ low
    for (let word = 0; word < 4; word += 1) {
      table[value * 4 + word] = (table[low * 4 + word] ?? 0) ^ (table[rest * 4 + word] ?? 0)
    }
  }
  return table
}

/** One hash over a message given in parts. Single use: `digest` wipes what came from the point. */
export class Ghash {
  readonly #table: Uint32Array
  readonly #state = new Uint32Array(4)
  readonly #partial = new Uint8Array(BLOCK_BYTES)
  #partialBytes = 0
  #totalBytes = 0

  /** `point`: 16 bytes, the element at which the message's polynomial is evaluated. */
  constructor(point: Uint8Array) {
    if (point.length !== BLOCK_BYTES) throw new RangeError(`a hash point has 16 bytes, not ${point.length}`)
    this.#table = byteProducts(point)
  }

  update(bytes: Uint8Array): this {
    this.#totalBytes += bytes.length
    let offset = 0
    if (this.#partialBytes > 0) {
      offset = Math.min(BLOCK_BYTES - this.#partialBytes, bytes.length)
      this.#partial.set(bytes.subarray(0, offset), this.#partialBytes)
      this.#partialBytes += offset
      if (this.#partialBytes < BLOCK_BYTES) return this
      this.#absorb(this.#partial, 0)
      this.#partialBytes = 0
    }
    for (; offset + BLOCK_BYTES <= bytes.length; offset += BLOCK_BYTES) this.#absorb(bytes, offset)
    this.#partial.set(bytes.subarray(offset))
    this.#partialBytes = bytes.length - offset
    return this
  }

  /** The 16 bytes of the hash, the length block included. */
  digest(): Uint8Array {
    if (this.#partialBytes > 0) {
      this.#partial.fill(0, this.#partialBytes)
      this.#absorb(this.#partial, 0)
    }
    const lengths = new Uint8Array(BLOCK_BYTES)
    new DataView(lengths.buffer).setBigUint64(8, BigInt(this.#totalBytes) * 8n)
    this.#absorb(lengths, 0)
    const hash = new Uint8Array(BLOCK_BYTES)
    const view = new DataView(hash.buffer)
    this.#state.forEach((word, index) => view.setUint32(index * 4, word))
    this.#table.fill(0)
    this.#state.fill(0)
    this.#partial.fill(0)
    return hash
  }

  #absorb(bytes: Uint8Array, offset: number): void {
    const table = this.#table
    const state = this.#state
    let z0 = 0
    let z1 = 0
    let z2 = 0
    let z3 = 0
    // Horner over the bytes of (state + block), the last one first.
    for (let index = BLOCK_BYTES - 1; index >= 0; index -= 1) {
      const fallen = z3 & 0xff
      z3 = (z3 >>> 8) | (z2 << 24)
      z2 = (z2 >>> 8) | (z1 << 24)
      z1 = (z1 >>> 8) | (z0 << 24)
      z0 = (z0 >>> 8) ^ (reductionOfByte[fallen] ?? 0)
      const stateByte = ((state[index >> 2] ?? 0) >>> (24 - 8 * (index & 3))) & 0xff
      const at = (stateByte ^ (bytes[offset + index] ?? 0)) << 2
      z0 ^= table[at] ?? 0
      z1 ^= table[at + 1] ?? 0
      z2 ^= table[at + 2] ?? 0
      z3 ^= table[at + 3] ?? 0
    }
    state[0] = z0
    state[1] = z1
    state[2] = z2
    state[3] = z3
  }
}
