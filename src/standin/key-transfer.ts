/** The fork's way on: each key goes to `KeyTransfer.OnKeyFromCQP`, one call a key, before it is stored. */
import { KeyTransfer } from '../rpc/gen/cqp/remote/key_transfer_pb.js'
import type { Clock } from '../base/clock.js'
import { callUnary, dial } from './wire.js'
import type * as grpc from '@grpc/grpc-js'

export interface KeyTransferOptions {
  /** localhost:50051 in the original. */
  readonly address: string
  readonly clock: Clock
  /** The original spins without a pause; this keeps the machine usable. */
  readonly retryMs?: number
}

export class KeyTransferClient {
  readonly #client: grpc.Client
  #closed = false

  constructor(private readonly options: KeyTransferOptions) {
    this.#client = dial(options.address)
  }

  /** Passes one key on; while nobody listens it goes on trying, for ever. False once the client was closed. */
  async pass(key: Uint8Array, seqID: bigint, localID: string): Promise<boolean> {
    while (!this.#closed) {
      try {
        await callUnary(this.#client, KeyTransfer.method.onKeyFromCQP, { key, seqID, localID })
        return true
      } catch {
        await new Promise<void>((resolve) => void this.options.clock.after(this.options.retryMs ?? 50, resolve))
      }
    }
    return false
  }

  /** One try, as the Java site makes it. */
  async passOnce(key: Uint8Array, seqID: bigint, localID: string): Promise<void> {
    await callUnary(this.#client, KeyTransfer.method.onKeyFromCQP, { key, seqID, localID })
  }

  close(): void {
    this.#closed = true
    this.#client.close()
  }
}
