/** The SiteAgent's open WaitForSessions, as the session sees them: is anybody waiting, and has somebody gone for good? */
import type { Clock, Timer } from '../base/clock.js'
import type { KeyStream } from '../rpc/device-port.js'

export interface ListenersOptions {
  readonly clock: Clock
  /** How long one that ended may be followed by a new one before it counts as gone, ms. */
  readonly goneGraceMs: number
  /** Who takes keys now, the newest; undefined where nobody waits. */
  readonly onStream: (stream: KeyStream | undefined) => void
  readonly onChange: () => void
}

export class Listeners {
  readonly #streams = new Set<KeyStream>()
  #timer: Timer | undefined
  #had = false
  #gone = false

  constructor(private readonly options: ListenersOptions) {}

  get waiting(): boolean {
    return this.#streams.size > 0
  }

  /** One was open in this session, and none is. */
  get gone(): boolean {
    return this.#had && this.#gone
  }

  add(stream: KeyStream): void {
    const { onStream, onChange } = this.options
    this.#streams.add(stream)
    this.#had = true
    this.#gone = false
    this.#timer?.cancel()
    stream.signal.addEventListener('abort', () => this.#ended(stream), { once: true })
    onStream(stream)
    onChange()
  }

  /** A session begins or ends: what came before does not count. */
  reset(): void {
    this.#had = this.waiting
    this.#gone = false
  }

  endAll(code: number, reason: string): void {
    this.#timer?.cancel()
    for (const stream of [...this.#streams]) stream.end(code, reason)
  }

  #ended(stream: KeyStream): void {
    const { clock, goneGraceMs, onStream, onChange } = this.options
    this.#streams.delete(stream)
    onStream([...this.#streams].at(-1))
    if (!this.waiting) {
      this.#timer?.cancel()
      this.#timer = clock.after(goneGraceMs, () => {
        this.#gone = !this.waiting
        onChange()
      })
    }
    onChange()
  }
}
