import { EXIT } from '../base/error-codes.js'
import { GatewayError, messageOf } from '../base/errors.js'

/** What a person reads on stderr when a command fails: what happened, what to do, and the stable code. */
export function explain(error: unknown): string {
  if (!(error instanceof GatewayError)) {
    const trace = error instanceof Error && error.stack !== undefined ? `\n${error.stack}` : ''
    return `qkd-gw: unexpected: ${messageOf(error)}${trace}\n`
  }
  const remedy = error.remedy === undefined ? '' : `\n  what to do: ${error.remedy}`
  return `qkd-gw: ${error.message}${remedy}\n  (${error.code})\n`
}

export function exitCodeOf(error: unknown): number {
  return error instanceof GatewayError ? (error.exitCode ?? EXIT.unexpected) : EXIT.unexpected
}
