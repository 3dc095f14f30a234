/** Whether memory grows with the number of cycles. */

export interface MemoryTrend {
  samples: number
  firstKib: number
  lastKib: number
  /** Growth by the straight line through the second half, when caches are full: KiB for 1,000 cycles. */
  slopeKibPerThousand: number
}

export function memoryTrend(samples: readonly { readonly cycle: number; readonly kib: number }[]): MemoryTrend {
  const settled = samples.slice(Math.floor(samples.length / 2))
  const meanCycle = mean(settled.map(({ cycle }) => cycle))
  const meanKib = mean(settled.map(({ kib }) => kib))
  let covariance = 0
  let variance = 0
  for (const { cycle, kib } of settled) {
    covariance += (cycle - meanCycle) * (kib - meanKib)
    variance += (cycle - meanCycle) ** 2
  }
  return {
    samples: samples.length,
    firstKib: samples[0]?.kib ?? 0,
    lastKib: samples.at(-1)?.kib ?? 0,
    slopeKibPerThousand: variance === 0 ? 0 : Math.round((covariance / variance) * 1_000),
  }
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length
}
