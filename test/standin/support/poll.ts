import { expect } from 'vitest'

/** `expect.poll` with the patience of a busy machine. */
export const poll = <T>(look: () => T | Promise<T>, options: { timeout?: number } = {}) =>
  expect.poll(look, { timeout: 20_000, ...options })
