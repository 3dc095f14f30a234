import type { Device, Driver, DriverContext } from '../../src/device/contract.js'
import { createEmulatedDevice, emulatorOptions } from '../../src/device/emulated-device.js'
import { createEventHub, type EventHub } from '../../src/device/event-hub.js'
import { type Conversation, SerialSession, type SessionHandle } from '../../src/device/serial-session.js'
import { wipe } from '../../src/base/wipe.js'
import { descriptor } from './descriptor.js'
import { IdWatch } from './numbering.js'
import { parseQixOptions, serialSettings } from './options.js'
import { FRAME_BYTES, QixDecoder, type QixFrame, STATUS_OK } from './protocol.js'

/** Nonsense for so many bytes is no accident of beginning in mid-frame. */
const NONSENSE_BYTES = 4 * FRAME_BYTES

interface Counters {
  frames: number
  keys: number
  corrupt: number
  compromised: number
  repeated: number
  late: number
  restarts: number
  skippedBytes: number
}

/** Share of printable ASCII in a chunk, 0 to 1. */
function printableShare(chunk: Uint8Array): number {
  let printable = 0
  for (const byte of chunk) if ((byte >= 0x20 && byte < 0x7f) || byte === 0x0a || byte === 0x0d) printable += 1
  return chunk.length === 0 ? 0 : printable / chunk.length
}

/** One opening of the port: bytes to frames, frames to events. */
class QixConversation implements Conversation {
  readonly #decoder = new QixDecoder()
  /** Bytes since the last good frame, and since that frame suspected frames and skipped bytes. */
  #bytesSinceFrame = 0
  #badSinceFrame = 0
  #skippedSinceFrame = 0
  #framesSeen = false

  constructor(
    private readonly handle: SessionHandle,
    private readonly baud: number,
    private readonly ids: IdWatch,
    private readonly counters: Counters,
    private readonly hub: EventHub,
  ) {}

  onData(chunk: Uint8Array): void {
    this.#bytesSinceFrame += chunk.length
    for (const item of this.#decoder.push(chunk)) {
      switch (item.type) {
        case 'frame':
          this.#onFrame(item.frame)
          break
        case 'badCrc':
          this.#badSinceFrame += 1
          break
        case 'skipped':
          this.counters.skippedBytes += item.bytes
          this.#skippedSinceFrame += item.bytes
          break
      }
    }
    if (this.#bytesSinceFrame >= NONSENSE_BYTES) this.handle.doubt(this.#doubt(chunk))
    wipe(chunk)
  }

  end(): void {
    if (this.#framesSeen && this.#badSinceFrame > 0) this.#discard('corrupt', this.#badSinceFrame)
    this.#decoder.reset()
  }

  #doubt(chunk: Uint8Array): string {
    const hint =
      printableShare(chunk) > 0.9
        ? 'it looks like text: another device, or a program that speaks to this port (ModemManager?)'
        : `most likely the line rate is not ${this.baud} baud (see --baud), or this is another device`
    return `bytes arrive, but no QIX frame among the last ${NONSENSE_BYTES} and more: ${hint}`
  }

  #discard(reason: 'corrupt' | 'compromised' | 'repeated' | 'outOfOrder', count: number, id?: bigint): void {
    const counter = reason === 'outOfOrder' ? 'late' : reason
    this.counters[counter] += count
    this.hub.emit({ type: 'discarded', reason, count, ...(id === undefined ? {} : { id }) })
  }

  #onFrame({ id, key, status }: QixFrame): void {
    // Damaged frames leave their bytes, whether or not they still look like frames; where other bytes came as well,
    // those that look so are counted. Before the first good frame it was the middle of one, or another language.
    const skippedFrames = this.#skippedSinceFrame / FRAME_BYTES
    const lost = Number.isInteger(skippedFrames) ? skippedFrames : this.#badSinceFrame
    if (this.#framesSeen && lost > 0) this.#discard('corrupt', lost)
    this.#framesSeen = true
    this.#bytesSinceFrame = 0
    this.#badSinceFrame = 0
    this.#skippedSinceFrame = 0
    this.counters.frames += 1
    this.handle.doubt(undefined)
    this.handle.alive()

    const numbering = this.ids.note(id, key)
    if (numbering === 'restarted') {
      this.counters.restarts += 1
      this.hub.emit({ type: 'renumbered', reason: `the unit went back to id ${id}` })
    }
    if (numbering === 'repeated' || numbering === 'late') {
      wipe(key)
      return this.#discard(numbering === 'late' ? 'outOfOrder' : 'repeated', 1, id)
    }
    if (status !== STATUS_OK) {
      wipe(key)
      return this.#discard('compromised', 1, id)
    }
    this.counters.keys += 1
    this.hub.emit({ type: 'key', id, key })
  }
}

function createQixDevice(context: DriverContext): Device {
  const { device, io, clock, random, log } = context
  const options = parseQixOptions(context.options)
  const { baud } = options
  const hub = createEventHub(log)
  const counters: Counters = {
    frames: 0,
    keys: 0,
    corrupt: 0,
    compromised: 0,
    repeated: 0,
    late: 0,
    restarts: 0,
    skippedBytes: 0,
  }
  const ids = new IdWatch()
  const session = new SerialSession({
    path: device,
    settings: serialSettings(context.options),
    io,
    clock,
    random,
    log,
    begin: (handle) => new QixConversation(handle, baud, ids, counters, hub),
    onReopened: (reason) => hub.emit({ type: 'gap', reason }),
    silentAfterMs: options['silent-after-ms'],
    ...(options['stable-folder'] === undefined ? {} : { stableFolder: options['stable-folder'] }),
    ...(options.remedies ? {} : { remedyPauseMs: undefined }),
  })
  return {
    state: session.state,
    facts: () => ({ ...session.facts(), baud, ...counters }),
    subscribe: (listener) => hub.subscribe(listener),
    run: (signal) => session.run(signal),
  }
}

export const driver: Driver = {
  descriptor,
  create(context) {
    const emulated = emulatorOptions(context.device)
    if (emulated === undefined) return createQixDevice(context)
    const load = async () => (await import('./emulator.js')).emulator
    return createEmulatedDevice(context, emulated, load, createQixDevice)
  },
}
