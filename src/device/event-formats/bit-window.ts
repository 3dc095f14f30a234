import { requireLittleEndian } from './batch.js'

/**
 * Bits out of a stream of little-endian u32 words, most significant bit of each word first. Push, read while enough is
 * there, push again; memory stays at one buffer.
 */
export class BitWindow {
  readonly #bytes: Uint8Array
  readonly #words: Uint32Array
  #filled = 0
  #bit = 0

  constructor(capacityBytes = 65_536) {
    requireLittleEndian()
    this.#bytes = new Uint8Array(capacityBytes)
    this.#words = new Uint32Array(this.#bytes.buffer)
  }

  /** Whole words not read yet, in bits. */
  get availableBits(): number {
    return (this.#filled >> 2) * 32 - this.#bit
  }

  /** Bytes of an incomplete last word. */
  get oddBytes(): number {
    return this.#filled & 3
  }

  /** Takes as much of `chunk` as fits and returns how many bytes that was. */
  push(chunk: Uint8Array): number {
    const done = (this.#bit >> 5) * 4
    if (done > 0) {
      this.#bytes.copyWithin(0, done, this.#filled)
      this.#filled -= done
      this.#bit &= 31
    }
    const taken = Math.min(chunk.length, this.#bytes.length - this.#filled)
    this.#bytes.set(chunk.subarray(0, taken), this.#filled)
    this.#filled += taken
    return taken
  }

  /** The next `count` bits (1 to 32) as an unsigned number; the caller saw to it that they are there. */
  read(count: number): number {
    const at = this.#bit >> 5
    const used = this.#bit & 31
    this.#bit += count
    const upper = ((this.#words[at] ?? 0) << used) >>> (32 - count)
    const missing = used + count - 32
    return missing <= 0 ? upper : (upper | ((this.#words[at + 1] ?? 0) >>> (32 - missing))) >>> 0
  }

  /** The next whole word; for headers, which begin on one. */
  readWord(): number {
    return this.read(32)
  }
}

/** The inverse: appends bits, most significant first, into little-endian u32 words. */
export class BitWriter {
  readonly #words: number[] = []
  #word = 0
  #free = 32

  /** Appends the low `count` bits (1 to 32) of `value`. */
  write(value: number, count: number): void {
    for (let left = count; left > 0;) {
      const taken = Math.min(left, this.#free)
      const bits = Math.floor((value >>> 0) / 2 ** (left - taken)) % 2 ** taken
      this.#word += bits * 2 ** (this.#free - taken)
      this.#free -= taken
      left -= taken
      if (this.#free > 0) continue
      this.#words.push(this.#word)
      this.#word = 0
      this.#free = 32
    }
  }

  /** All words, the last one padded with zero bits. */
  toWords(): number[] {
    return this.#free === 32 ? [...this.#words] : [...this.#words, this.#word]
  }
}

/** Words as little-endian bytes. */
export function wordBytes(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(4 * words.length)
  const view = new DataView(bytes.buffer)
  words.forEach((word, i) => view.setUint32(4 * i, word, true))
  return bytes
}
