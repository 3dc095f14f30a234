import { createHash } from 'node:crypto'
import { type Clock, sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import type { ReadonlyCell } from '../../src/base/cell.js'
import type { DeviceState } from '../../src/device/contract.js'
import { createEventHub } from '../../src/device/event-hub.js'
import { type RandomDevice, TestedPool } from '../../src/device/random-source.js'
import type { SessionHandle } from '../../src/device/serial-session.js'
import type { Logger } from '../../src/observe/log.js'

/**
 * Min-entropy that a byte is taken to have for the health tests. Far below what any of these sources claims, so that a
 * false alarm is out of the question, and a stuck source is still found within nine bytes.
 */
const ENTROPY_BITS = 4

export interface PoolOptions {
  name: string
  claimsQuantum: boolean
  clock: Clock
  log: Logger
  condition?: (raw: Uint8Array) => Uint8Array
}

export function createPool(options: PoolOptions): TestedPool {
  const { log, ...rest } = options
  return new TestedPool({
    ...rest,
    health: { entropyBits: ENTROPY_BITS },
    onFailure: (message) =>
      log.error(
        { source: options.name, reason: message },
        'a random source failed its health test and is not used any more',
      ),
  })
}

/** What keeps the source open: a serial or a USB session. */
export interface SourceSession {
  readonly state: ReadonlyCell<DeviceState>
  facts(): Record<string, string | number | boolean>
  run(signal: AbortSignal): Promise<void>
}

/** A device around a pool and what fills it. */
export function createSourceDevice(pool: TestedPool, session: SourceSession, log: Logger): RandomDevice {
  const hub = createEventHub(log)
  return {
    source: pool,
    state: session.state,
    facts: () => ({ ...session.facts(), ...pool.facts() }),
    subscribe: (listener) => hub.subscribe(listener),
    run: (signal) => session.run(signal),
  }
}

/** How long a source that failed is left alone before it may begin anew, ms. */
export const FAILED_PAUSE_MS = 60_000
/** While nobody wants anything, a source that is spoken to is asked for a sign of life so often, ms. */
export const SIGN_OF_LIFE_MS = 15_000

/** Resolves true once the pool has room for `least` bytes; false after `longestMs`, or when `signal` aborts. */
export function untilWanted(
  pool: TestedPool,
  least: number,
  clock: Clock,
  longestMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (wanted: boolean): void => {
      pool.onWanted(() => {})
      timer.cancel()
      signal.removeEventListener('abort', look)
      resolve(wanted)
    }
    const look = (): void => {
      if (signal.aborted) settle(false)
      else if (pool.room >= least) settle(true)
    }
    const timer = clock.after(longestMs, () => settle(false))
    pool.onWanted(look)
    signal.addEventListener('abort', look)
    look()
  })
}

/** After a failed health test: shows it, leaves the source alone for a while, and then ends the opening. */
export async function failed(
  handle: Pick<SessionHandle, 'doubt'>,
  failure: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<never> {
  handle.doubt(failure)
  await sleep(clock, FAILED_PAUSE_MS, signal)
  throw new GatewayError('E_RANDOM_SOURCE', failure)
}

/** SHA-256 over every 64 bytes, for sources that give unconditioned bytes: half as many come out. */
export function hashHalves(raw: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.floor(raw.length / 64) * 32)
  for (let at = 0; at + 64 <= raw.length; at += 64) {
    const digest = createHash('sha256')
      .update(raw.subarray(at, at + 64))
      .digest()
    out.set(digest, at / 2)
    digest.fill(0)
  }
  return out
}
