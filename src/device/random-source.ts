import type { Clock, Timer } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { wipe } from '../base/wipe.js'
import type { Device } from './contract.js'
import { describeFailure, type HealthOptions, HealthTests } from './random-health.js'

/** Random bytes for choosing states, tested before anybody gets them. */
export interface RandomSource {
  /** "os", "qcicada"… */
  readonly name: string
  /** The maker says that the randomness is of quantum origin. */
  readonly claimsQuantum: boolean
  /**
   * `length` bytes, at most 1 MiB, which belong to the caller. Rejects with E_RANDOM_SOURCE (failed its health tests),
   * E_DEADLINE (gives too few) or E_CANCELLED.
   */
  read(length: number, timeoutMs: number, signal: AbortSignal): Promise<Uint8Array>
}

/** A device whose driver yields random bytes. */
export interface RandomDevice extends Device {
  readonly source: RandomSource
}

export function isRandomDevice(device: Device): device is RandomDevice {
  return 'source' in device
}

export interface TestedPoolOptions {
  name: string
  claimsQuantum: boolean
  health: HealthOptions
  clock: Clock
  /** Bytes kept ready; default 64 KiB. */
  capacity?: number
  /** Turns tested raw bytes into what is given out; default: as they are. The result is wiped with the raw bytes. */
  condition?: (raw: Uint8Array) => Uint8Array
  /** A test failed: what is in the pool has been thrown away, and nothing is given out until `restart`. */
  onFailure: (message: string) => void
}

const MOST_BYTES = 1_048_576

interface Reader {
  length: number
  give: (bytes: Uint8Array) => void
  fail: (error: Error) => void
}

/**
 * Between a driver that brings raw bytes and those who want tested ones. Nothing is given out before the start-up test is
 * passed; the bytes of that test are not given out at all. A failure stops it loudly.
 */
export class TestedPool implements RandomSource {
  readonly name: string
  readonly claimsQuantum: boolean
  readonly #tests: HealthTests
  readonly #kept: Uint8Array
  #length = 0
  #failure: string | undefined
  #failures = 0
  #received = 0
  #given = 0
  readonly #waiting: Reader[] = []
  #wanted: () => void = () => {}

  constructor(private readonly options: TestedPoolOptions) {
    this.name = options.name
    this.claimsQuantum = options.claimsQuantum
    this.#tests = new HealthTests(options.health)
    this.#kept = new Uint8Array(options.capacity ?? 65_536)
  }

  facts(): Record<string, string | number | boolean> {
    return {
      source: this.name,
      claimsQuantum: this.claimsQuantum,
      bytesReceived: this.#received,
      bytesGiven: this.#given,
      bytesReady: this.#length,
      healthFailures: this.#failures,
      healthy: this.#failure === undefined && this.#tests.started,
      ...(this.#failure === undefined ? {} : { failure: this.#failure }),
    }
  }

  /** What failed, until `restart`. */
  get failure(): string | undefined {
    return this.#failure
  }

  /** Bytes that may still come before the pool is full; readers in waiting count. */
  get room(): number {
    const asked = this.#waiting.reduce((sum, { length }) => sum + length, 0)
    return this.#kept.length - this.#length + asked
  }

  /** Called whenever there is room again. One listener. */
  onWanted(listener: () => void): void {
    this.#wanted = listener
  }

  /** Takes raw bytes over, tests them and wipes them. */
  push(raw: Uint8Array): void {
    this.#received += raw.length
    const wasStarted = this.#tests.started
    const failure = this.#failure === undefined ? this.#tests.push(raw) : undefined
    if (failure !== undefined) this.#fail(`${this.name}: ${describeFailure(failure)}`)
    if (this.#failure === undefined && wasStarted) this.#keep(raw)
    wipe(raw)
  }

  /** The device itself says that its bytes are not to be used. */
  reject(reason: string): void {
    if (this.#failure === undefined) this.#fail(reason)
  }

  /** After the device was opened again: tests from the beginning. */
  restart(): void {
    this.#failure = undefined
    this.#tests.reset()
    this.#drop()
  }

  read(length: number, timeoutMs: number, signal: AbortSignal): Promise<Uint8Array> {
    const { clock } = this.options
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#refusal())
      if (length < 0 || length > MOST_BYTES) {
        return reject(new GatewayError('E_INTERNAL', `${length} random bytes asked for at once`))
      }
      const settle = (finish: () => void): void => {
        timer.cancel()
        signal.removeEventListener('abort', stop)
        const at = this.#waiting.indexOf(reader)
        if (at >= 0) this.#waiting.splice(at, 1)
        finish()
      }
      const stop = (): void => settle(() => reject(new GatewayError('E_CANCELLED', `${this.name}: stopped`)))
      let had = 0
      const bytes = new Uint8Array(length)
      const reader: Reader = {
        length,
        give: (part) => {
          bytes.set(part, had)
          had += part.length
          reader.length -= part.length
          if (reader.length > 0) return
          this.#given += length
          settle(() => resolve(bytes))
        },
        fail: (error) => settle(() => reject(error)),
      }
      const timer: Timer = clock.after(timeoutMs, () =>
        settle(() => {
          wipe(bytes)
          reject(
            new GatewayError('E_DEADLINE', `${this.name}: gave ${had} of ${length} random bytes in ${timeoutMs} ms`),
          )
        }),
      )
      if (signal.aborted) return stop()
      signal.addEventListener('abort', stop, { once: true })
      this.#waiting.push(reader)
      this.#serve()
      this.#wanted()
    })
  }

  #refusal(): GatewayError {
    return new GatewayError('E_RANDOM_SOURCE', `${this.#failure ?? this.name}: nothing of it is used any more`, {
      remedy: 'unplug the source and plug it in again; if it fails again it is broken',
    })
  }

  #fail(message: string): void {
    this.#failure = message
    this.#failures += 1
    this.#drop()
    for (const reader of [...this.#waiting]) reader.fail(this.#refusal())
    this.options.onFailure(message)
  }

  #drop(): void {
    this.#kept.fill(0)
    this.#length = 0
  }

  #keep(raw: Uint8Array): void {
    const { condition } = this.options
    const fit = condition === undefined ? raw : condition(raw)
    let at = 0
    while (at < fit.length) {
      const part = fit.subarray(at, at + this.#kept.length - this.#length)
      if (part.length === 0) break // Full: more than anybody asked for.
      this.#kept.set(part, this.#length)
      this.#length += part.length
      at += part.length
      this.#serve()
    }
    if (fit !== raw) wipe(fit)
  }

  /** Readers get their bytes in the order in which they asked, each byte once. */
  #serve(): void {
    let from = 0
    while (this.#waiting[0] !== undefined && from < this.#length) {
      const part = this.#kept.subarray(from, Math.min(this.#length, from + this.#waiting[0].length))
      from += part.length
      this.#waiting[0].give(part)
    }
    while (this.#waiting[0] !== undefined && this.#waiting[0].length === 0) this.#waiting[0].give(new Uint8Array(0))
    if (from === 0) return
    this.#kept.copyWithin(0, from, this.#length)
    this.#kept.fill(0, this.#length - from, this.#length)
    this.#length -= from
    this.#wanted()
  }
}
