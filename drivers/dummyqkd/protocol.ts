/** Qubits, sifting, packing and cutting of a Dummy pair: pure functions, no wire and no time. */

/** BB84 value of a slot in which nothing was detected. */
export const INVALID_QUBIT = 6

/** Basis of a BB84 value: 0 rectilinear, 2 diagonal, 4 circular, 6 invalid. */
export function basisOf(qubit: number): number {
  return qubit & 6
}

/** `count` values 0 to 3, two bits of `random` each, least significant first. `random` has at least count / 4 bytes. */
export function qubitsFromRandom(random: Uint8Array, count: number): Uint8Array {
  const qubits = new Uint8Array(count)
  for (let i = 0; i < count; i += 1) qubits[i] = ((random[i >> 2] ?? 0) >> ((i & 3) * 2)) & 3
  return qubits
}

/** The basis of each qubit. */
export function basesOf(qubits: Uint8Array): Uint8Array {
  return qubits.map(basisOf)
}

/**
 * What a receiver sees that chooses rectilinear or diagonal at random for each qubit, two bits of `random` each: the
 * value itself where the basis fits, otherwise a random bit in its own basis.
 */
export function measureInRandomBases(qubits: Uint8Array, random: Uint8Array): Uint8Array {
  const measured = qubitsFromRandom(random, qubits.length)
  for (let i = 0; i < qubits.length; i += 1) {
    const qubit = qubits[i] ?? INVALID_QUBIT
    if (qubit === INVALID_QUBIT || basisOf(qubit) === basisOf(measured[i] ?? 0)) measured[i] = qubit
  }
  return measured
}

/** For each basis 1 where the emitted qubit of that index has the same. `bases` is no longer than `emitted`. */
export function compareBases(emitted: Uint8Array, bases: Uint8Array): Uint8Array {
  const answers = new Uint8Array(bases.length)
  for (let i = 0; i < bases.length; i += 1) answers[i] = basisOf(emitted[i] ?? INVALID_QUBIT) === bases[i] ? 1 : 0
  return answers
}

/** One frame's qubits with the answers for them. */
export interface SiftedFrame {
  readonly qubits: Uint8Array
  /** 1 where the bit is kept; no longer than `qubits`. */
  readonly answers: Uint8Array
}

/**
 * The kept bits of all frames as one string, in frame order, eight a byte from the least significant on. The last byte
 * is filled with zeros and counts in full.
 */
export function packSifted(frames: readonly SiftedFrame[]): Uint8Array {
  let bits = 0
  for (const { answers } of frames) for (const answer of answers) bits += answer
  const packed = new Uint8Array(Math.ceil(bits / 8))
  let at = 0
  for (const { qubits, answers } of frames) {
    for (let i = 0; i < answers.length; i += 1) {
      if (answers[i] !== 1) continue
      packed[at >> 3] = (packed[at >> 3] ?? 0) | (((qubits[i] ?? 0) & 1) << (at & 7))
      at += 1
    }
  }
  return packed
}

/** Cuts sifted bytes into keys and keeps what is left over for the next block. */
export interface KeyCutter {
  /** Bytes kept so far, fewer than a key. */
  readonly remainder: number
  /** The keys that `bytes` complete, in order. Each is a copy. */
  cut(bytes: Uint8Array): Uint8Array[]
  /** Forgets and wipes the remainder. */
  reset(): void
}

/** Keys of `keyBytes` bytes each. */
export function createKeyCutter(keyBytes: number): KeyCutter {
  const kept = new Uint8Array(keyBytes)
  let length = 0
  return {
    get remainder() {
      return length
    },
    cut(bytes) {
      const keys: Uint8Array[] = []
      let at = 0
      while (at < bytes.length) {
        const take = Math.min(keyBytes - length, bytes.length - at)
        kept.set(bytes.subarray(at, at + take), length)
        length += take
        at += take
        if (length < keyBytes) break
        keys.push(Uint8Array.from(kept))
        kept.fill(0)
        length = 0
      }
      return keys
    },
    reset() {
      kept.fill(0)
      length = 0
    },
  }
}
