import type { TracePiece } from '../device/trace-contract.js'

const BYTES_A_ROW = 16

/** A byte as it is shown: two hex digits and one character, or dots where it is secret. */
interface Cell {
  hex: string
  character: string
}

function cellsOf(piece: TracePiece, showKeys: boolean): Cell[] {
  return piece.parts.flatMap(({ bytes, secret }) =>
    [...bytes].map((byte): Cell => {
      if (secret && !showKeys) return { hex: '··', character: '·' }
      const printable = byte >= 0x20 && byte < 0x7f
      return { hex: byte.toString(16).padStart(2, '0'), character: printable ? String.fromCharCode(byte) : '.' }
    }),
  )
}

/** Seconds since the start, µs exact. */
function timeText(atUs: number): string {
  return (atUs / 1e6).toFixed(6).padStart(12)
}

/** One piece as rows of a hex dump; `<` came from the device, `>` went to it. Without line end after the last row. */
export function pieceRows(atUs: number, direction: 'rx' | 'tx', piece: TracePiece, showKeys: boolean): string {
  const cells = cellsOf(piece, showKeys)
  const rows: string[] = []
  for (let at = 0; at < Math.max(1, cells.length); at += BYTES_A_ROW) {
    const row = cells.slice(at, at + BYTES_A_ROW)
    const hex = row.map((cell) => cell.hex).join(' ')
    const characters = row.map((cell) => cell.character).join('')
    const lead = at === 0 ? `${timeText(atUs)} ${direction === 'rx' ? '<' : '>'}` : ' '.repeat(14)
    const label = at === 0 ? `  ${piece.label}` : ''
    rows.push(`${lead}  ${hex.padEnd(3 * BYTES_A_ROW - 1)}  ${characters.padEnd(BYTES_A_ROW)}${label}`.trimEnd())
  }
  return rows.join('\n')
}

/** The same for programs: one JSON object, secret bytes as `..`. */
export function pieceJson(atUs: number, direction: 'rx' | 'tx', piece: TracePiece, showKeys: boolean): string {
  const hex = cellsOf(piece, showKeys)
    .map((cell) => cell.hex.replace('··', '..'))
    .join('')
  return JSON.stringify({ atUs: Math.round(atUs), direction, label: piece.label, bytes: hex.length / 2, hex })
}

/** Something that happened to the port. */
export function noteRow(atUs: number, text: string, json: boolean): string {
  return json ? JSON.stringify({ atUs: Math.round(atUs), direction: 'note', text }) : `${timeText(atUs)} -  ${text}`
}

/** The bytes of a piece for a file: secret ones as zeros unless they are to be kept. */
export function recordedBytes(piece: TracePiece, keepKeys: boolean): Uint8Array {
  return Uint8Array.from(
    piece.parts.flatMap(({ bytes, secret }) => (secret && !keepKeys ? [...bytes].map(() => 0) : [...bytes])),
  )
}
