/** Keys towards the own SiteAgent without a word to the other side: the peer is a device that knows no agreement. */
import { wipe } from '../base/wipe.js'
import type { KeyStream } from '../rpc/device-port.js'
import type { Ledger } from './counts.js'

export interface UnagreedOptions {
  readonly keyBytes: number
  readonly maxHeldKeys: number
  /** Most keys in one message. */
  readonly maxKeys: number
  readonly ledger: Ledger
  /** A stream ended while these many keys were on their way: nobody tells whether the SiteAgent has them. */
  readonly onUncertain: (keys: number) => void
}

/**
 * Sends in the order of arrival; what arises while nobody waits comes out with the first message after, whoever the peer is
 * then: a C++ device at the other end has handed out its own of these already, so dropping them would part the two sites.
 */
export class UnagreedDelivery {
  #waiting: Uint8Array[] = []
  #inFlight = 0
  #stream: KeyStream | undefined
  #sending = false

  constructor(private readonly options: UnagreedOptions) {}

  get held(): number {
    return this.#waiting.length + this.#inFlight
  }

  /** Owns the keys from here. */
  deliver(keys: readonly Uint8Array[]): void {
    const { ledger, keyBytes, maxHeldKeys } = this.options
    ledger.receive(keys.length)
    for (const key of keys) {
      if (key.length === keyBytes) this.#waiting.push(key)
      else {
        ledger.drop('wrongLength', 1)
        wipe(key)
      }
    }
    const excess = this.#waiting.splice(0, Math.max(0, this.#waiting.length - maxHeldKeys))
    ledger.drop('overflow', excess.length)
    wipe(...excess)
    void this.#run()
  }

  /** The stream that takes keys from now on; undefined where nobody waits. */
  use(stream: KeyStream | undefined): void {
    this.#stream = stream
    void this.#run()
  }

  async #run(): Promise<void> {
    if (this.#sending) return
    this.#sending = true
    try {
      for (;;) {
        const stream = this.#stream
        if (stream === undefined || stream.signal.aborted || this.#waiting.length === 0) return
        const keys = this.#waiting.splice(0, this.options.maxKeys)
        this.#inFlight = keys.length
        const outcome = await stream.send(keys)
        this.#inFlight = 0
        if (outcome === 'sent') this.options.ledger.deliver(keys.length)
        // It may have been taken in: sending it once more could give a key out twice.
        else {
          this.options.ledger.drop('uncertain', keys.length)
          this.options.onUncertain(keys.length)
        }
        wipe(...keys)
      }
    } finally {
      this.#sending = false
    }
  }

  close(): void {
    this.#stream = undefined
    this.options.ledger.drop('stopped', this.#waiting.length)
    wipe(...this.#waiting)
    this.#waiting = []
  }
}
