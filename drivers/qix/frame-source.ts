import { createHash } from 'node:crypto'
import type { Random } from '../../src/base/random.js'
import { KEY_BYTES } from './protocol.js'

/** What an emulated unit sends at each tick of its period. */
export interface FrameSource {
  /** Wall clock where two units must keep step without a wire, any steady clock otherwise. */
  readonly time: 'wall' | 'steady'
  readonly periodMs: number
  /** The frame of the tick that falls at `tick * periodMs`. */
  at(tick: number): { id: bigint; key: Uint8Array }
  /** Numbering begins anew at `firstId` with the next tick. */
  restart(firstId: bigint): void
}

function bigEndian(id: bigint): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, id)
  return bytes
}

/** Random keys, numbered from `firstId` on. */
export function randomSource(periodMs: number, random: Random, firstId = 0n): FrameSource {
  let next = firstId
  return {
    time: 'steady',
    periodMs,
    at() {
      const id = next
      next += 1n
      return { id, key: random.bytes(KEY_BYTES) }
    },
    restart(id) {
      next = id
    },
  }
}

/**
 * Keys that follow from a seed, numbered by the clock: two units with the same seed and period send the same (id, key)
 * at the same time. After a restart the numbers begin at `firstId` and stand for other keys than before.
 */
export function pairSource(periodMs: number, seed: string): FrameSource {
  let offset = 0n
  let pendingRestart: bigint | undefined
  let life = 0
  return {
    time: 'wall',
    periodMs,
    at(tick) {
      if (pendingRestart !== undefined) {
        offset = pendingRestart - BigInt(tick)
        pendingRestart = undefined
        life += 1
      }
      const id = BigInt(tick) + offset
      const key = createHash('sha256').update(`${life}:${seed}:`).update(bigEndian(id)).digest()
      return { id, key }
    },
    restart(id) {
      pendingRestart = id
    },
  }
}

/** The public emulator's way: id = Unix ms of a multiple of the period, key = SHA-256 of the id as 8 big-endian bytes. */
export function timeBasedSource(periodMs: number): FrameSource {
  return {
    time: 'wall',
    periodMs,
    at(tick) {
      const id = BigInt(tick) * BigInt(periodMs)
      return { id, key: createHash('sha256').update(bigEndian(id)).digest() }
    },
    restart() {}, // Its ids are the time: it cannot begin anew.
  }
}
