/** The kit's classical board: four bytes at a time by infrared. */
import { sleep } from '../../src/base/clock.js'
import type { FaultDescription } from '../../src/device/emulator-contract.js'
import type { BoardContext, EmulatedBoard } from './emulated-board.js'
import { type Medium, openMedium } from './medium.js'
import { INFRARED_BYTES, infraredPrint } from './protocol.js'

const LONG_BLINK_MS = 40_000
const SHORT_BLINK_MS = 10_000
/** Lines of `BLINK!`; how many the board prints is not known. */
const BLINKS = 10

export class EmulatedClassicalBoard implements EmulatedBoard {
  readonly arguments = new Map<string, 'word' | number>([['SEND', INFRARED_BYTES]])
  readonly faults: readonly FaultDescription[] = [
    { name: 'lose', usage: '', meaning: 'the next four bytes do not leave the board' },
  ]
  readonly waiting = false
  #medium: Medium | undefined
  #listening: AbortController | undefined
  #lose = false
  readonly #counts = { messagesSent: 0, messagesReceived: 0 }

  constructor(
    private readonly context: BoardContext,
    private readonly air: string,
  ) {}

  async open(): Promise<void> {
    this.#medium = await openMedium(this.air)
  }

  async close(): Promise<void> {
    await this.#medium?.close()
  }

  facts(): Record<string, number | boolean> {
    return { ...this.#counts, listening: this.#listening !== undefined }
  }

  async fault(name: string): Promise<string | undefined> {
    if (name !== 'lose') return undefined
    this.#lose = true
    return 'the next four bytes are lost'
  }

  interrupt(character: string): boolean {
    if (this.#listening === undefined || character !== '#') return false
    this.#listening.abort()
    return true
  }

  async do(name: string, argument: string, signal: AbortSignal): Promise<void> {
    const { clock, speed } = this.context
    const answer = (text: string, end?: string): Promise<void> => this.context.answer(text, end)
    switch (name) {
      case '*IDN?':
        return answer('Classical')
      case 'SEND':
        return this.#send(argument)
      case 'RECV':
        return this.#receive(signal)
      case 'LEDON':
        return answer('LED ON!')
      case 'LEDOFF':
        return answer('LED OFF!')
      case 'SBLINK':
        await sleep(clock, LONG_BLINK_MS / speed, signal)
        return answer('Task done.')
      case 'RBLINK':
        for (let i = 0; i < BLINKS; i += 1) {
          await sleep(clock, SHORT_BLINK_MS / BLINKS / speed, signal)
          await answer('BLINK!')
        }
        return answer('Task done.')
      default:
        return answer('Unknown command', '\n')
    }
  }

  async #send(text: string): Promise<void> {
    // Too few bytes and then silence: what the board sends then is not known; this one sends nothing.
    if (text.length !== INFRARED_BYTES) return
    this.#counts.messagesSent += 1
    if (!this.#lose) await this.#medium?.shine(Uint8Array.from(Buffer.from(text, 'latin1')))
    this.#lose = false
  }

  async #receive(signal: AbortSignal): Promise<void> {
    const listening = new AbortController()
    this.#listening = listening
    let print = 'Listening interrupted!\r\n'
    try {
      const bytes = await this.#medium?.wait(AbortSignal.any([signal, listening.signal]))
      print = infraredPrint(bytes ?? new Uint8Array(INFRARED_BYTES))
      this.#counts.messagesReceived += 1
    } catch (error) {
      if (!listening.signal.aborted) throw error
    } finally {
      this.#listening = undefined
    }
    await this.context.answer(print, '')
  }
}
