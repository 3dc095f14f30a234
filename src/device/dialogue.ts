import { type Clock, sleep, withDeadline } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import type { ByteTransport } from '../io/contract.js'

/** What a reader found: the answer, and how many bytes of the buffer it used. Undefined: not whole yet. */
export type Reading<T> = { value: T; used: number } | undefined
/** Looks for an answer at the buffer's beginning. It may throw where what is there can never become one. */
export type Reader<T> = (buffer: Uint8Array) => Reading<T>

export interface Question<T> {
  /** For messages: "FIRM?". */
  what: string
  /** What to send; empty: only listen. */
  bytes: Uint8Array
  read: Reader<T>
  timeoutMs: number
  /** Called once the question has been written. */
  onSent?: () => void
}

const WRITE_MS = 2_000

/**
 * Question and answer over a byte line, one question at a time, in the order asked. Bytes that nobody asked for are
 * thrown away when the next question goes out, and counted. Used inside one opening of a port.
 */
export class Dialogue {
  #buffer = new Uint8Array(1_024)
  #length = 0
  #stray = 0
  #look: () => void = () => {}
  #lastByteMs: number
  #turn: Promise<unknown> = Promise.resolve()
  readonly #over = new AbortController()

  constructor(
    private readonly transport: Pick<ByteTransport, 'path' | 'write'>,
    private readonly clock: Clock,
    /** More than this in answer to one question is no answer. */
    private readonly mostBytes = 65_536,
    /** Told how long each answer took to be whole, from when its question had been written. */
    private readonly onRoundTrip: (durationMs: number) => void = () => {},
  ) {
    this.#lastByteMs = clock.monotonicMs()
  }

  /** Bytes that came without having been asked for. */
  get stray(): number {
    return this.#stray
  }

  /** Hand everything that comes over the line in here. */
  onData(chunk: Uint8Array): void {
    this.#lastByteMs = this.clock.monotonicMs()
    if (this.#length + chunk.length > this.mostBytes) this.#drop()
    const needed = this.#length + chunk.length
    if (needed > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(needed, this.#buffer.length * 2))
      larger.set(this.#buffer.subarray(0, this.#length))
      this.#buffer.fill(0)
      this.#buffer = larger
    }
    this.#buffer.set(chunk, this.#length)
    this.#length = needed
    this.#look()
  }

  /** The opening is over: whoever waits is told, what was read is wiped. */
  end(): void {
    this.#over.abort()
    this.#buffer.fill(0)
    this.#length = 0
  }

  /** Rejects with E_DEADLINE, E_CANCELLED, E_DEVICE_IO or what the reader throws. */
  ask<T>(question: Question<T>, signal: AbortSignal): Promise<T> {
    const result = this.#turn.then(() => this.#ask(question, AbortSignal.any([signal, this.#over.signal])))
    this.#turn = result.catch(() => {})
    return result
  }

  /** Sends without waiting for an answer. */
  async tell(bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const result = this.#turn.then(() =>
      this.transport.write(bytes, WRITE_MS, AbortSignal.any([signal, this.#over.signal])),
    )
    this.#turn = result.catch(() => {})
    await result
  }

  /** Reads and throws away until nothing came for `silenceMs`; gives up after `longestMs`. True: it is silent. */
  async drain(silenceMs: number, longestMs: number, signal: AbortSignal): Promise<boolean> {
    const { clock } = this
    const either = AbortSignal.any([signal, this.#over.signal])
    const untilMs = clock.monotonicMs() + longestMs
    this.#lastByteMs = clock.monotonicMs()
    for (;;) {
      const quietMs = clock.monotonicMs() - this.#lastByteMs
      if (quietMs >= silenceMs) break
      const leftMs = untilMs - clock.monotonicMs()
      if (leftMs <= 0) return false
      await sleep(clock, Math.min(silenceMs - quietMs, leftMs), either)
    }
    this.#drop()
    return true
  }

  #drop(): void {
    this.#stray += this.#length
    this.#buffer.fill(0, 0, this.#length)
    this.#length = 0
  }

  #ask<T>(question: Question<T>, signal: AbortSignal): Promise<T> {
    const { what, bytes, read, timeoutMs } = question
    this.#drop()
    const asking = withDeadline(
      this.clock,
      timeoutMs,
      `${this.transport.path}: ${what}`,
      async (waiting) => {
        let sentMs: number | undefined
        const answer = new Promise<T>((resolve, reject) => {
          const stop = (): void => {
            this.#look = () => {}
            reject(new GatewayError('E_CANCELLED', `${what}: stopped`))
          }
          this.#look = () => {
            let reading: Reading<T>
            try {
              reading = read(this.#buffer.subarray(0, this.#length))
            } catch (error) {
              this.#look = () => {}
              reject(error instanceof Error ? error : new Error(String(error)))
              return
            }
            if (reading === undefined) return
            this.#look = () => {}
            this.#take(reading.used)
            if (sentMs !== undefined) this.onRoundTrip(this.clock.monotonicMs() - sentMs)
            resolve(reading.value)
          }
          if (waiting.aborted) return stop()
          waiting.addEventListener('abort', stop, { once: true })
        })
        answer.catch(() => {})
        if (bytes.length > 0) await this.transport.write(bytes, Math.min(timeoutMs, WRITE_MS), waiting)
        if (bytes.length > 0) sentMs = this.clock.monotonicMs()
        question.onSent?.()
        this.#look()
        return answer
      },
      signal,
    )
    return asking.catch((error: unknown) => {
      throw this.#explained(error)
    })
  }

  /** Bytes that are neither an answer nor text are what a device at another line rate is heard as. */
  #explained(error: unknown): unknown {
    if (!(error instanceof GatewayError) || (error.code !== 'E_DEADLINE' && error.code !== 'E_DEVICE_PROTOCOL'))
      return error
    const heard = this.#buffer.subarray(0, this.#length)
    if (heard.length === 0 || heard.every((byte) => byte < 0x7f && (byte >= 0x20 || byte === 0x0a || byte === 0x0d)))
      return error
    const hint = `${heard.length} bytes came that are no answer: most likely the line rate is not right, or this is another device`
    return new GatewayError(error.code, `${error.message}; ${hint}`, { cause: error, details: error.details })
  }

  #take(used: number): void {
    this.#buffer.copyWithin(0, used, this.#length)
    this.#buffer.fill(0, this.#length - used, this.#length)
    this.#length -= used
  }
}

const decoder = new TextDecoder('latin1')

/** Reads `count` lines ending with LF, CR before it dropped; a line may not be longer than `longest` characters. */
export function linesReader(count: number, longest = 200): Reader<string[]> {
  return (buffer) => {
    const lines: string[] = []
    let from = 0
    while (lines.length < count) {
      const at = buffer.indexOf(0x0a, from)
      if (at === -1) {
        if (buffer.length - from > longest) {
          throw new GatewayError('E_DEVICE_PROTOCOL', `a line of more than ${longest} characters came for an answer`)
        }
        return undefined
      }
      lines.push(decoder.decode(buffer.subarray(from, at)).replace(/\r$/, ''))
      from = at + 1
    }
    return { value: lines, used: from }
  }
}

/** Reads one such line. */
export function lineReader(longest = 200): Reader<string> {
  const read = linesReader(1, longest)
  return (buffer) => {
    const reading = read(buffer)
    return reading === undefined ? undefined : { value: reading.value[0] ?? '', used: reading.used }
  }
}

/** Reads exactly `length` bytes, as a copy. */
export function bytesReader(length: number): Reader<Uint8Array> {
  return (buffer) =>
    buffer.length < length ? undefined : { value: Uint8Array.from(buffer.subarray(0, length)), used: length }
}

const encoder = new TextEncoder()

/** Text as bytes. */
export function ascii(text: string): Uint8Array {
  return encoder.encode(text)
}
