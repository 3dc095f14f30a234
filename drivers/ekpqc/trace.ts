import { type TraceDecoder, type TraceFactory, type TracePiece, unknownPiece } from '../../src/device/trace-contract.js'
import { ekpqcOptions } from './options.js'
import { BAUD, RUN_QUBITS } from './protocol.js'

const SEQUENCE = 'POLSEQ '
const READINGS = /^(\d{1,4} ){16}\r?$/
const DIGITS = /^[0-3]{16}\r?$/
/** What may be a damaged piece of readings or of a sequence. */
const SUSPECT = /\d ?[0-9 ]{3,}/
const LONGEST_LINE = 256

/** Commands and answers as text. What tells bits of the key is secret: sequences, readings, and answers to `SEQ?`. */
class EkpqcTraceDecoder implements TraceDecoder {
  #line: Uint8Array = new Uint8Array(0)

  push(direction: 'rx' | 'tx', bytes: Uint8Array): TracePiece[] {
    return direction === 'tx' ? [commandPiece(bytes)] : this.#answers(bytes)
  }

  flush(): TracePiece[] {
    const rest = this.#line
    this.#line = new Uint8Array(0)
    // It may be the beginning of readings.
    return rest.length === 0 ? [] : [{ label: 'unfinished answer', parts: [{ bytes: rest, secret: true }] }]
  }

  #answers(bytes: Uint8Array): TracePiece[] {
    const joined = new Uint8Array(this.#line.length + bytes.length)
    joined.set(this.#line)
    joined.set(bytes, this.#line.length)
    const pieces: TracePiece[] = []
    let from = 0
    for (let at = joined.indexOf(0x0a); at !== -1; at = joined.indexOf(0x0a, from)) {
      pieces.push(answerPiece(joined.slice(from, at + 1)))
      from = at + 1
    }
    this.#line = joined.slice(from)
    if (this.#line.length > LONGEST_LINE) pieces.push(...this.flush())
    return pieces
  }
}

function commandPiece(bytes: Uint8Array): TracePiece {
  const text = Buffer.from(bytes).toString('latin1')
  if (SUSPECT.test(text) && !text.toUpperCase().startsWith(SEQUENCE))
    return { label: 'command', parts: [{ bytes, secret: true }] }
  if (!text.toUpperCase().startsWith(SEQUENCE)) return unknownPiece(bytes, 'command')
  return {
    label: `command: a sequence of ${Math.min(RUN_QUBITS, bytes.length - SEQUENCE.length)}`,
    parts: [
      { bytes: bytes.slice(0, SEQUENCE.length), secret: false },
      { bytes: bytes.slice(SEQUENCE.length), secret: true },
    ],
  }
}

function answerPiece(line: Uint8Array): TracePiece {
  const text = Buffer.from(line.subarray(0, -1)).toString('latin1')
  if (READINGS.test(text)) return { label: '16 readings', parts: [{ bytes: line, secret: true }] }
  if (DIGITS.test(text)) return { label: 'the sequence', parts: [{ bytes: line, secret: true }] }
  if (SUSPECT.test(text)) return { label: 'answer', parts: [{ bytes: line, secret: true }] }
  return unknownPiece(line, 'answer')
}

export const trace: TraceFactory = {
  settings: (options) => {
    ekpqcOptions(options)
    return { baudRate: BAUD, dtr: true }
  },
  createDecoder: () => new EkpqcTraceDecoder(),
}
