import { randomBytes, randomInt } from 'node:crypto'

/** Randomness as the code sees it; tests pass a seeded one. */
export interface Random {
  /** `length` bytes, fit for keys where the source is the system's. */
  bytes(length: number): Uint8Array
  /** Uniform in [0, 1). Not for keys. */
  fraction(): number
}

/** The operating system's generator. */
export const systemRandom: Random = {
  bytes: (length) => randomBytes(length),
  fraction: () => randomInt(2 ** 47) / 2 ** 47,
}
