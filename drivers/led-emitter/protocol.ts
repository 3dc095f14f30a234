/** What the emitter is told over its serial line, and how states lie in its USB data. */

export const BAUD = 9_600
export const VENDOR_ID = 0x221a
export const PRODUCT_ID = 0x0100
/** Bulk endpoint of the states. */
export const DATA_ENDPOINT = 0x02
export const QUBITS_A_BYTE = 4
export const DEFAULT_BURST_QUBITS = 1_024

/**
 * Repetition register: 10 MHz; pulse register: 7 ns; each closed by 24. Sent at once, without pauses. 13 is XOFF: with
 * software flow control on, the line would swallow it and stop.
 */
export const SETTINGS = Uint8Array.of(0x46, 0x13, 0x24, 0x50, 0x1c, 0x24)

/** Which two bits of a byte are sent first; the hardware's own order is not known. */
export type QubitOrder = 'high' | 'low'

/** The states (0 to 3) in the order in which they leave the emitter. */
export function qubitsOf(bytes: Uint8Array, order: QubitOrder): Uint8Array {
  const qubits = new Uint8Array(bytes.length * QUBITS_A_BYTE)
  for (let i = 0; i < qubits.length; i += 1) {
    const place = order === 'high' ? 6 - 2 * (i & 3) : 2 * (i & 3)
    qubits[i] = ((bytes[i >> 2] ?? 0) >> place) & 3
  }
  return qubits
}

/** The inverse; a last byte is filled with zeros. */
export function bytesOfQubits(qubits: Uint8Array, order: QubitOrder): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(qubits.length / QUBITS_A_BYTE))
  qubits.forEach((qubit, i) => {
    const place = order === 'high' ? 6 - 2 * (i & 3) : 2 * (i & 3)
    bytes[i >> 2] = (bytes[i >> 2] ?? 0) | ((qubit & 3) << place)
  })
  return bytes
}
