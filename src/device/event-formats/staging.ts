import { requireLittleEndian } from './batch.js'

/**
 * One fixed buffer between chunks of any size and a reader of whole records. Bytes that the reader leaves wait at its
 * beginning for the next chunk.
 */
export class Staging {
  readonly bytes: Uint8Array
  readonly words: Uint32Array
  /** Bytes in the buffer. */
  filled = 0

  constructor(capacityBytes = 65_536) {
    requireLittleEndian()
    this.bytes = new Uint8Array(capacityBytes)
    this.words = new Uint32Array(this.bytes.buffer)
  }

  /** Feeds `chunk` through `read`, which returns how many of the buffer's bytes it took. */
  push(chunk: Uint8Array, read: (filled: number) => number): void {
    let offset = 0
    while (offset < chunk.length) {
      const taken = Math.min(chunk.length - offset, this.bytes.length - this.filled)
      this.bytes.set(chunk.subarray(offset, offset + taken), this.filled)
      this.filled += taken
      offset += taken
      this.drop(read(this.filled))
    }
  }

  /** Takes `count` bytes from the front. */
  drop(count: number): void {
    this.bytes.copyWithin(0, count, this.filled)
    this.filled -= count
  }
}
