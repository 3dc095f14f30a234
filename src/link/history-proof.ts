/**
 * How two gateways show each other that they count in the same sequence without telling its name: who hears one Hello
 * could otherwise say the name back and be believed what only the other gateway knows.
 */
import { createHmac } from 'node:crypto'
import { equalBytes } from './verification.js'

export const LINEAGE_BYTES = 16

/** For a Hello of `incarnation`; empty where there is no sequence yet (''). */
export function lineageProof(lineage: string, incarnation: Uint8Array): Uint8Array<ArrayBuffer> {
  if (lineage === '') return new Uint8Array()
  const mac = createHmac('sha256', Buffer.from(lineage, 'hex')).update(incarnation).digest()
  return Uint8Array.from(mac.subarray(0, LINEAGE_BYTES))
}

/** Our own sequence where the other side has shown that it knows it; otherwise the proof itself, which is nobody's. */
export function recognisedLineage(
  proof: string,
  theirIncarnation: Uint8Array,
  own: { readonly lineage: string; readonly incarnation: Uint8Array },
): string {
  // Our own proof said back proves nothing.
  if (equalBytes(theirIncarnation, own.incarnation)) return proof
  const expected = lineageProof(own.lineage, theirIncarnation)
  return expected.length > 0 && equalBytes(Buffer.from(proof, 'hex'), expected) ? own.lineage : proof
}
