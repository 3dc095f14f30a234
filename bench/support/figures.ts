/** One measured figure. */
export interface Figure {
  name: string
  value: number
  unit: string
  note?: string
}

/** What a file of the bench exports. */
export interface Suite {
  run(): Promise<Figure[]>
}

/** All figures of the parts. A part that fails is a figure without a value that says why: the others still count. */
export async function inTurn(parts: readonly (() => Promise<Figure[]>)[]): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const part of parts) {
    try {
      figures.push(...(await part()))
    } catch (error) {
      const note = error instanceof Error ? error.message.slice(0, 1_000) : String(error)
      figures.push({ name: `not measured: ${part.name}`, value: Number.NaN, unit: '', note })
    }
  }
  return figures
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, two) => one - two)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
