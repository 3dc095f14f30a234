import { POLARISATIONS } from './protocol.js'

/** What one end knows of one run; every list has 16 entries. */
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
  /** 1 where the bit was told in public, to compare: it is no secret and no part of the key. */
  readonly compared: Uint8Array
  /** How many of those differed. */
  readonly errors: number
}

/** Errors of a session so far. */
export interface ErrorCount {
  compared: number
  errors: number
}

const WIDTH = 5
/** A session's error rate is judged when so many bits were compared: fewer say little. */
const ENOUGH_COMPARED = 20
/** What a listener who measures and resends every pulse causes. */
const INTERCEPT_RESEND_PERCENT = 25

function row(title: string, cells: readonly string[]): string {
  return `${title.padEnd(16)}${cells.map((cell) => cell.padStart(WIDTH)).join('')}`
}

export function countOf(flags: Uint8Array): number {
  return flags.reduce((sum, flag) => sum + flag, 0)
}

/** `+x+…` for bases 0 and 1. */
export function basesText(bases: Uint8Array): string {
  return Array.from(bases, (basis) => (basis === 0 ? '+' : 'x')).join('')
}

/**
 * The run as a table for the blackboard, one string a line. Without `showBits` everything that tells a bit of the key is
 * left out.
 */
export function lessonTable(run: LessonRun, showBits: boolean): string[] {
  const { sent, bases, readings, bits, answers, compared } = run
  const inKey = (i: number): boolean => answers[i] === 1 && compared[i] !== 1
  const shown = (text: string, i: number): string => (showBits || !inKey(i) ? text : '*')
  const titled = (title: string, cells: ArrayLike<number>, text: (value: number, i: number) => string): string =>
    row(title, Array.from(cells, text))
  return [
    `run ${run.runId}: BB84 with 16 pulses (demonstrator, not secure)`,
    titled('pulse', bits, (_, i) => String(i + 1)),
    ...(sent === undefined ? [] : [titled('Alice sends', sent, (digit, i) => shown(POLARISATIONS[digit] ?? '?', i))]),
    titled('Bob measures in', bases, (basis) => (basis === 0 ? '+' : 'x')),
    ...(readings === undefined ? [] : [titled('Bob reads', readings, (value, i) => shown(String(value), i))]),
    titled(sent === undefined ? "Bob's bits" : "Alice's bits", bits, (bit, i) => shown(String(bit), i)),
    titled('same basis', answers, (answer) => (answer === 1 ? 'yes' : '-')),
    titled('compared', compared, (flag, i) => (flag === 1 ? String(bits[i] ?? 0) : '')),
    titled('for the key', bits, (bit, i) => (inKey(i) ? shown(String(bit), i) : '')),
    `${countOf(answers)} of ${bits.length} bits sifted, ${countOf(compared)} of them compared in public, ${run.errors} of those differ`,
  ]
}

/** What the errors so far say, in one line. */
export function verdict({ compared, errors }: ErrorCount, mostErrors: number): { text: string; alarming: boolean } {
  if (compared === 0)
    return { text: 'nothing was compared yet: nobody knows whether somebody listens', alarming: false }
  const percent = (100 * errors) / compared
  const soFar = `QBER so far ${percent.toFixed(1)} % (${errors} of ${compared} compared bits differ)`
  if (compared < ENOUGH_COMPARED) return { text: `${soFar}; too few to judge by`, alarming: false }
  if (percent <= 100 * mostErrors) return { text: soFar, alarming: false }
  return {
    text: `${soFar}: somebody measures and resends the pulses (that makes ${INTERCEPT_RESEND_PERCENT} %), or the boards are out of adjustment; no key is made of this`,
    alarming: true,
  }
}
