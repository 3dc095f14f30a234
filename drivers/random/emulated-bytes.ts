import type { Random } from '../../src/base/random.js'
import type { FaultDescription } from '../../src/device/emulator-contract.js'

export const SOURCE_FAULTS: readonly FaultDescription[] = [
  { name: 'stuck', usage: '[value=0]', meaning: 'every byte from now on is that value' },
  { name: 'biased', usage: '', meaning: 'every third byte from now on is 0' },
  { name: 'healed', usage: '', meaning: 'ends stuck and biased' },
]

/** The bytes of an emulated source, and what is wrong with them. */
export class EmulatedBytes {
  #stuck: number | undefined
  #biased = false

  constructor(private readonly random: Random) {}

  take(length: number): Uint8Array {
    if (this.#stuck !== undefined) return new Uint8Array(length).fill(this.#stuck)
    const bytes = Uint8Array.from(this.random.bytes(length))
    if (this.#biased) for (let i = 0; i < length; i += 3) bytes[i] = 0
    return bytes
  }

  fault(name: string, args: readonly string[]): string | undefined {
    switch (name) {
      case 'stuck':
        this.#stuck = Number(args[0] ?? 0) & 255
        return `every byte is ${this.#stuck}`
      case 'biased':
        this.#biased = true
        return 'every third byte is 0'
      case 'healed':
        this.#stuck = undefined
        this.#biased = false
        return 'random again'
      default:
        return undefined
    }
  }
}
