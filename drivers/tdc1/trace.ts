import { type TraceDecoder, type TraceFactory, type TracePiece, unknownPiece } from '../../src/device/trace-contract.js'
import { TDC1_DUMMY_BIT } from '../../src/device/event-formats/tdc1-words.js'
import { serialSettings } from './options.js'

const PRINTABLE = /^[\x20-\x7e\r\n\t]+$/
const START = /timestamp.*counts\?/is
const END = /abort/i
const STATUS = /[0-9a-fA-F]{4} \r\n$/

/**
 * Commands and answers as text; time tags as records. Tags tell what was detected, so they are as secret as the key that
 * is made of them.
 */
class Tdc1TraceDecoder implements TraceDecoder {
  #tagging = false
  #ending = false
  #rest: Uint8Array = new Uint8Array(0)

  push(direction: 'rx' | 'tx', bytes: Uint8Array): TracePiece[] {
    if (direction === 'tx') return [this.#command(bytes)]
    if (!this.#tagging) return [unknownPiece(bytes, 'answer')]
    const joined = new Uint8Array(this.#rest.length + bytes.length)
    joined.set(this.#rest)
    joined.set(bytes, this.#rest.length)
    if (this.#ending && STATUS.test(Buffer.from(joined.subarray(-7)).toString('latin1'))) {
      this.#tagging = false
      this.#rest = new Uint8Array(0)
      const status = { label: 'status', parts: [{ bytes: joined.slice(-7), secret: false }] }
      return joined.length === 7 ? [status] : [records(joined.slice(0, -7)), status]
    }
    // While a status may come, its beginning is not taken for a record.
    const kept = this.#ending ? Math.min(joined.length, 11) : joined.length % 4
    const whole = joined.slice(0, joined.length - kept - ((joined.length - kept) % 4))
    this.#rest = joined.slice(whole.length)
    return whole.length === 0 ? [] : [records(whole)]
  }

  flush(): TracePiece[] {
    const rest = this.#rest
    this.#rest = new Uint8Array(0)
    return rest.length === 0 ? [] : [unknownPiece(rest, 'unfinished')]
  }

  #command(bytes: Uint8Array): TracePiece {
    const text = Buffer.from(bytes).toString('latin1')
    if (START.test(text)) {
      this.#tagging = true
      this.#ending = false
    } else if (END.test(text)) this.#ending = true
    return { label: 'command', parts: [{ bytes, secret: !PRINTABLE.test(text) }] }
  }
}

function records(bytes: Uint8Array): TracePiece {
  let dummies = 0
  for (let at = 0; at + 4 <= bytes.length; at += 4) if (((bytes[at] ?? 0) & TDC1_DUMMY_BIT) !== 0) dummies += 1
  const count = Math.floor(bytes.length / 4)
  return { label: `${count} records, ${dummies} of them dummies`, parts: [{ bytes, secret: true }], measured: true }
}

export const trace: TraceFactory = {
  settings: serialSettings,
  spokenTo: true,
  createDecoder: () => new Tdc1TraceDecoder(),
}
