import { GatewayError } from '../../base/errors.js'

const LF = 10
const CR = 13
const TAB = 9
const BLANK = 32

/**
 * Hexadecimal text, one number a line, as the little-endian words it stands for: 8 digits (`a0`) are one word, 16 (`a2`)
 * two words, the high one first. Any chunking; blank lines and blanks around a number are passed over, a last line
 * that is cut off is left out. Throws E_FORMAT naming the line.
 */
export class HexTextDecoder {
  readonly #digits: 8 | 16
  #line = 1
  #count = 0
  readonly #word = new Uint32Array(2)

  constructor(digits: 8 | 16) {
    this.#digits = digits
  }

  /** The words that the chunk completes; a fresh array. */
  decode(chunk: Uint8Array): Uint8Array {
    const words = new Uint32Array(Math.ceil((chunk.length + 16) / 8))
    let out = 0
    for (let i = 0; i < chunk.length; i++) {
      const char = chunk[i] ?? 0
      if (char === LF || char === CR || char === BLANK || char === TAB) {
        if (this.#count !== 0) {
          out = this.#finish(words, out)
        }
        if (char === LF) this.#line += 1
        continue
      }
      const nibble = nibbleOf(char)
      if (nibble < 0 || this.#count === this.#digits) throw this.#refuse()
      const at = this.#count >> 3
      this.#word[at] = ((this.#word[at] ?? 0) << 4) | nibble
      this.#count += 1
    }
    return new Uint8Array(words.buffer, 0, 4 * out)
  }

  /** Digits of a last line that is cut off. */
  get cutOff(): number {
    return this.#count
  }

  /** The last line where no line end follows it and it is whole. */
  end(): Uint8Array {
    const words = new Uint32Array(2)
    const out = this.#count === this.#digits ? this.#finish(words, 0) : 0
    return new Uint8Array(words.buffer, 0, 4 * out)
  }

  #finish(words: Uint32Array, at: number): number {
    if (this.#count !== this.#digits) throw this.#refuse()
    let out = at
    words[out++] = this.#word[0] ?? 0
    if (this.#digits === 16) words[out++] = this.#word[1] ?? 0
    this.#count = 0
    this.#word.fill(0)
    return out
  }

  #refuse(): GatewayError {
    return new GatewayError('E_FORMAT', `line ${this.#line}: expected ${this.#digits} hexadecimal digits`, {
      remedy: 'a0 has 8 digits a line, a2 has 16; name another format with --format if it is neither',
      details: { line: this.#line },
    })
  }
}

function nibbleOf(char: number): number {
  if (char >= 48 && char <= 57) return char - 48
  const lower = char | 32
  return lower >= 97 && lower <= 102 ? lower - 87 : -1
}
