/** How the tagger is controlled over its serial line. Its USB data are read by the reader of NOX files. */

export const BAUD = 9_600
export const VENDOR_ID = 0x221a
export const PRODUCT_ID = 0x0100
/** Bulk endpoint of the records. */
export const DATA_ENDPOINT = 0x82
export const READ_BYTES = 8_192

const byte = (letter: string): Uint8Array => Uint8Array.of(letter.charCodeAt(0))

/** Sent one by one, each followed by a pause; D and E even where unused: some boxes misreport channel D otherwise. */
export const INITIALISATION: readonly Uint8Array[] = ['W', 'S', 'A', 'B', 'C', 'D', 'E'].map(byte)
/** Pause after each of those, ms. */
export const STEP_MS = 500
export const START = byte('R')
export const STOP = byte('S')

/** What becomes of channel 0 to 3: bit of the pattern. */
export type ChannelMap = readonly [number, number, number, number]

export const BB84_ORDER: ChannelMap = [0, 1, 2, 3]

/** Reads "0123" and the like: the states (0 Zero, 1 One, 2 Pos, 3 Neg) of channels 0 to 3. Undefined where it is none. */
export function parseChannelMap(text: string): ChannelMap | undefined {
  if (!/^[0-3]{4}$/.test(text) || new Set(text).size !== 4) return undefined
  const [a = 0, b = 0, c = 0, d = 0] = Array.from(text, Number)
  return [a, b, c, d]
}
