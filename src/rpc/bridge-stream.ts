import { type Metadata, status as Status } from '@grpc/grpc-js'
import { RpcError } from './rpc-error.js'

/** What became of a message: taken by the transport (which does not mean that the peer has it), or too late. */
export type WriteOutcome = 'sent' | 'ended'

type Listener = () => void

interface Emitter {
  on(event: string, listener: Listener): unknown
  off(event: string, listener: Listener): unknown
}

interface Source<T> extends Emitter {
  read(): T | null
  readonly readableEnded: boolean
  readonly destroyed: boolean
}

interface Sink<T> extends Emitter {
  write(message: T): boolean
  readonly writable: boolean
}

/** How a call ended. */
export interface CallStatus {
  readonly code: Status
  readonly details: string
  /** Trailing metadata. */
  readonly metadata: Metadata
}

/**
 * Yields the messages of a stream until its end. Messages handed over before a failure (up to 16 wait here) still come,
 * while the stream's own iterator would drop them; grpc-js itself drops those that wait behind them where the status is
 * not OK. Throws CANCELLED where the stream was torn down.
 *
 * Listens at once, not when the first message is asked for: grpc-js holds the sender back only after a first read, and
 * until then gathers messages without bound.
 */
export function readMessages<T>(stream: Source<T>): AsyncGenerator<T, void, undefined> {
  let wake: Listener | undefined
  const onEvent = (): void => wake?.()
  const events = ['readable', 'end', 'close']
  for (const event of events) stream.on(event, onEvent)
  return generate()

  async function* generate(): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        const message = stream.destroyed ? null : stream.read()
        if (message !== null) {
          yield message
        } else if (stream.readableEnded) {
          return
        } else if (stream.destroyed) {
          throw new RpcError(Status.CANCELLED, 'the call ended before its messages did')
        } else {
          await new Promise<void>((resolve) => (wake = resolve))
        }
      }
    } finally {
      for (const event of events) stream.off(event, onEvent)
    }
  }
}

/**
 * Writes one message and waits while the transport takes nothing more: `write` returns false after 16 messages of any
 * size. Never rejects. One write at a time for each stream. `endEvents` are those after which no `drain` comes.
 */
export async function writeMessage<T>(
  stream: Sink<T>,
  message: T,
  endEvents: readonly string[] = ['cancelled', 'close'],
): Promise<WriteOutcome> {
  if (!stream.writable) return 'ended'
  if (stream.write(message)) return 'sent'
  return new Promise((resolve) => {
    // Each listener takes the others away: else a long stream gathers them.
    const settle = (outcome: WriteOutcome): void => {
      stream.off('drain', onDrain)
      for (const event of endEvents) stream.off(event, onEnd)
      resolve(outcome)
    }
    const onDrain = (): void => settle('sent')
    const onEnd = (): void => settle('ended')
    stream.on('drain', onDrain)
    for (const event of endEvents) stream.on(event, onEnd)
  })
}
