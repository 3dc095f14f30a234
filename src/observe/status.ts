/** Anything JSON can hold; 64-bit counts travel as decimal strings where they can pass 2^53. */
export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue | undefined }

/** Where one part of the chain (device, server, tunnel, registration, session, link) stands. */
export interface PartStatus {
  /** Name of the state, one word of the part's own union. */
  state: string
  /** Unix ms since when. */
  sinceMs: number
  /** Why, in plain words. */
  reason?: string
  /** What it needs to go on, in plain words, where it does not go on by itself. */
  needs?: string
  /** Unsafe choices and doubts, each a sentence; shown wherever status is shown. */
  warnings?: string[]
  /** Facts of the part. */
  facts?: { [key: string]: JsonValue | undefined }
}
