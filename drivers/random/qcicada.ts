import { z } from 'zod'
import { sleep } from '../../src/base/clock.js'
import { GatewayError } from '../../src/base/errors.js'
import type { Driver, DriverContext } from '../../src/device/contract.js'
import { Dialogue, type Reader } from '../../src/device/dialogue.js'
import { parseOptions, wholeNumber } from '../../src/device/driver-options.js'
import { type Conversation, SerialSession, type SessionHandle } from '../../src/device/serial-session.js'
import type { TestedPool } from '../../src/device/random-source.js'
import { qcicada } from './descriptors.js'
import {
  BAUD,
  configurationReader,
  failuresIn,
  GET_CONFIGURATION,
  GET_INFO,
  GET_STATUS,
  infoReader,
  MOST_BYTES_A_READ,
  oneShotReader,
  type QcicadaStatus,
  startOneShot,
  statusReader,
  STOP,
} from './qcicada-protocol.js'
import { createPool, createSourceDevice, failed, hashHalves, SIGN_OF_LIFE_MS, untilWanted } from './source-device.js'

const REPLY_MS = 500
const MS_A_BYTE = 0.1
const SETTLE_MS = 500
const SILENCE_MS = 300
const LONGEST_DRAIN_MS = 5_000

const optionsSchema = z.strictObject({
  'silent-after-ms': wholeNumber(1_000, 3_600_000).prefault('60000'),
  'stable-folder': z.string().min(1).optional(),
})

class QcicadaConversation implements Conversation {
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
    const { clock } = this.context
    // It may still be streaming for a program before us.
    await this.#dialogue.tell(STOP, signal)
    await sleep(clock, SETTLE_MS, signal)
    if (!(await this.#dialogue.drain(SILENCE_MS, LONGEST_DRAIN_MS, signal))) {
      throw new GatewayError('E_DEVICE_PROTOCOL', 'the device goes on sending although it was told to stop')
    }
    const info = await this.#ask('information', GET_INFO, infoReader, signal)
    const { postProcessing } = await this.#ask('configuration', GET_CONFIGURATION, configurationReader, signal)
    this.conditioned(postProcessing === 'sha256')
    this.handle.identified(`QCicada ${info.serialNumber} (${info.hardware}, ${postProcessing})`)
    while (!signal.aborted) {
      const wanted = await untilWanted(this.pool, MOST_BYTES_A_READ, clock, SIGN_OF_LIFE_MS, signal)
      if (signal.aborted) return
      const status = wanted ? await this.#fetch(signal) : await this.#ask('status', GET_STATUS, statusReader, signal)
      const failures = failuresIn(status)
      if (failures.length > 0) this.#disown(`it reports ${failures.join(', ')}`)
      if (this.pool.failure !== undefined) return failed(this.handle, this.pool.failure, clock, signal)
      this.handle.alive()
    }
  }

  /** What the device itself finds wrong stops it as much as what we find. */
  #disown(reason: string): void {
    this.pool.reject(`${qcicada.name}: ${reason}`)
  }

  async #fetch(signal: AbortSignal): Promise<QcicadaStatus> {
    const { status, bytes } = await this.#dialogue.ask(
      {
        what: 'random bytes',
        bytes: startOneShot(MOST_BYTES_A_READ),
        read: oneShotReader(MOST_BYTES_A_READ),
        timeoutMs: REPLY_MS + MOST_BYTES_A_READ * MS_A_BYTE,
      },
      signal,
    )
    if (failuresIn(status).length > 0) bytes.fill(0)
    else this.pool.push(bytes)
    return status
  }

  #ask<T>(what: string, bytes: Uint8Array, read: Reader<T>, signal: AbortSignal): Promise<T> {
    return this.#dialogue.ask({ what, bytes, read, timeoutMs: REPLY_MS }, signal)
  }
}

function create(context: DriverContext): ReturnType<typeof createSourceDevice> {
  const { device, io, clock, random, log } = context
  const options = parseOptions('driver qcicada', optionsSchema, context.options)
  let conditioned = false
  const pool = createPool({
    name: qcicada.name,
    claimsQuantum: true,
    clock,
    log,
    condition: (raw) => (conditioned ? Uint8Array.from(raw) : hashHalves(raw)),
  })
  const stableFolder = options['stable-folder']
  const session = new SerialSession({
    path: device,
    settings: { baudRate: BAUD },
    io,
    clock,
    random,
    log,
    begin: (handle) => new QcicadaConversation(handle, context, pool, (yes) => (conditioned = yes)),
    silentAfterMs: options['silent-after-ms'],
    ...(stableFolder === undefined ? {} : { stableFolder }),
  })
  return createSourceDevice(pool, session, log)
}

export const driver: Driver = { descriptor: qcicada, create }
