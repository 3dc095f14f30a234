/**
 * QIX frames, device to host only: `5A A5` | id u64 | key 32 bytes | status u8 | CRC u32, big-endian, 47 bytes.
 * Nothing is escaped: the two sync bytes may occur inside a key.
 */
import { wipe } from '../../src/base/wipe.js'

export const KEY_BYTES = 32
export const FRAME_BYTES = 47
export const STATUS_OK = 0x01
export const STATUS_COMPROMISED = 0xff
/** Line rate that public sources name. */
export const DEFAULT_BAUD = 9_600

const SYNC_0 = 0x5a
const SYNC_1 = 0xa5
const ID_AT = 2
const KEY_AT = 10
const STATUS_AT = 42
const CRC_AT = 43
const POLYNOMIAL = 0xf4acfb13

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 24
  for (let bit = 0; bit < 8; bit += 1) crc = crc < 0 ? (crc << 1) ^ POLYNOMIAL : crc << 1
  return crc >>> 0
})

/** CRC-32 with polynomial F4ACFB13, most significant bit first, start 0, no final xor. (Not CRC-32C.) */
export function crc32Qix(bytes: Uint8Array): number {
  let crc = 0
  for (const byte of bytes) crc = ((crc << 8) ^ (crcTable[((crc >>> 24) ^ byte) & 0xff] ?? 0)) >>> 0
  return crc
}

/** One frame whose CRC is right. */
export interface QixFrame {
  id: bigint
  /** 32 bytes, the receiver's own copy. */
  key: Uint8Array
  /** Anything but `STATUS_OK` means that the key is compromised. */
  status: number
}

export type QixItem =
  | { type: 'frame'; frame: QixFrame }
  /** 47 bytes began with the sync bytes, but their CRC is wrong: a damaged frame, or sync bytes inside other data. */
  | { type: 'badCrc' }
  /** So many bytes belonged to no frame; told when the next frame or suspected frame begins. */
  | { type: 'skipped'; bytes: number }

/** The 47 bytes of a frame. `key` must have 32 bytes. */
export function encodeFrame(frame: QixFrame): Uint8Array {
  if (frame.key.length !== KEY_BYTES) throw new RangeError(`a QIX key has ${KEY_BYTES} bytes, not ${frame.key.length}`)
  const bytes = new Uint8Array(FRAME_BYTES)
  const view = new DataView(bytes.buffer)
  bytes[0] = SYNC_0
  bytes[1] = SYNC_1
  view.setBigUint64(ID_AT, frame.id)
  bytes.set(frame.key, KEY_AT)
  bytes[STATUS_AT] = frame.status
  view.setUint32(CRC_AT, crc32Qix(bytes.subarray(ID_AT, CRC_AT)))
  return bytes
}

/**
 * Finds frames in a stream that may begin anywhere and hold anything. The same bytes give the same items however they
 * are cut. After a bad CRC the search goes on at the third byte of the suspected frame, so that a real frame which
 * begins inside it is not lost. Holds at most 46 bytes between chunks.
 */
export class QixDecoder {
  readonly #held = new Uint8Array(FRAME_BYTES - 1)
  #heldBytes = 0
  #skipped = 0

  /** Bytes of a frame that has begun but not ended. */
  get pendingBytes(): number {
    return this.#heldBytes
  }

  push(chunk: Uint8Array): QixItem[] {
    const bytes = new Uint8Array(this.#heldBytes + chunk.length)
    bytes.set(this.#held.subarray(0, this.#heldBytes))
    bytes.set(chunk, this.#heldBytes)
    const view = new DataView(bytes.buffer)
    const items: QixItem[] = []
    let at = 0
    while (at < bytes.length) {
      const maybeSync = bytes[at] === SYNC_0 && (at + 1 === bytes.length || bytes[at + 1] === SYNC_1)
      if (!maybeSync) {
        at += 1
        this.#skipped += 1
        continue
      }
      if (bytes.length - at < FRAME_BYTES) break
      if (this.#skipped > 0) items.push({ type: 'skipped', bytes: this.#skipped })
      this.#skipped = 0
      if (crc32Qix(bytes.subarray(at + ID_AT, at + CRC_AT)) === view.getUint32(at + CRC_AT)) {
        const key = bytes.slice(at + KEY_AT, at + STATUS_AT)
        items.push({
          type: 'frame',
          frame: { id: view.getBigUint64(at + ID_AT), key, status: view.getUint8(at + STATUS_AT) },
        })
        at += FRAME_BYTES
      } else {
        items.push({ type: 'badCrc' })
        at += 2
        this.#skipped += 2
      }
    }
    wipe(this.#held)
    this.#held.set(bytes.subarray(at))
    this.#heldBytes = bytes.length - at
    wipe(bytes)
    return items
  }

  /** Bytes that belonged to no frame and were not told yet. */
  get untoldSkippedBytes(): number {
    return this.#skipped
  }

  /** Forgets and wipes what is half read. */
  reset(): void {
    wipe(this.#held)
    this.#heldBytes = 0
    this.#skipped = 0
  }
}
