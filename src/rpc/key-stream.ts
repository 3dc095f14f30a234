import type { MessageShape } from '@bufbuild/protobuf'
import { create } from '@bufbuild/protobuf'
import { status as Status, type ServerWritableStream } from '@grpc/grpc-js'
import type { Logger } from '../observe/log.js'
import { rpcError, type HandlerContext } from './bridge.js'
import type { KeyStream } from './device-port.js'
import { RawKeysSchema, type LocalSettings, type RawKeys } from './gen/cqp/remote/device_pb.js'
import { callFacts } from './guard.js'

/** Most keys a message may hold. */
export const MAX_KEYS_A_MESSAGE = 10_000
/** A message is shorter than this: a SiteAgent ends its call for good over a longer one. */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024

type Call = ServerWritableStream<LocalSettings, RawKeys>

/** Length of a RawKeys message with these keys, bytes. */
export function rawKeysBytes(keys: readonly Uint8Array[]): number {
  return keys.reduce((sum, { length }) => sum + 1 + varintBytes(length) + length, 0)
}

function varintBytes(value: number): number {
  return value < 128 ? 1 : 1 + varintBytes(Math.floor(value / 128))
}

/**
 * The way of keys over one WaitForSession. `ended` settles when the stream is over and is what the handler returns:
 * it rejects with the status that `end` was given, unless that is OK.
 */
export function createKeyStream(
  context: HandlerContext<Call>,
  log: Logger,
): { readonly stream: KeyStream; readonly ended: Promise<void> } {
  const { call, signal } = context
  const { originator } = callFacts(call)
  let finish: ((error: Error | undefined) => void) | undefined
  const ended = new Promise<void>((resolve, reject) => {
    finish = (error) => {
      finish = undefined
      signal.removeEventListener('abort', onAbort)
      if (error === undefined) resolve()
      else reject(error)
    }
  })
  const onAbort = (): void => finish?.(undefined)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()

  const isOpen = (): boolean => finish !== undefined
  const end = (code: number, message: string): void =>
    finish?.(code === 0 ? undefined : rpcError(code in Status ? code : Status.UNKNOWN, message))

  /** Messages under way; later ones wait their turn. */
  let queue: Promise<unknown> = Promise.resolve()
  let waiting = 0

  const write = (message: MessageShape<typeof RawKeysSchema>): Promise<'sent' | 'ended'> =>
    new Promise((resolve) => {
      if (!isOpen() || !call.writable) return resolve('ended')
      const onEnd = (): void => settle('ended')
      const settle = (outcome: 'sent' | 'ended'): void => {
        signal.removeEventListener('abort', onEnd)
        call.off('close', onEnd)
        call.off('error', onEnd)
        resolve(outcome)
      }
      signal.addEventListener('abort', onEnd, { once: true })
      call.on('close', onEnd)
      call.on('error', onEnd)
      // Called once the frames are with the socket; `write` itself would take 16 messages of any size.
      call.write(message, (error: unknown) => settle(error === undefined || error === null ? 'sent' : 'ended'))
    })

  const stream: KeyStream = {
    originator,
    signal,
    get writable() {
      return isOpen() && waiting === 0 && call.writable && !call.writableNeedDrain
    },
    send(keys) {
      const bytes = rawKeysBytes(keys)
      if (keys.length > MAX_KEYS_A_MESSAGE || bytes >= MAX_MESSAGE_BYTES) {
        // The SiteAgent would end its call in silence; here it is at least said.
        log.error({ keys: keys.length, bytes }, 'a message of keys beyond the bounds of a SiteAgent was not sent')
        end(Status.INTERNAL, 'the gateway made a message that no SiteAgent takes')
        return Promise.resolve('ended')
      }
      waiting += 1
      const outcome = queue
        .then(() => write(create(RawKeysSchema, { keyData: [...keys] })))
        .finally(() => (waiting -= 1))
      queue = outcome
      return outcome
    },
    end,
  }
  return { stream, ended }
}
