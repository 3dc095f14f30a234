import { Metadata, status as Status } from '@grpc/grpc-js'

/**
 * A call that ended with a status other than OK. Handlers throw it to answer with that status; client calls reject
 * with it. `details` crosses the wire: name the field and the reason, never key material.
 */
export class RpcError extends Error {
  override readonly name = 'RpcError'

  constructor(
    /** gRPC status code, 1 to 16. */
    readonly code: Status,
    /** The status message as it travels. */
    readonly details: string,
    /** Trailing metadata of a failed call. A handler's own goes by its context: what a peer sent is not passed on. */
    readonly metadata: Metadata = new Metadata(),
    options?: ErrorOptions,
  ) {
    super(`${statusName(code)}: ${details}`, options)
  }
}

/** An `RpcError` for a handler to throw. */
export function rpcError(code: Status, message: string): RpcError {
  return new RpcError(code, message)
}

/** The name of a status code, or its number where it has none: peers may send any. */
export function statusName(code: number): string {
  return Status[code] ?? `status ${code}`
}
