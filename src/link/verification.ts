/**
 * Do both ends hold the same keys under the same ids? The first keys of a batch, 32 bytes' worth, are given up: half is
 * the point of a polynomial hash over serial, ids and the other keys, half masks the hash (Wegman–Carter, one-time).
 * The tag tells nothing of the keys, because the mask is uniform and used once; equal tags for unequal batches happen
 * with a chance of at most (blocks + 1) / 2^128. Who answers with the point holds the sacrificed key, and tells nothing
 * either: the mask stays secret.
 */
import { timingSafeEqual } from 'node:crypto'
import { wipe } from '../base/wipe.js'
import { Ghash } from './ghash.js'

/** Bytes of key given up for one tag: a point and a mask. */
export const SACRIFICED_BYTES = 32
export const TAG_BYTES = 16
export const POINT_BYTES = 16

/** How many keys of `keyBytes` bytes make one tag. */
export function sacrificedKeys(keyBytes: number): number {
  return Math.ceil(SACRIFICED_BYTES / keyBytes)
}

/** Keys in one buffer, in the order of their ids. */
export interface BatchKeys {
  /** Ascending. */
  readonly ids: BigUint64Array
  /** `ids.length` keys, one after the other; wiped by the owner. */
  readonly keys: Uint8Array
}

/** The one-time key of a batch. */
export interface OneTimeKey {
  readonly point: Uint8Array
  readonly mask: Uint8Array
}

/** Splits sacrificed keys (at least 32 bytes) into point and mask: views, not copies. */
export function oneTimeKey(sacrificed: Uint8Array): OneTimeKey {
  if (sacrificed.length < SACRIFICED_BYTES) throw new RangeError('too few sacrificed bytes')
  return { point: sacrificed.subarray(0, POINT_BYTES), mask: sacrificed.subarray(POINT_BYTES, SACRIFICED_BYTES) }
}

/**
 * The tag of a batch. `ids` are those of the sacrificed keys and of the others; `keys` are the others' bytes only.
 * The layout (serial, number of ids, number of sacrificed ones, bytes of key, ids, keys) can be read in one way only.
 */
export function batchTag(serial: number, sacrificedCount: number, batch: BatchKeys, secret: OneTimeKey): Uint8Array {
  const header = new DataView(new ArrayBuffer(24))
  header.setBigUint64(0, BigInt(serial))
  header.setUint32(8, batch.ids.length)
  header.setUint32(12, sacrificedCount)
  header.setBigUint64(16, BigInt(batch.keys.length))
  const ids = new DataView(new ArrayBuffer(batch.ids.length * 8))
  batch.ids.forEach((id, index) => ids.setBigUint64(index * 8, id))
  const tag = new Ghash(secret.point)
    .update(new Uint8Array(header.buffer))
    .update(new Uint8Array(ids.buffer))
    .update(batch.keys)
    .digest()
  for (let index = 0; index < TAG_BYTES; index += 1) tag[index] = (tag[index] ?? 0) ^ (secret.mask[index] ?? 0)
  return tag
}

/** Compares in constant time; false for unequal lengths. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Wipes a batch's keys. */
export function wipeBatch(batch: BatchKeys): void {
  wipe(batch.keys)
}
