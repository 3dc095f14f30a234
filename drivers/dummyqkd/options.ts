import { z } from 'zod'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'

const schema = z
  .strictObject({
    'key-bytes': wholeNumber(1, 255).prefault('16'),
    qubits: wholeNumber(8, 1_000_000).prefault('100000'),
    'frame-ms': wholeNumber(1, 60_000).prefault('1000'),
    'frame-wait-ms': wholeNumber(1, 60_000).prefault('500'),
    bases: z.enum(['known', 'random']).default('known'),
  })
  .transform((options) => ({
    keyBytes: options['key-bytes'],
    qubits: options.qubits,
    frameMs: options['frame-ms'],
    frameWaitMs: options['frame-wait-ms'],
    bases: options.bases,
  }))

export interface DummyOptions {
  /** Bytes of a key: 16 upstream, 32 in OpenQKDNetwork's fork. */
  keyBytes: number
  /** Qubits of one frame (Alice). */
  qubits: number
  /** Length of a frame (Alice), ms. */
  frameMs: number
  /** How long Alice waits for a frame that she is asked about, ms; 500 upstream. */
  frameWaitMs: number
  /** Bob measures as if he knew the bases, like upstream's, or in bases of his own choice. */
  bases: 'known' | 'random'
}

/** Throws E_CONFIG naming the option. */
export function dummyOptions(options: Readonly<Record<string, string>>): DummyOptions {
  return parseOptions('driver dummyqkd', schema, options)
}
