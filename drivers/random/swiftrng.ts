import { z } from 'zod'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import type { Driver, DriverContext } from '../../src/device/contract.js'
import { Dialogue } from '../../src/device/dialogue.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { type Conversation, SerialSession, type SessionHandle } from '../../src/device/serial-session.js'
import type { TestedPool } from '../../src/device/random-source.js'
import { swiftrng } from './descriptors.js'
import { createPool, createSourceDevice, failed, hashHalves, SIGN_OF_LIFE_MS, untilWanted } from './source-device.js'
import {
  BAUD,
  CONDITIONED_FROM,
  MODEL,
  parseVersion,
  RANDOM,
  replyReader,
  SERIAL_NUMBER,
  VERSION,
} from './swiftrng-protocol.js'

const REPLY_MS = 2_000
const TRIES = 15
const DRAIN_MS = 50
const LONGEST_DRAIN_MS = 1_000

const optionsSchema = z.strictObject({
  'silent-after-ms': wholeNumber(1_000, 3_600_000).prefault('60000'),
  'stable-folder': z.string().min(1).optional(),
})

class SwiftRngConversation implements Conversation {
  readonly #dialogue: Dialogue

  constructor(
    private readonly handle: SessionHandle,
    private readonly context: DriverContext,
    private readonly pool: TestedPool,
    private readonly conditioned: (yes: boolean) => void,
  ) {
    this.#dialogue = new Dialogue(handle.transport, context.clock, undefined, (ms) => handle.roundTrip(ms))
    pool.restart()
  }

  onData(chunk: Uint8Array): void {
    this.#dialogue.onData(chunk)
  }

  end(): void {
    this.#dialogue.end()
  }

  async run(signal: AbortSignal): Promise<void> {
    const text = (bytes: Uint8Array): string =>
      Buffer.from(bytes)
        .toString('latin1')
        .replace(/[^\x20-\x7e]/g, '')
    const versionReply = await this.#ask('version', VERSION, signal)
    const version = parseVersion(versionReply)
    if (version === undefined) {
      throw new GatewayError('E_DEVICE_PROTOCOL', `"${text(versionReply)}" is no version of a SwiftRNG`)
    }
    const model = text(await this.#ask('model', MODEL, signal))
    const serial = text(await this.#ask('serial number', SERIAL_NUMBER, signal))
    this.conditioned(version >= CONDITIONED_FROM)
    this.handle.identified(`${model} ${serial} V${version.toFixed(1)}`)
    while (!signal.aborted) {
      const wanted = await untilWanted(this.pool, RANDOM.bytes, this.context.clock, SIGN_OF_LIFE_MS, signal)
      if (signal.aborted) return
      if (wanted) this.pool.push(await this.#ask('random bytes', RANDOM, signal))
      else await this.#ask('version', VERSION, signal)
      if (this.pool.failure !== undefined) return failed(this.handle, this.pool.failure, this.context.clock, signal)
      this.handle.alive()
    }
  }

  async #ask(
    what: string,
    { command, bytes }: { command: Uint8Array; bytes: number },
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    for (let tries = 1; ; tries += 1) {
      await this.#dialogue.drain(DRAIN_MS, LONGEST_DRAIN_MS, signal)
      try {
        return await this.#dialogue.ask({ what, bytes: command, read: replyReader(bytes), timeoutMs: REPLY_MS }, signal)
      } catch (error) {
        if (signal.aborted || tries >= TRIES) throw error
        this.context.log.debug({ what, tries, reason: messageOf(error) }, 'asking the SwiftRNG again')
      }
    }
  }
}

function create(context: DriverContext): ReturnType<typeof createSourceDevice> {
  const { device, io, clock, random, log } = context
  const options = parseOptions('driver swiftrng', optionsSchema, context.options)
  let conditioned = false
  const pool = createPool({
    name: swiftrng.name,
    claimsQuantum: false,
    clock,
    log,
    condition: (raw) => (conditioned ? Uint8Array.from(raw) : hashHalves(raw)),
  })
  const stableFolder = options['stable-folder']
  const session = new SerialSession({
    path: device,
    settings: { baudRate: BAUD, dtr: true },
    io,
    clock,
    random,
    log,
    begin: (handle) => new SwiftRngConversation(handle, context, pool, (yes) => (conditioned = yes)),
    silentAfterMs: options['silent-after-ms'],
    ...(stableFolder === undefined ? {} : { stableFolder }),
  })
  return createSourceDevice(pool, session, log)
}

export const driver: Driver = { descriptor: swiftrng, create }
