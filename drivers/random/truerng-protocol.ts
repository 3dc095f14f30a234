/** The one rate that selects no mode on any TrueRNG. */
export const BAUD = 3_000_000
