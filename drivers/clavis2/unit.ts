import { withDeadline, type Clock } from '../../src/base/clock.js'
import { codeOf, GatewayError, messageOf } from '../../src/base/errors.js'
import type { Random } from '../../src/base/random.js'
import { wipe } from '../../src/base/wipe.js'
import type { DeviceEvent } from '../../src/device/contract.js'
import type { KeyOrdering, PairServices, PairSession } from '../../src/device/pair-contract.js'
import type { StartProgram } from '../../src/io/child.js'
import type { OpenDatagramPort } from '../../src/io/udp.js'
import type { Logger } from '../../src/observe/log.js'
import { HostProgram } from './host-program.js'
import { installInitialKey } from './install.js'
import { KeyClient } from './key-client.js'
import type { Clavis2Options } from './options.js'

/** Longest wait for the WaitForSession that brings the initial key, ms. */
const INITIAL_KEY_MS = 60_000
/** Longest wait of `quiesce`, ms. */
export const QUIESCE_MS = 2_500

export interface UnitContext {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly options: Clavis2Options
  readonly startProgram: StartProgram
  readonly openDatagramPort: OpenDatagramPort
  readonly emit: (event: DeviceEvent) => void
  /** A key came: the device produces. */
  readonly produced: () => void
}

/** One end of one session. */
export interface Role {
  readonly services: PairServices
  start(ordering: KeyOrdering): void
  quiesce(): Promise<void>
  end(): Promise<void>
  facts(): Record<string, string | number>
}

/** The unit of one session: the maker's program at work, and the way to its keys. */
export class Unit {
  readonly keys: KeyClient
  readonly ended = new AbortController()
  #program: HostProgram | undefined
  #running: Promise<void> = Promise.resolve()
  #initialKey = 'not given yet'
  #upstreamDiffers = false
  #upstreamPeer = false

  constructor(
    private readonly context: UnitContext,
    private readonly session: PairSession,
  ) {
    const { options, clock, random, openDatagramPort } = context
    this.keys = new KeyClient({
      open: openDatagramPort,
      host: options.keyHost,
      port: options.keyPort,
      order: options.byteOrder,
      deviceId: options.deviceId,
      keyLength: options.keyBytes,
      replyTimeoutMs: options.replyTimeoutMs,
      retryPauseMs: options.retryPauseMs,
      clock,
      random,
    })
  }

  facts(): Record<string, string | number> {
    return { initialKey: this.#initialKey, ...this.keys.facts(), ...this.#program?.facts() }
  }

  /** Waits for the initial key, writes it, runs the program until `end`. A failure ends the session. */
  launch(args: readonly string[], keysReady: () => void): void {
    this.#running = this.#launch(args, keysReady).catch((error: unknown) => {
      if (this.ended.signal.aborted) return
      this.session.fail(error instanceof Error ? error : new Error(String(error)))
    })
  }

  async #launch(args: readonly string[], keysReady: () => void): Promise<void> {
    const { clock, random, log, options, startProgram, emit } = this.context
    const initialKey = await withDeadline(
      clock,
      INITIAL_KEY_MS,
      'the WaitForSession that brings the initial key',
      (signal) => this.session.initialKey(signal),
      this.ended.signal,
    )
    try {
      const installed = await installInitialKey(initialKey, {
        file: options.installationFile,
        logFolder: options.logFolder,
        spelling: options.keySpelling ?? 'full',
        use: options.initialKey,
        random,
        log,
      })
      this.#upstreamDiffers = installed.upstreamDiffers
      this.#initialKey = installed.wellKnown
        ? 'well known: keys are NOT SECRET'
        : installed.written
          ? 'from the site'
          : 'as installed by hand'
    } finally {
      wipe(initialKey)
    }
    const refusal = this.#lookAtSpelling()
    if (refusal !== undefined) throw refusal
    this.#program = new HostProgram({
      start: startProgram,
      command: options.program,
      args,
      clock,
      random,
      log,
      emit,
      keysReady,
    })
    await this.#program.run(this.ended.signal)
  }

  /** Both ends have agreed on the session. */
  agreed(ordering: KeyOrdering): void {
    this.#upstreamPeer = ordering === 'byArrival'
    const refusal = this.#lookAtSpelling()
    if (refusal !== undefined) this.session.fail(refusal)
  }

  /**
   * Once it is known both that the peer is no gateway and that CQPToolkit's wrapper spells this key in another way: the
   * error that ends the session, or a word in the log where the spelling was chosen by name.
   */
  #lookAtSpelling(): GatewayError | undefined {
    if (!this.#upstreamPeer || !this.#upstreamDiffers) return undefined
    this.#upstreamDiffers = false
    const { log, options } = this.context
    if (options.keySpelling !== undefined) {
      log.warn(
        { file: options.installationFile, spelling: options.keySpelling },
        options.keySpelling === 'upstream'
          ? "the initial key is written without leading zeros, as CQPToolkit's wrapper writes it"
          : "the initial key is written in full, as was asked for: CQPToolkit's wrapper would write it without leading zeros",
      )
      return undefined
    }
    return new GatewayError(
      'E_LINK_MISMATCH',
      "this session's initial key has bytes below 10 hex, and CQPToolkit's wrapper writes such a key without their " +
        'leading zeros: if the other end is that wrapper, the two units begin with different keys ' +
        '(--driver-option key-spelling=upstream writes the key as it does, key-spelling=full says that the other end writes it whole)',
      { remedy: 'choose --driver-option key-spelling=upstream or key-spelling=full' },
    )
  }

  /** Hands a key out. */
  deliver(id: bigint, key: Uint8Array): void {
    this.context.emit({ type: 'key', id, key })
    this.context.produced()
  }

  /** Waits for what is under way, but not for long. */
  async settle(what: string, work: Promise<unknown>): Promise<void> {
    const { clock, log } = this.context
    await withDeadline(clock, QUIESCE_MS, what, () => work).catch((error: unknown) => {
      if (codeOf(error) === 'E_DEADLINE') log.warn({ reason: messageOf(error) }, 'given up at the end of the session')
    })
  }

  async end(): Promise<void> {
    this.ended.abort()
    await this.settle('the end of the host program', this.#running)
    await this.keys.close()
  }
}
