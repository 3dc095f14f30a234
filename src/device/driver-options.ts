/** Options of drivers and emulators arrive as text, by name: each has a schema that turns them into values. */
import { z } from 'zod'
import type { ErrorCode } from '../base/error-codes.js'
import { GatewayError } from '../base/errors.js'

/** A whole number from `min` to `max`. */
export function wholeNumber(min: number, max: number) {
  return z
    .string()
    .regex(/^-?\d{1,15}$/, 'must be a whole number')
    .transform(Number)
    .refine((value) => value >= min && value <= max, `must be from ${min} to ${max}`)
}

/** A number, with or without decimals, from `min` to `max`. */
export function decimalNumber(min: number, max: number) {
  return z
    .string()
    .regex(/^-?\d{1,15}(\.\d{1,15})?$/, 'must be a number')
    .transform(Number)
    .refine((value) => value >= min && value <= max, `must be from ${min} to ${max}`)
}

/** on or off, yes or no, true or false. */
export const onOff = z
  .enum(['on', 'off', 'yes', 'no', 'true', 'false'])
  .transform((text) => text === 'on' || text === 'yes' || text === 'true')

/**
 * Checks options against a schema, which should be strict. `what` names their owner ("driver qix"). Throws `code`
 * (E_CONFIG unless given), naming each wrong option.
 */
export function parseOptions<T>(
  what: string,
  schema: z.ZodType<T>,
  options: Readonly<Record<string, string>>,
  code: ErrorCode = 'E_CONFIG',
): T {
  const result = schema.safeParse(options)
  if (result.success) return result.data
  const wrong = result.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.join('.')}: ${message}`,
  )
  throw new GatewayError(code, `${what}: ${wrong.join('; ')}`, {
    remedy: 'options are written as name=value; the README of the driver lists them',
  })
}
