import type { Clock } from '../../src/base/clock.js'
import { sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import { Dialogue, lineReader } from '../../src/device/dialogue.js'
import type { SessionHandle } from '../../src/device/serial-session.js'
import { BOOT_MS, command, polarisationSequence, readingsReader, RUN_MS } from './protocol.js'

const ANSWER_MS = 2_000
/** Longest run: the run itself, two moves of the motor, and a margin. */
const LONGEST_RUN_MS = RUN_MS + 8_000
/** How long Bob's board may wait for the first light, ms; then it is reset. */
const LIGHT_MS = 30_000

/** The kit's quantum board in one opening of its port. */
export class QuantumBoard {
  readonly #dialogue: Dialogue

  constructor(
    handle: SessionHandle,
    private readonly clock: Clock,
    /** Lasts as long as the opening: what the board does cannot be cancelled by anything less. */
    private readonly signal: AbortSignal,
    /** Times are divided by this; 1 but for emulators that run faster. */
    private readonly speed: number,
  ) {
    this.#dialogue = new Dialogue(handle.transport, clock)
  }

  onData(chunk: Uint8Array): void {
    this.#dialogue.onData(chunk)
  }

  end(): void {
    this.#dialogue.end()
  }

  get stray(): number {
    return this.#dialogue.stray
  }

  /** Waits for the board to be up, asks who it is and for its threshold. */
  async begin(): Promise<{ threshold: number }> {
    await sleep(this.clock, BOOT_MS / this.speed, this.signal)
    const name = await this.#ask('*IDN?', ANSWER_MS)
    if (name !== 'Quantum') {
      throw new GatewayError('E_DEVICE_PROTOCOL', `the board says it is "${name.slice(0, 40)}", not "Quantum"`, {
        remedy: "give the port of the kit's quantum board; Classical and QuantumEve are other boards",
      })
    }
    const threshold = await this.#ask('TH?', ANSWER_MS)
    if (!/^\d{1,4}$/.test(threshold)) {
      throw new GatewayError('E_DEVICE_PROTOCOL', `the board's threshold is "${threshold.slice(0, 40)}"`)
    }
    return { threshold: Number(threshold) }
  }

  /** A sign of life that changes nothing. */
  async ping(): Promise<void> {
    await this.#ask('*IDN?', ANSWER_MS)
  }

  async setSequence(digits: Uint8Array): Promise<void> {
    const answer = await this.#dialogue.ask(
      { what: 'POLSEQ', bytes: polarisationSequence(digits), read: lineReader(), timeoutMs: ANSWER_MS },
      this.signal,
    )
    this.#expectOk('POLSEQ', answer)
  }

  /** Shows the sequence. Resolves when it is over. */
  async transmit(): Promise<void> {
    this.#expectOk('TXSEQ', await this.#ask('TXSEQ', LONGEST_RUN_MS))
  }

  /** Waits for light and reads the photodiode at each of the 16 pulses. `onWaiting`: the light may come now. */
  receive(onWaiting: () => void): Promise<number[]> {
    return this.#dialogue.ask(
      {
        what: 'RXSEQ',
        bytes: command('RXSEQ'),
        read: readingsReader,
        timeoutMs: LIGHT_MS + LONGEST_RUN_MS,
        onSent: onWaiting,
      },
      this.signal,
    )
  }

  #ask(text: string, timeoutMs: number): Promise<string> {
    return this.#dialogue.ask({ what: text, bytes: command(text), read: lineReader(), timeoutMs }, this.signal)
  }

  #expectOk(what: string, answer: string): void {
    if (answer !== 'OK') throw new GatewayError('E_DEVICE_PROTOCOL', `${what}: "${answer.slice(0, 60)}" instead of OK`)
  }
}
