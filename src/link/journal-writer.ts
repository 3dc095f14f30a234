/** Writes what the agreement wants to outlive the process; what a batch waits for is tried until it is written. */
import { createBackoff } from '../base/backoff.js'
import { type Clock, sleep } from '../base/clock.js'
import { messageOf } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { Logger } from '../observe/log.js'
import type { DurableState } from './agreement/durable.js'
import type { JournalStore } from './journal.js'

export interface JournalWriterOptions {
  readonly journal: JournalStore
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export class JournalWriter {
  readonly #stopped = new AbortController()
  #problem: string | undefined
  /** The newest one: what is tried again must not be written over what came after it. */
  #latest: DurableState | undefined

  constructor(private readonly options: JournalWriterOptions) {}

  /** Why the record that a batch waits for is not written; undefined where none waits. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** A record that nothing waits for: the next one replaces it. Never rejects. */
  async note(state: DurableState): Promise<void> {
    const { clock, journal, log } = this.options
    this.#latest = state
    try {
      await journal.append({ atMs: clock.nowMs(), state }, false)
    } catch (error) {
      log.warn(
        { reason: messageOf(error) },
        'the journal of the link could not be written; the next batch waits for it',
      )
    }
  }

  /** Resolves true once the record is on the disk, false where the writer was stopped first. Never rejects. */
  async secure(state: DurableState): Promise<boolean> {
    const { clock, journal, log, random } = this.options
    this.#latest = state
    const backoff = createBackoff({ firstMs: 100, maxMs: 5_000 }, random)
    while (!this.#stopped.signal.aborted) {
      try {
        await journal.append({ atMs: clock.nowMs(), state: this.#latest }, true)
        this.#problem = undefined
        return true
      } catch (error) {
        const reason = messageOf(error)
        this.#problem = reason
        const pauseMs = backoff.nextMs()
        log.error({ reason, pauseMs }, 'the journal of the link cannot be written: a batch waits for it')
        await sleep(clock, pauseMs, this.#stopped.signal).catch(() => {})
      }
    }
    return false
  }

  async close(): Promise<void> {
    this.#stopped.abort()
    await this.options.journal.close()
  }
}
