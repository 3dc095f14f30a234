import { type Clock, sleep, withDeadline } from '../../src/base/clock.js'
import { codeOf } from '../../src/base/errors.js'
import type { Random } from '../../src/base/random.js'
import { wipe } from '../../src/base/wipe.js'
import type { DatagramPort, OpenDatagramPort } from '../../src/io/udp.js'
import {
  type ByteOrder,
  decodeResponse,
  encodeRequest,
  type KeyResponse,
  NEW_KEY,
  type ResponseError,
} from './protocol.js'

export interface KeyClientOptions {
  open: OpenDatagramPort
  host: string
  port: number
  order: ByteOrder
  deviceId: number
  keyLength: number
  /** How long an answer may take. */
  replyTimeoutMs: number
  /** Pause before the program is asked again after it had no key. */
  retryPauseMs: number
  clock: Clock
  random: Random
}

export type Fetched =
  | { outcome: 'key'; id: bigint; key: Uint8Array }
  /** `silent`: no answer at all, which is treated alike. */
  | { outcome: 'none'; error: ResponseError | 'silent' }
  /** An answer that another try would not change. */
  | { outcome: 'refused'; reason: string }

/** Tries for one key. */
const TRIES = 3

/** Asks the host program for keys, one question at a time. */
export class KeyClient {
  #port: DatagramPort | undefined
  #requestId: number
  #turn: Promise<unknown> = Promise.resolve()
  readonly #counts = { requests: 0, timeouts: 0, corrupt: 0, foreign: 0 }

  constructor(private readonly options: KeyClientOptions) {
    // Not from 0: a program that still answers an earlier run of ours must not be believed.
    this.#requestId = new DataView(Uint8Array.from(options.random.bytes(4)).buffer).getUint32(0)
  }

  facts(): Record<string, number> {
    return { ...this.#counts, strangers: this.#port?.strangers ?? 0 }
  }

  /** A new key, or the key of an id. Asks up to three times while there is none. Rejects when `signal` aborts. */
  async fetch(keyId: bigint, signal: AbortSignal): Promise<Fetched> {
    const { clock, retryPauseMs } = this.options
    for (let tries = 1; ; tries += 1) {
      const fetched = await this.#inTurn(() => this.#ask(keyId, signal))
      if (fetched.outcome !== 'none' || tries === TRIES) return fetched
      await sleep(clock, retryPauseMs, signal)
    }
  }

  async close(): Promise<void> {
    await this.#port?.close()
    this.#port = undefined
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work)
    this.#turn = result.catch(() => {})
    return result
  }

  async #ask(keyId: bigint, signal: AbortSignal): Promise<Fetched> {
    const { open, host, port, order, deviceId, keyLength, replyTimeoutMs, clock } = this.options
    this.#port ??= await open(host, port)
    const socket = this.#port
    this.#requestId = (this.#requestId + 1) >>> 0
    const requestId = this.#requestId
    this.#counts.requests += 1
    let response: KeyResponse
    try {
      response = await withDeadline(
        clock,
        replyTimeoutMs,
        `the host program at UDP ${host}:${port}`,
        (waiting) =>
          this.#answer(
            socket,
            requestId,
            () => socket.send(encodeRequest({ keyId, keyLength, requestId, deviceId }, order)),
            waiting,
          ),
        signal,
      )
    } catch (error) {
      if (codeOf(error) !== 'E_DEADLINE') throw error
      this.#counts.timeouts += 1
      return { outcome: 'none', error: 'silent' }
    }
    return judge(response, keyId, keyLength)
  }

  /** The first datagram that is whole and answers this very request. */
  #answer(
    socket: DatagramPort,
    requestId: number,
    send: () => Promise<void>,
    waiting: AbortSignal,
  ): Promise<KeyResponse> {
    return new Promise((resolve, reject) => {
      const unhear = socket.onDatagram((bytes) => {
        const decoded = decodeResponse(bytes, this.options.order)
        wipe(bytes)
        if (!decoded.ok) {
          this.#counts.corrupt += 1
        } else if (decoded.value.requestId !== requestId) {
          this.#counts.foreign += 1
          wipe(decoded.value.key)
        } else {
          unhear()
          resolve(decoded.value)
        }
      })
      waiting.addEventListener('abort', unhear, { once: true })
      send().catch(reject)
    })
  }
}

function judge(response: KeyResponse, keyId: bigint, keyLength: number): Fetched {
  const { error, keyId: id, key } = response
  const refuse = (reason: string): Fetched => {
    wipe(key)
    return { outcome: 'refused', reason }
  }
  switch (error) {
    case 'noMoreKeys':
      wipe(key)
      return { outcome: 'none', error }
    case 'keyIdDoesntExist':
      wipe(key)
      // The unit at this end may be a moment behind the other one.
      return keyId === NEW_KEY ? { outcome: 'refused', reason: error } : { outcome: 'none', error }
    case 'wrongKeyLength':
    case 'invalidKeyRequest':
      return refuse(error)
    case 'success':
      break
  }
  if (key.length !== keyLength) return refuse(`a key of ${key.length} bytes where ${keyLength} were asked for`)
  if (keyId !== NEW_KEY && id !== keyId) return refuse(`key ${id} where ${keyId} was asked for`)
  if (id === NEW_KEY) return refuse('a new key without an id')
  return { outcome: 'key', id, key }
}
