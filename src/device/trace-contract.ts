/** What a driver adds to `qkd-gw trace`: which bytes belong together, what they are, and which are secret. */
import type { SerialSettings } from '../io/contract.js'

/** Bytes in a row that are all secret or all not. A checksum over key bytes is secret: it says something of them. */
export interface TracePart {
  bytes: Uint8Array
  secret: boolean
}

/** Bytes that belong together. */
export interface TracePiece {
  /** What they are: "frame 17, ok". */
  label: string
  parts: TracePart[]
  /** What the device measured, as an event file holds it; not set for commands and answers. */
  measured?: true
}

export interface TraceDecoder {
  /** Takes what came over the line and gives the pieces that are complete now; every byte comes out exactly once. */
  push(direction: 'rx' | 'tx', bytes: Uint8Array): TracePiece[]
  /** What is left at the end. */
  flush(): TracePiece[]
}

/** What `drivers/<name>/trace.ts` exports as `trace`. */
export interface TraceFactory {
  /** Line settings for listening, from the driver's options. Throws E_CONFIG. */
  settings(options: Readonly<Record<string, string>>): SerialSettings
  /** The device says nothing unless it is spoken to: for a live trace its driver has to run. */
  readonly spokenTo?: true
  createDecoder(): TraceDecoder
}

const PRINTABLE = /^[\x20-\x7e\r\n\t]{2,}$/

/**
 * Bytes that no decoder understands: text is shown, anything else counts as secret, since it may be the rest of a key
 * whose beginning was missed.
 */
export function unknownPiece(bytes: Uint8Array, label: string): TracePiece {
  const text = Buffer.from(bytes).toString('latin1')
  return { label, parts: [{ bytes, secret: !PRINTABLE.test(text) }] }
}

/** For devices without a decoder of their own: every chunk is a piece. */
export function plainDecoder(): TraceDecoder {
  return {
    push: (_direction, bytes) => [unknownPiece(bytes, `${bytes.length} bytes`)],
    flush: () => [],
  }
}
