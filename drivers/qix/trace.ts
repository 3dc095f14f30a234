import { type TraceDecoder, type TraceFactory, type TracePiece, unknownPiece } from '../../src/device/trace-contract.js'
import { serialSettings } from './options.js'
import { FRAME_BYTES, QixDecoder, STATUS_COMPROMISED, STATUS_OK } from './protocol.js'

const KEY_AT = 10
const STATUS_AT = 42
const CRC_AT = 43

function statusText(status: number): string {
  if (status === STATUS_OK) return 'ok'
  return status === STATUS_COMPROMISED ? 'compromised' : `status ${status}, counts as compromised`
}

/** Frames with their key (and the checksum that gives part of it away) marked secret. */
class QixTraceDecoder implements TraceDecoder {
  readonly #decoder = new QixDecoder()
  #pending: Uint8Array = new Uint8Array(0)
  #damaged = false

  push(direction: 'rx' | 'tx', bytes: Uint8Array): TracePiece[] {
    if (direction === 'tx') return [unknownPiece(bytes, 'sent, though a QIX unit takes no commands')]
    const joined = new Uint8Array(this.#pending.length + bytes.length)
    joined.set(this.#pending)
    joined.set(bytes, this.#pending.length)
    this.#pending = joined
    const pieces: TracePiece[] = []
    for (const item of this.#decoder.push(bytes)) {
      switch (item.type) {
        case 'badCrc':
          this.#damaged = true
          break
        case 'skipped':
          pieces.push(unknownPiece(this.#take(item.bytes), this.#damaged ? 'damaged frame: wrong CRC' : 'no frame'))
          this.#damaged = false
          break
        case 'frame':
          item.frame.key.fill(0)
          pieces.push(this.#framePiece(item.frame.id, item.frame.status))
          break
      }
    }
    return pieces
  }

  flush(): TracePiece[] {
    if (this.#pending.length === 0) return []
    return [unknownPiece(this.#take(this.#pending.length), 'unfinished')]
  }

  #take(count: number): Uint8Array {
    const taken = this.#pending.slice(0, count)
    this.#pending = this.#pending.slice(count)
    return taken
  }

  #framePiece(id: bigint, status: number): TracePiece {
    const frame = this.#take(FRAME_BYTES)
    return {
      label: `frame ${id}, ${statusText(status)}`,
      parts: [
        { bytes: frame.slice(0, KEY_AT), secret: false },
        { bytes: frame.slice(KEY_AT, STATUS_AT), secret: true },
        { bytes: frame.slice(STATUS_AT, CRC_AT), secret: false },
        { bytes: frame.slice(CRC_AT), secret: true },
      ],
    }
  }
}

export const trace: TraceFactory = {
  settings: serialSettings,
  createDecoder: () => new QixTraceDecoder(),
}
