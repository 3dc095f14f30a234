/** What one count of a time field is worth: `numerator / denominator` picoseconds. */
export interface TimeUnit {
  /** As people write it: "2 ns", "1/256 ns". */
  readonly name: string
  /** 1 to 2^21. */
  readonly numerator: number
  /** 1 to 2^20. */
  readonly denominator: number
}

/** One tick of the TDC1. */
export const UNIT_2_NS: TimeUnit = { name: '2 ns', numerator: 2000, denominator: 1 }
/** Bit 10 of a 64-bit event value. */
export const UNIT_256TH_NS: TimeUnit = { name: '1/256 ns', numerator: 125, denominator: 32 }
/** Bit 15 of a 64-bit event value, and the epoch files' unit. */
export const UNIT_8TH_NS: TimeUnit = { name: '1/8 ns', numerator: 125, denominator: 1 }
export const UNIT_NS: TimeUnit = { name: '1 ns', numerator: 1000, denominator: 1 }
export const UNIT_PS: TimeUnit = { name: '1 ps', numerator: 1, denominator: 1 }
/** 1/4096 of a 130 MHz period. */
export const UNIT_NOX: TimeUnit = { name: '3125/1664 ps', numerator: 3125, denominator: 1664 }

/** A time in ps, cut towards zero. */
export function unitsToPs(units: bigint, unit: TimeUnit): bigint {
  return (units * BigInt(unit.numerator)) / BigInt(unit.denominator)
}

/** A difference in ps, rounded to the nearest; it may be negative. */
export function spanToPs(units: bigint, unit: TimeUnit): bigint {
  const denominator = BigInt(unit.denominator)
  const doubled = 2n * units * BigInt(unit.numerator)
  return units < 0n ? -((denominator - doubled) / (2n * denominator)) : (doubled + denominator) / (2n * denominator)
}
