import { POLARISATIONS } from './protocol.js'

/** What one end knows of one run; everything has 16 entries. */
export interface LessonRun {
  readonly runId: bigint
  /** Alice's digits. */
  readonly sent?: Uint8Array
  /** Bob's bases, 0 or 1. */
  readonly bases: Uint8Array
  /** What Bob's photodiode read. */
  readonly readings?: readonly number[]
  /** This end's bits. */
  readonly bits: Uint8Array
  /** 1 where both used the same basis. */
  readonly answers: Uint8Array
}

const WIDTH = 5

function row(title: string, cells: readonly string[]): string {
  return `${title.padEnd(16)}${cells.map((cell) => cell.padStart(WIDTH)).join('')}`
}

/**
 * The run as a table for the blackboard, one string a line. Without `showBits` everything that tells a bit of the key is
 * left out.
 */
export function lessonTable(run: LessonRun, showBits: boolean): string[] {
  const { sent, bases, readings, bits, answers } = run
  const shown = (text: string, i: number): string => (showBits || answers[i] !== 1 ? text : '*')
  const kept = answers.reduce((sum, answer) => sum + answer, 0)
  const lines = [
    `run ${run.runId}: BB84 with 16 pulses (demonstrator, not secure)`,
    row(
      'pulse',
      Array.from(bits, (_, i) => String(i + 1)),
    ),
  ]
  if (sent !== undefined)
    lines.push(
      row(
        'Alice sends',
        Array.from(sent, (digit, i) => shown(POLARISATIONS[digit] ?? '?', i)),
      ),
    )
  lines.push(
    row(
      'Bob measures in',
      Array.from(bases, (basis) => (basis === 0 ? '+' : 'x')),
    ),
  )
  if (readings !== undefined)
    lines.push(
      row(
        'Bob reads',
        readings.map((reading, i) => shown(String(reading), i)),
      ),
    )
  lines.push(
    row(
      sent === undefined ? "Bob's bits" : "Alice's bits",
      Array.from(bits, (bit, i) => shown(String(bit), i)),
    ),
    row(
      'same basis',
      Array.from(answers, (answer) => (answer === 1 ? 'yes' : '-')),
    ),
    row(
      'sifted',
      Array.from(answers, (answer, i) => (answer === 1 ? shown(String(bits[i] ?? 0), i) : '')),
    ),
    `${kept} of ${bits.length} bits kept`,
  )
  return lines
}
