/** The open WaitForSessions by name, and what is being sent on them. */
import type { KeyStream } from '../rpc/device-port.js'
import type { DeskBatch } from './desk.js'

/** A message that is not with the transport by then shows a SiteAgent that does not read. */
const STALLED_AFTER_MS = 1_000

export class KeyStreams {
  readonly #streams = new Map<string, KeyStream>()
  #counter = 0
  #sendingSinceMs: number | undefined

  /** `prefix`: makes names unique over restarts of the process, hexadecimal. */
  constructor(
    private readonly prefix: string,
    private readonly keyBytes: number,
  ) {}

  /** Names a stream. */
  add(stream: KeyStream): string {
    this.#counter += 1
    const name = `${this.prefix}${this.#counter.toString(16).padStart(8, '0')}`
    this.#streams.set(name, stream)
    return name
  }

  remove(name: string): void {
    this.#streams.delete(name)
  }

  end(name: string, code: number, reason: string): void {
    this.#streams.get(name)?.end(code, reason)
  }

  /** Sends a batch as one message; 'ended' where the stream is gone. Never rejects. */
  async send(name: string, batch: DeskBatch, nowMs: number): Promise<'sent' | 'ended'> {
    const stream = this.#streams.get(name)
    if (stream === undefined) return 'ended'
    const { keyBytes } = this
    const keys = Array.from(batch.ids, (_, index) => batch.keys.subarray(index * keyBytes, (index + 1) * keyBytes))
    this.#sendingSinceMs = nowMs
    const result = await stream.send(keys)
    if (this.#sendingSinceMs === nowMs) this.#sendingSinceMs = undefined
    return result
  }

  /** Sends a message without keys. */
  async ask(name: string, nowMs: number): Promise<void> {
    this.#sendingSinceMs = nowMs
    await this.#streams.get(name)?.send([])
    if (this.#sendingSinceMs === nowMs) this.#sendingSinceMs = undefined
  }

  /** Whether the SiteAgent reads; undefined where there is no such stream. */
  writable(name: string | undefined, nowMs: number): boolean | undefined {
    const stream = name === undefined ? undefined : this.#streams.get(name)
    if (stream === undefined) return undefined
    // A message on its way makes every stream unwritable for a moment; only what lasts is worth telling.
    const passing = this.#sendingSinceMs !== undefined && nowMs - this.#sendingSinceMs < STALLED_AFTER_MS
    return stream.writable || passing
  }
}
