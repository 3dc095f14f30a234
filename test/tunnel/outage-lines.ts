/** What the process of `outage-child.ts` says. */
import type { TunnelState } from '../../src/tunnel/contract.js'

export interface ChildFacts {
  /** After a collection where the process was started with `--expose-gc`. */
  readonly heapBytes: number
  readonly rssBytes: number
  readonly openFiles: number
  /** Listeners on the signal that lives as long as the tunnel. */
  readonly abortListeners: number
  /** Forwarded connections that the gRPC server holds. */
  readonly connections: number
  readonly backend: string
  readonly tunnel: Readonly<Record<string, string | number | boolean>>
  readonly warnings: readonly string[]
}

export type ChildLine =
  | { readonly kind: 'state'; readonly atMs: number; readonly state: TunnelState }
  | { readonly kind: 'facts'; readonly facts: ChildFacts }
  | { readonly kind: 'failed'; readonly code: string; readonly text: string }
