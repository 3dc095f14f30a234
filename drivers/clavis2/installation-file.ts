/** `vectis.conf`: where the host program reads the initial secret key that its authentication starts from. */

export const INSTALLATION_FILE = '/var/idq/vectis.conf'
export const INITIAL_KEY_BYTES = 32

/**
 * How the key is spelt. `full`: two upper-case digits a byte, as the program documents it. `upstream`: as CQPToolkit's
 * wrapper writes it, without the leading zero of every byte but the first.
 */
export type KeySpelling = 'full' | 'upstream'

const ASCII_ZERO = 0x30
const DIGITS = new TextEncoder().encode('0123456789ABCDEF')

/** The digits as bytes, so that they can be wiped: strings cannot. */
function spell(key: Uint8Array, spelling: KeySpelling): Uint8Array {
  const digits = new Uint8Array(key.length * 2)
  let length = 0
  key.forEach((byte, i) => {
    const high = DIGITS[byte >> 4] ?? ASCII_ZERO
    if (high !== ASCII_ZERO || i === 0 || spelling === 'full') digits[length++] = high
    digits[length++] = DIGITS[byte & 15] ?? ASCII_ZERO
  })
  const spelt = digits.slice(0, length)
  digits.fill(0)
  return spelt
}

/** The whole file. The caller wipes it after writing. */
export function renderInstallationFile(key: Uint8Array, spelling: KeySpelling): Uint8Array {
  const head = new TextEncoder().encode('[devices]\nmax_devices = 12\n[installation]\ninitial_secret_key = ')
  const digits = spell(key, spelling)
  const file = new Uint8Array(head.length + digits.length + 1)
  file.set(head)
  file.set(digits, head.length)
  file[file.length - 1] = 0x0a
  digits.fill(0)
  return file
}

/** Whether CQPToolkit's wrapper writes this key wrongly: some byte but the first is below 10 hex. */
export function upstreamSpellsWrongly(key: Uint8Array): boolean {
  return key.some((byte, i) => i > 0 && byte < 0x10)
}

/** How a file there already spells `key`. */
export type FoundSpelling = KeySpelling | 'both' | 'otherKey' | 'none'

/** `both` where the spellings of this key do not differ; `none` where the file names no key. */
export function spellingIn(file: Uint8Array, key: Uint8Array): FoundSpelling {
  const value = keyDigits(file)
  if (value === undefined) return 'none'
  const matches = (spelling: KeySpelling): boolean => {
    const digits = spell(key, spelling)
    const equal = Buffer.from(digits).equals(value)
    digits.fill(0)
    return equal
  }
  const full = matches('full')
  const upstream = matches('upstream')
  if (full && upstream) return 'both'
  if (full) return 'full'
  return upstream ? 'upstream' : 'otherKey'
}

/**
 * How many of the digits of its key a file lacks, if it lacks so many as the wrapper can leave out; otherwise 0. Without
 * the key itself that is the only sign of the wrapper's spelling.
 */
export function missingDigits(file: Uint8Array): number {
  const missing = INITIAL_KEY_BYTES * 2 - (keyDigits(file)?.length ?? 0)
  return missing > 0 && missing < INITIAL_KEY_BYTES ? missing : 0
}

/** The value of initial_secret_key, as a view into `file`. */
export function keyDigits(file: Uint8Array): Uint8Array | undefined {
  const buffer = Buffer.from(file.buffer, file.byteOffset, file.byteLength)
  const name = buffer.indexOf('initial_secret_key')
  const equals = name < 0 ? -1 : buffer.indexOf('=', name)
  if (equals < 0) return undefined
  let from = equals + 1
  while (buffer[from] === 0x20 || buffer[from] === 0x09) from += 1
  let to = from
  while (to < buffer.length && (buffer[to] ?? 0) > 0x20) to += 1
  return to > from ? buffer.subarray(from, to) : undefined
}
