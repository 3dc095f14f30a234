/**
 * The two continuous health tests of NIST SP 800-90B (4.4): they notice a source that is stuck or has lost most of its
 * entropy. They say nothing about how good a healthy source is.
 */

export interface HealthOptions {
  /** Min-entropy that a sample is claimed to have, bits; above 0 and at most `sampleBits`. */
  readonly entropyBits: number
  /** 1 to 8; samples are bytes, of which so many bits count. Default 8. */
  readonly sampleBits?: number
  /** Chance of a false alarm for each test and sample (window); default 2^-30. */
  readonly falseAlarm?: number
}

export type HealthFailure =
  | { test: 'repetitionCount'; value: number; count: number; cutoff: number }
  | { test: 'adaptiveProportion'; value: number; count: number; cutoff: number; window: number }

const DEFAULT_FALSE_ALARM = 2 ** -30
/** Samples of a start-up test. */
export const STARTUP_SAMPLES = 1_024

/** Equal samples in a row from which on a source with that entropy is taken for stuck. */
export function repetitionCutoff(entropyBits: number, falseAlarm = DEFAULT_FALSE_ALARM): number {
  return 1 + Math.ceil(-Math.log2(falseAlarm) / entropyBits)
}

/**
 * 1 + the smallest k for which a binomial variable of `window` trials with chance 2^-entropyBits stays at or below k with
 * a probability of at least 1 − falseAlarm.
 */
export function proportionCutoff(window: number, entropyBits: number, falseAlarm = DEFAULT_FALSE_ALARM): number {
  const p = 2 ** -entropyBits
  const logP = Math.log(p)
  const logQ = Math.log1p(-p)
  // Upper tail from the top down, so that small terms are added first.
  let logTerm = window * logP
  let tail = 0
  for (let k = window; k > 0; k -= 1) {
    tail += Math.exp(logTerm)
    if (tail > falseAlarm) return k + 1
    logTerm += Math.log(k) - Math.log(window - k + 1) + logQ - logP
  }
  return 1
}

/** Both tests over one stream of samples. */
export class HealthTests {
  readonly repetitionCutoff: number
  readonly proportionCutoff: number
  readonly window: number
  readonly #mask: number
  #last = -1
  #run = 0
  #first = -1
  #seen = 0
  #equal = 0
  #samples = 0
  #failure: HealthFailure | undefined

  constructor(options: HealthOptions) {
    const { entropyBits, sampleBits = 8, falseAlarm = DEFAULT_FALSE_ALARM } = options
    if (!(entropyBits > 0) || entropyBits > sampleBits) throw new RangeError('entropyBits: above 0, at most sampleBits')
    this.#mask = (1 << sampleBits) - 1
    this.window = sampleBits === 1 ? 1_024 : 512
    this.repetitionCutoff = repetitionCutoff(entropyBits, falseAlarm)
    this.proportionCutoff = proportionCutoff(this.window, entropyBits, falseAlarm)
  }

  /** Samples tested since the last reset. */
  get samples(): number {
    return this.#samples
  }

  /** The start-up test is passed: enough samples, none of which failed. */
  get started(): boolean {
    return this.#failure === undefined && this.#samples >= STARTUP_SAMPLES
  }

  /** Tests samples in order; the first failure, which stays until `reset`. */
  push(samples: Uint8Array): HealthFailure | undefined {
    for (let i = 0; i < samples.length && this.#failure === undefined; i += 1) {
      this.#failure = this.#test((samples[i] ?? 0) & this.#mask)
    }
    return this.#failure
  }

  reset(): void {
    this.#last = -1
    this.#run = 0
    this.#first = -1
    this.#seen = 0
    this.#equal = 0
    this.#samples = 0
    this.#failure = undefined
  }

  #test(value: number): HealthFailure | undefined {
    this.#samples += 1
    this.#run = value === this.#last ? this.#run + 1 : 1
    this.#last = value
    if (this.#run >= this.repetitionCutoff) {
      return { test: 'repetitionCount', value, count: this.#run, cutoff: this.repetitionCutoff }
    }
    if (this.#seen === 0) {
      this.#first = value
      this.#equal = 0
    }
    if (value === this.#first) this.#equal += 1
    this.#seen = this.#seen + 1 === this.window ? 0 : this.#seen + 1
    if (this.#equal < this.proportionCutoff) return undefined
    return {
      test: 'adaptiveProportion',
      value,
      count: this.#equal,
      cutoff: this.proportionCutoff,
      window: this.window,
    }
  }
}

/** The failure in words. The value is named: a stuck source has no secret to keep. */
export function describeFailure(failure: HealthFailure): string {
  const value = `value ${failure.value}`
  if (failure.test === 'repetitionCount') return `repetition count: ${value} came ${failure.count} times in a row`
  return `adaptive proportion: ${value} came ${failure.count} times in ${failure.window} samples, ${failure.cutoff} are too many`
}
