/** The channel to the other gateway: its Hello first, then what the two say, with signs of life. */
import { status as Status } from '@grpc/grpc-js'
import type { Clock } from '../base/clock.js'
import type { Logger } from '../observe/log.js'
import type { Hello } from './agreement/state.js'
import type { ChannelListener, LinkChannel } from './channel.js'
import { greetingProblem } from './greeting.js'
import {
  byeMessage,
  type Greeting,
  helloMessage,
  type LinkMessage,
  MessageError,
  type PeerMessage,
  pingMessage,
  pongMessage,
  readMessage,
} from './messages.js'

export interface ConversationOptions {
  readonly greeting: Greeting
  /** Most ids in one message. */
  readonly maxIds: number
  /** Between two signs of life, ms; three of them missing end the channel. */
  readonly pingMs: number
  readonly clock: Clock
  readonly log: Logger
  /** A channel was taken over: our Hello is due. */
  readonly onConnected: () => void
  /** `hello.lineage` is the proof of it yet. */
  readonly onHello: (hello: Hello, incarnation: Uint8Array) => void
  /** Anything after the Hello. */
  readonly onMessage: (message: SaidMessage) => void
  /** The channel is gone; `code` and `reason` where the other side or the transport ended it. */
  readonly onGone: (ended: { readonly code: number; readonly reason: string } | undefined) => void
}

/** What can be said once both have greeted. */
export type SaidMessage = Exclude<PeerMessage, { readonly type: 'hello' | 'ping' | 'pong' }>

export class Conversation {
  #channel: LinkChannel | undefined
  #greeted = false
  #lastHeardMs = 0
  #lastPingMs = 0
  #pings = 0n
  #roundTripMs: number | undefined
  #mismatch: string | undefined

  constructor(private readonly options: ConversationOptions) {}

  get connected(): boolean {
    return this.#channel !== undefined
  }

  /** The other side's Hello is here and fits. */
  get greeted(): boolean {
    return this.#greeted
  }

  /** Monotonic ms of the last message from the other side. */
  get lastHeardMs(): number {
    return this.#lastHeardMs
  }

  /** Between the two gateways as last measured, ms; undefined before the first answered Ping. */
  get roundTripMs(): number | undefined {
    return this.#roundTripMs
  }

  /** Why the two ends cannot be a link, if that came out. */
  get mismatch(): string | undefined {
    return this.#mismatch
  }

  forgetMismatch(): void {
    this.#mismatch = undefined
  }

  /** Takes an open channel over; a former one is closed. */
  attach(channel: LinkChannel): ChannelListener {
    this.detach('another connection took its place')
    this.#channel = channel
    this.#lastHeardMs = this.options.clock.monotonicMs()
    this.#lastPingMs = this.#lastHeardMs
    this.options.onConnected()
    return {
      onMessage: (message) => {
        if (this.#channel === channel) this.#receive(message)
      },
      onClosed: (code, reason) => {
        if (this.#channel === channel) this.#gone({ code, reason })
      },
    }
  }

  /** Closes the channel in good order, if one is open. */
  detach(reason: string): void {
    const channel = this.#channel
    if (channel === undefined) return
    channel.send(byeMessage(reason))
    this.#gone(undefined)
    channel.close(Status.OK, reason)
  }

  /** The other side says what cannot be. */
  refuse(reason: string): void {
    this.options.log.warn({ reason }, 'the other gateway says what cannot be; the link is closed')
    this.#channel?.close(Status.INVALID_ARGUMENT, reason)
  }

  send(message: LinkMessage): void {
    this.#channel?.send(message)
  }

  sayHello(hello: Hello, incarnation: Uint8Array): void {
    this.send(helloMessage(this.options.greeting, hello, incarnation))
  }

  /** Asks for a sign of life now. */
  ping(): void {
    this.#pings += 1n
    this.#lastPingMs = this.options.clock.monotonicMs()
    this.send(pingMessage(this.#pings))
  }

  /** Asks where it is time to, and gives up a channel that is silent. */
  checkLife(): void {
    if (this.#channel === undefined) return
    const { clock, log, pingMs } = this.options
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#lastHeardMs > 3 * pingMs) {
      log.warn('the other gateway gives no sign of life; the link is closed')
      this.#channel.close(Status.DEADLINE_EXCEEDED, 'no sign of life')
    } else if (nowMs - this.#lastPingMs >= pingMs) this.ping()
  }

  #gone(ended: { readonly code: number; readonly reason: string } | undefined): void {
    this.#channel = undefined
    this.#greeted = false
    this.options.onGone(ended)
  }

  #receive(wire: LinkMessage): void {
    this.#lastHeardMs = this.options.clock.monotonicMs()
    let message: PeerMessage
    try {
      message = readMessage(wire, this.options.maxIds)
    } catch (error) {
      if (!(error instanceof MessageError)) throw error
      return this.refuse(error.message)
    }
    switch (message.type) {
      case 'hello':
        return this.#greet(message)
      case 'ping':
        return this.send(pongMessage(message.number))
      case 'pong':
        // Only the answer to the last Ping tells of the time that has passed since it.
        if (message.number === this.#pings) this.#roundTripMs = this.#lastHeardMs - this.#lastPingMs
        return
      default:
        if (this.#greeted) this.options.onMessage(message)
        else this.refuse(`${message.type}: said before Hello`)
    }
  }

  #greet({ greeting, hello, incarnation }: PeerMessage & { readonly type: 'hello' }): void {
    const problem = greetingProblem(this.options.greeting, greeting)
    if (problem !== undefined) {
      this.#mismatch = problem
      this.options.log.error({ problem }, 'the two ends of the link do not fit; nothing is delivered')
      this.#channel?.close(Status.FAILED_PRECONDITION, problem)
      return
    }
    this.#greeted = true
    this.options.onHello(hello, incarnation)
  }
}
