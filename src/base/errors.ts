import { ERROR_CODES, type ErrorCode } from './error-codes.js'

export interface GatewayErrorOptions {
  /** What the user can do about it, as one sentence or command. */
  remedy?: string
  /** Facts for machines (port, host, file, expected, found); never key material. */
  details?: Readonly<Record<string, string | number | boolean>>
  cause?: unknown
}

/**
 * Every failure that a user may meet: a stable code, a message that names the port, host or file and what was
 * expected, and what to do. Codes and the exit codes that go with them stand in `error-codes.ts`.
 */
export class GatewayError extends Error {
  override readonly name = 'GatewayError'
  readonly code: ErrorCode
  readonly remedy: string | undefined
  readonly details: Readonly<Record<string, string | number | boolean>>

  constructor(code: ErrorCode, message: string, options: GatewayErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.remedy = options.remedy
    this.details = options.details ?? {}
  }

  /** The process exit code this error ends with, or undefined where time or a cable can mend it. */
  get exitCode(): number | undefined {
    return ERROR_CODES[this.code].exitCode
  }
}

/** The text of anything thrown, for logs and reasons. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message === '' ? error.name : error.message
  return String(error)
}

/** The text of anything thrown, and in brackets what can be done about it where the error says so. */
export function explanationOf(error: unknown): string {
  const remedy = error instanceof GatewayError ? error.remedy : undefined
  return remedy === undefined ? messageOf(error) : `${messageOf(error)} (${remedy})`
}

/** The system's error code (ENOENT, ECONNREFUSED …) or the stable code of ours, if there is one. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}
