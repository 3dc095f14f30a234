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

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, two) => one - two)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}
