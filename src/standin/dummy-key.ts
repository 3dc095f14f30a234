/** What both Dummy devices do with qubits: basis and bit, packing, and the cutting into keys. Pure. */

/** Basis of a qubit: Retiliniear 0, Diagonal 2, Circular 4. */
export const basisOf = (qubit: number): number => qubit & 6
export const bitOf = (qubit: number): number => qubit & 1

/** Bits as bytes, least significant bit first; the last byte is padded with zeros and counts in full. */
export function packBits(bits: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(bits.length / 8))
  bits.forEach((bit, index) => {
    const at = index >> 3
    bytes[at] = (bytes[at] ?? 0) | (bit << (index & 7))
  })
  return bytes
}

/** Cuts blocks into keys; what is left over comes first in the next block, also in the next session. */
export class KeyCutter {
  #rest = new Uint8Array(0)

  constructor(private readonly bytesPerKey: number) {}

  cut(block: Uint8Array): Uint8Array[] {
    const all = new Uint8Array(this.#rest.length + block.length)
    all.set(this.#rest)
    all.set(block, this.#rest.length)
    const keys: Uint8Array[] = []
    let at = 0
    for (; at + this.bytesPerKey <= all.length; at += this.bytesPerKey) keys.push(all.slice(at, at + this.bytesPerKey))
    this.#rest = all.slice(at)
    return keys
  }
}
