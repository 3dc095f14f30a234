/** Overwrites buffers that held key material. Copies inside Node and gRPC are beyond reach: see docs/keys-in-memory.md. */
export function wipe(...buffers: (Uint8Array | undefined)[]): void {
  for (const buffer of buffers) buffer?.fill(0)
}
