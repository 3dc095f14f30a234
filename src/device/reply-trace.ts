import { type TraceDecoder, type TracePiece, unknownPiece } from './trace-contract.js'

/** One part of an answer. */
export interface ExpectedPart {
  label: string | ((bytes: Uint8Array) => string)
  /** How long it is, or how that follows from what has come; undefined while that cannot be told. */
  bytes: number | ((held: Uint8Array) => number | undefined)
  secret: boolean | ((bytes: Uint8Array) => boolean)
  /** Its possible first bytes: where it begins otherwise it is not this answer at all. */
  begins?: readonly number[]
}

export interface ReplyTraceOptions {
  /** What was sent, in words, and the parts of the answer that is due now; undefined for what is no command. */
  command(bytes: Uint8Array): { label: string; answer: readonly ExpectedPart[] } | undefined
  /** Bytes that nobody asked for are secret even where they look like text: a random source says such things. */
  strayIsSecret: boolean
}

/** For devices that answer: what comes is told by what was asked. */
export function replyDecoder(options: ReplyTraceOptions): TraceDecoder {
  let due: readonly ExpectedPart[] = []
  let held: Uint8Array = new Uint8Array(0)

  const stray = (bytes: Uint8Array, label: string): TracePiece => {
    const piece = unknownPiece(bytes, label)
    if (options.strayIsSecret) for (const part of piece.parts) part.secret = true
    return piece
  }
  const take = (count: number): Uint8Array => {
    const taken = held.slice(0, count)
    held = held.slice(count)
    return taken
  }
  const rest = (label: string): TracePiece[] => (held.length === 0 ? [] : [stray(take(held.length), label)])

  return {
    push(direction, bytes) {
      if (direction === 'tx') {
        const pieces = rest('unfinished')
        const command = options.command(bytes)
        due = command?.answer ?? []
        if (command === undefined) return [...pieces, stray(Uint8Array.from(bytes), 'sent, no known command')]
        return [...pieces, { label: command.label, parts: [{ bytes: Uint8Array.from(bytes), secret: false }] }]
      }
      const joined = new Uint8Array(held.length + bytes.length)
      joined.set(held)
      joined.set(bytes, held.length)
      held = joined
      const pieces: TracePiece[] = []
      for (let part = due[0]; part !== undefined; part = due[0]) {
        if (part.begins !== undefined && held[0] !== undefined && !part.begins.includes(held[0])) {
          due = []
          break
        }
        const length = typeof part.bytes === 'number' ? part.bytes : part.bytes(held)
        if (length === undefined || length < 1 || held.length < length) return pieces
        const taken = take(length)
        const label = typeof part.label === 'string' ? part.label : part.label(taken)
        const secret = typeof part.secret === 'boolean' ? part.secret : part.secret(taken)
        pieces.push({ label, parts: [{ bytes: taken, secret }] })
        due = due.slice(1)
      }
      return [...pieces, ...rest('not asked for')]
    },
    flush: () => rest('unfinished'),
  }
}

/** The line at the beginning, its LF included; undefined while it is not whole. */
export function lineLength(held: Uint8Array): number | undefined {
  const at = held.indexOf(0x0a)
  return at < 0 ? undefined : at + 1
}

/** Bytes as the text that they are, without control characters. */
export function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('latin1')
    .replace(/[^\x20-\x7e]/g, '')
}
