import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { StateCell } from '../../src/base/cell.js'
import { sleep } from '../../src/base/clock.js'
import { GatewayError, messageOf } from '../../src/base/errors.js'
import type { Device, DeviceEvent, DeviceState, Driver, DriverContext } from '../../src/device/contract.js'
import type { TagReader } from '../../src/device/event-formats/batch.js'
import { DiscardTeller, EventQueue } from '../../src/device/event-formats/device-tags.js'
import { T2Reader } from '../../src/device/event-formats/epoch-tags.js'
import { openStream, type OpenedStream } from '../../src/device/event-formats/open-stream.js'
import { createEventHub, type EventHub } from '../../src/device/event-hub.js'
import { descriptor } from './descriptor.js'
import { readEpochBits, type EpochBits } from './epoch-bits.js'
import { inDriverOptions, parseReplayOptions, type ReplayOptions } from './options.js'

/** Detections are handed on in pieces of so much recorded time: a slow source's batch may last for hours. */
const SLICE_PS = 20_000_000_000n
const PS_PER_MS = 1e9
/** Read at a time: small, so that a long file does not wait in memory. */
const CHUNK_BYTES = 65_536

class ReplayDevice implements Device {
  readonly state: StateCell<DeviceState>
  readonly #hub: EventHub
  readonly #counters = { events: 0, dummies: 0, gaps: 0, rounds: 0 }
  #format = ''
  /** Recorded ps and monotonic ms that belong together. */
  #anchor: { ps: bigint; ms: number } | undefined
  #firstPs: bigint | undefined
  #lastPs = 0n

  constructor(
    private readonly context: DriverContext,
    private readonly options: ReplayOptions,
  ) {
    const { clock, log } = context
    this.#hub = createEventHub(log)
    this.state = new StateCell<DeviceState>({ state: 'absent', reason: 'not opened yet' }, clock, (error) =>
      log.error({ reason: messageOf(error) }, 'a listener of the device state failed'),
    )
  }

  facts(): Record<string, string | number | boolean> {
    return { path: this.context.device, format: this.#format, lastPs: this.#lastPs.toString(), ...this.#counters }
  }

  subscribe(listener: (event: DeviceEvent) => void): () => void {
    return this.#hub.subscribe(listener)
  }

  async run(signal: AbortSignal): Promise<void> {
    try {
      do {
        await this.#playOnce(signal)
      } while (this.options.loop && !signal.aborted)
      this.state.set({ state: 'absent', reason: `${this.context.device}: the recording is over` })
      await new Promise<void>((resolve) => {
        if (signal.aborted) return resolve()
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    } catch (error) {
      if (!signal.aborted) throw error
    } finally {
      this.state.set({ state: 'stopped' })
    }
  }

  async #playOnce(signal: AbortSignal): Promise<void> {
    const path = this.context.device
    this.state.set({ state: 'opening' })
    await requireFile(path)
    const bits = this.options.bits === undefined ? undefined : await readEpochBits(this.options.bits, signal)
    const file = createReadStream(path, { highWaterMark: CHUNK_BYTES })
    try {
      const stream = await openStream(file, {
        name: path,
        format: this.options.format,
        settings: this.options.settings,
        signal,
      })
      const opened = requireTags(stream, path)
      this.#format = opened.format
      const identity = `${path}: ${opened.format}`
      this.state.set({ state: 'identified', path, identity })
      if (this.#counters.rounds > 0) this.#emit({ type: 'gap', reason: 'the recording begins again' })
      this.#counters.rounds += 1
      // Times of a further round go on behind the last one.
      const queue = new EventQueue(
        opened,
        this.#firstPs === undefined ? 0n : this.#lastPs - this.#firstPs,
        bits?.patternOf,
      )
      this.#anchor = undefined
      const discards = new DiscardTeller((event) => this.#hub.emit(event))
      const dummiesBefore = this.#counters.dummies
      await stream.read(queue, undefined, async () => {
        requirePatterns(opened.reader, path, bits)
        discards.tell(opened.reader.tally)
        this.#counters.dummies = dummiesBefore + opened.reader.tally.dummies
        for (const event of queue.events.splice(0)) await this.#handOn(event, identity, signal)
      })
    } catch (error) {
      throw inDriverOptions(error)
    } finally {
      bits?.wipe()
      file.destroy()
    }
  }

  /** Hands an event on when its time has come. */
  async #handOn(event: DeviceEvent, identity: string, signal: AbortSignal): Promise<void> {
    const { speed } = this.options
    if (event.type !== 'tags') return this.#emit(event)
    const { timesPs, patterns } = event
    this.#firstPs ??= timesPs[0]
    if (this.state.value.state !== 'producing')
      this.state.set({ state: 'producing', path: this.context.device, identity })
    for (let from = 0; from < patterns.length;) {
      let until = patterns.length
      if (Number.isFinite(speed)) {
        const end = (timesPs[from] ?? 0n) + SLICE_PS
        until = firstAtOrBehind(timesPs, end, from)
        await this.#waitFor(timesPs[until - 1] ?? 0n, signal)
      }
      this.#emit({ type: 'tags', timesPs: timesPs.slice(from, until), patterns: patterns.slice(from, until) })
      this.#lastPs = timesPs[until - 1] ?? this.#lastPs
      from = until
    }
  }

  async #waitFor(ps: bigint, signal: AbortSignal): Promise<void> {
    const { clock } = this.context
    const anchor = (this.#anchor ??= { ps, ms: clock.monotonicMs() })
    const dueMs = anchor.ms + Number(ps - anchor.ps) / PS_PER_MS / this.options.speed
    const restMs = dueMs - clock.monotonicMs()
    if (restMs >= 1) await sleep(clock, restMs, signal)
  }

  #emit(event: DeviceEvent): void {
    if (event.type === 'tags') this.#counters.events += event.patterns.length
    if (event.type === 'gap') {
      this.#counters.gaps += 1
      // Behind a gap time may have begun anew.
      this.#anchor = undefined
    }
    this.#hub.emit(event)
  }
}

/** Index of the first time at or behind `ps`, at least one after `from`. */
function firstAtOrBehind(timesPs: BigUint64Array, ps: bigint, from: number): number {
  let low = from + 1
  let high = timesPs.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((timesPs[middle] ?? 0n) < ps) low = middle + 1
    else high = middle
  }
  return low
}

async function requireFile(path: string): Promise<void> {
  const found = await stat(path).catch((error: unknown) => messageOf(error))
  if (typeof found !== 'string' && !found.isDirectory()) return
  throw new GatewayError(
    'E_CONFIG',
    `${path}: ${typeof found === 'string' ? `no recording there (${found})` : 'it is a folder'}`,
    {
      remedy: 'name a recording: qkd-gw attach replay:FILE',
    },
  )
}

const REFUSED_REMEDY = 'play the events themselves (a0, a1, a1X, a2, a4, tdc1, t1, nox, qutag, cqp, labview)'

function requireTags(stream: OpenedStream, path: string): Extract<OpenedStream['opened'], { kind: 'tags' }> {
  const { opened } = stream
  if (opened.kind === 'tags') return opened
  throw new GatewayError('E_CONFIG', `${path}: a ${opened.format} file holds no detections that could be played`, {
    remedy: REFUSED_REMEDY,
  })
}

/**
 * T2 files of the service protocol name the detector that clicked: their base bits are the pattern. Those of BB84 do so
 * together with a file of bits.
 */
function requirePatterns(reader: TagReader, path: string, bits: EpochBits | undefined): void {
  const header = reader instanceof T2Reader ? reader.header : undefined
  if (bits !== undefined) {
    if (header !== undefined) return bits.requireFit(header, path)
    if (reader instanceof T2Reader) return
    throw new GatewayError('E_CONFIG', `${path}: bits belong to t2 files alone`, { remedy: 'leave "bits" away' })
  }
  if (header === undefined) return
  const [, baseBits = 0, protocol = 0] = header.fields
  if (baseBits === 4 && protocol === 0) return
  throw new GatewayError(
    'E_CONFIG',
    `${path}: a t2 file of protocol ${protocol} with ${baseBits} base bits holds times and bases; ` +
      'which detector clicked is not in it',
    {
      remedy:
        protocol === 1 && baseBits === 1
          ? 'name the T3 file of the same epoch and side with --driver-option bits=FILE'
          : REFUSED_REMEDY,
    },
  )
}

export const driver: Driver = {
  descriptor,
  create: (context) => new ReplayDevice(context, parseReplayOptions(context.options)),
}
