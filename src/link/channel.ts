/** The open link between two gateways, whichever side opened it. */
import type { LinkMessage } from './messages.js'

export interface LinkChannel {
  /** Queues a message; nothing where the channel has ended. */
  send(message: LinkMessage): void
  /** Ends the channel; `code` is a gRPC status code, shown to the other side where it can be. Idempotent. */
  close(code: number, reason: string): void
}

/** What a channel tells its owner. */
export interface ChannelListener {
  onMessage(message: LinkMessage): void
  /** Once, last. `code`: how the other side or the transport ended it; 0 for an orderly end. */
  onClosed(code: number, reason: string): void
}

/** Messages that wait for the transport; a peer that does not read is given up. */
const MAX_QUEUED = 10_000

/** Writes one message after the other; `write` resolves 'ended' once nothing can be written any more. */
export function createSendQueue(
  write: (message: LinkMessage) => Promise<'sent' | 'ended'>,
  onOverflow: () => void,
): { push(message: LinkMessage): void; close(): void; drained(): Promise<void> } {
  const queue: LinkMessage[] = []
  let running = false
  let closed = false
  let waiters: (() => void)[] = []
  const run = async (): Promise<void> => {
    running = true
    for (let message = queue.shift(); message !== undefined; message = queue.shift()) {
      if ((await write(message)) === 'ended') closed = true
      if (closed) queue.length = 0
    }
    running = false
    for (const waiter of waiters) waiter()
    waiters = []
  }
  return {
    push(message) {
      if (closed) return
      if (queue.length >= MAX_QUEUED) {
        closed = true
        onOverflow()
        return
      }
      queue.push(message)
      if (!running) void run()
    },
    close() {
      closed = true
    },
    drained: () => (running ? new Promise((resolve) => waiters.push(resolve)) : Promise.resolve()),
  }
}
