/** One reader thread of a Java SiteAgent: a WaitForSession whose keys are numbered from 1 and written over earlier ones. */
import type * as grpc from '@grpc/grpc-js'
import { javaIdProblem } from '../site/device-id.js'
import { serverStream, type ServerStreamCall } from '../rpc/bridge.js'
import { IDevice, type RawKeysSchema } from '../rpc/gen/cqp/remote/device_pb.js'
import { RpcError } from '../rpc/rpc-error.js'
import type { KeyTransferClient } from './key-transfer.js'
import { dial } from './wire.js'

/** The same at every site and session, and so no secret: 25 bytes of text. */
export const JAVA_INITIAL_KEY: Uint8Array = new TextEncoder().encode('not a secret initial key!')

/** Length of the keys that the original's files are made for. */
export const JAVA_KEY_BYTES = 32

/** The numbered keys of one peer, as the original keeps them in files: a later reader writes over an earlier one. */
export class JavaKeyFile {
  readonly #keys = new Map<number, Uint8Array>()
  #malformed = 0

  /** Keys by number, from 1, without gaps. */
  get keys(): readonly Uint8Array[] {
    return Array.from(this.#keys.values())
  }

  /** Keys of another length than 32 bytes: they shift whatever is read behind them. */
  get malformed(): number {
    return this.#malformed
  }

  write(number: number, key: Uint8Array): void {
    if (key.length !== JAVA_KEY_BYTES) this.#malformed += 1
    this.#keys.set(number, key)
  }
}

/** The address as the original reads it: what is before and after the first colon. Throws as it does. */
export function splitAtColon(address: string): string {
  const [host = '', port = ''] = address.split(':')
  if (!/^\d+$/.test(port)) throw new RpcError(2, '')
  return `${host}:${port}`
}

export interface JavaReaderOptions {
  readonly deviceId: string
  readonly address: string
  readonly file: JavaKeyFile
  readonly keyTransfer: KeyTransferClient | undefined
  readonly onKeys: (batch: number) => void
  readonly onEnded: (code: number, details: string) => void
  readonly onNote: (text: string) => void
}

export class JavaReader {
  readonly #client: grpc.Client
  readonly #cancel = new AbortController()
  /** Keys that came through this reader, in order. */
  readonly keys: Uint8Array[] = []
  #number = 0

  /** Starts at once. */
  constructor(private readonly options: JavaReaderOptions) {
    this.#client = dial(splitAtColon(options.address))
    const call = serverStream(
      this.#client,
      IDevice.method.waitForSession,
      { initialKey: JAVA_INITIAL_KEY },
      { deadlineMs: Infinity, signal: this.#cancel.signal },
    )
    void this.#read(call)
    void call.status.then(({ code, details }) => options.onEnded(code, details))
  }

  cut(): void {
    this.#cancel.abort()
  }

  close(): void {
    this.cut()
    this.#client.close()
  }

  async #read(call: ServerStreamCall<typeof RawKeysSchema>): Promise<void> {
    const { deviceId, file, keyTransfer, onKeys, onNote } = this.options
    const problem = javaIdProblem(deviceId)
    try {
      // Leaving the loop would hang up; a thread that is stuck or gone leaves the stream open and unread.
      for await (const { keyData } of call) {
        if (problem !== undefined) {
          onNote(`${problem}: the key is never acknowledged, the reader hangs`)
          await this.#untilCut()
          return
        }
        for (const key of keyData) {
          this.#number += 1
          try {
            await keyTransfer?.passOnce(key, BigInt(this.#number), deviceId)
          } catch {
            onNote('KeyTransfer failed: the reader ends, the stream stays open and unread')
            await this.#untilCut()
            return
          }
          file.write(this.#number, key)
          this.keys.push(key)
        }
        onKeys(keyData.length)
      }
    } catch (error) {
      // How the stream ended is told by its status.
      if (!(error instanceof RpcError)) throw error
    }
  }

  #untilCut(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#cancel.signal.aborted) return resolve()
      this.#cancel.signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }
}
