import { type Clock, sleep, type Timer } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { DeviceLine } from '../io/contract.js'
import { readAtOtherRate } from '../io/line-rate.js'
import type { FaultDescription } from './emulator-contract.js'

/** The faults of any device that sends units (frames, records, answers) down a serial line. */
export const LINE_FAULTS: readonly FaultDescription[] = [
  { name: 'drop', usage: '[frames=1]', meaning: 'the next frames are not sent' },
  { name: 'delay', usage: '[ms=1000]', meaning: 'the next frame, and all after it, come so much later' },
  { name: 'corrupt', usage: '[frames=1]', meaning: 'one byte of each of the next frames is changed' },
  { name: 'split', usage: '[frames=1] [ms=100]', meaning: 'the next frames come in two halves with a pause between' },
  { name: 'repeat', usage: '[frames=1]', meaning: 'the next frames are sent twice' },
  { name: 'reorder', usage: '', meaning: 'the next two frames change places' },
  { name: 'garbage', usage: '[bytes=64]', meaning: 'random bytes before the next frame' },
  { name: 'text', usage: '[text=AT]', meaning: 'stray text and a carriage return before the next frame' },
  {
    name: 'unplug',
    usage: '[ms=2000] [now]',
    meaning: 'the cable is pulled in the middle of the next frame (or now) and put back; 0: not put back',
  },
  { name: 'plug', usage: '', meaning: 'the cable is put back' },
  { name: 'hang', usage: '[ms=5000]', meaning: 'the device says nothing; 0: until resume' },
  { name: 'resume', usage: '', meaning: 'ends hang' },
  { name: 'baud', usage: '<rate>', meaning: 'the device itself changes its line rate' },
]

/** Reads an argument of a fault as a whole number. Throws E_USAGE. */
export function faultNumber(fault: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new GatewayError('E_USAGE', `fault ${fault}: "${text}" is no whole number`)
}

/** One byte of `bytes`, which holds some, becomes another one. */
export function changeOneByte(bytes: Uint8Array, random: Random): void {
  const [place = 0, change = 0] = random.bytes(2)
  const at = place % bytes.length
  bytes[at] = (bytes[at] ?? 0) ^ (1 + (change % 255))
}

export interface FaultyLineOptions {
  line: DeviceLine
  clock: Clock
  random: Random
  /** The device's own line rate. */
  baudRate: number
}

/** How often the host's setting of the line rate is read anew. */
const RATE_LOOK_MS = 500

const COUNTS = {
  sent: 0,
  lost: 0,
  withheld: 0,
  corrupted: 0,
  dropped: 0,
  delayed: 0,
  split: 0,
  repeated: 0,
  unplugs: 0,
}

/** A line on which faults can be commanded. Units are sent one at a time, whole, unless a fault says otherwise. */
export class FaultyLine {
  #baudRate: number
  #hostRate: number | undefined
  #rateReadAtMs = -Infinity
  #readingRate = false
  #drop = 0
  #delayMs = 0
  #corrupt = 0
  #split = { units: 0, ms: 100 }
  #repeat = 0
  #reorder: 'no' | 'asked' | Uint8Array = 'no'
  #before: Uint8Array[] = []
  #unplugMs: number | undefined
  #hung = false
  #resumeTimer: Timer | undefined
  #plugTimer: Timer | undefined
  readonly #counts = { ...COUNTS }

  constructor(private readonly options: FaultyLineOptions) {
    this.#baudRate = options.baudRate
  }

  facts(): Record<string, number | boolean> {
    return { ...this.#counts, plugged: this.options.line.plugged, baud: this.#baudRate }
  }

  /** Sends one unit through the faults that are due. Resolves when it is out (or lost). */
  async send(unit: Uint8Array, signal: AbortSignal): Promise<void> {
    if (this.#hung || !this.options.line.plugged) {
      this.#counts.withheld += 1
      return
    }
    const delayMs = this.#delayMs
    this.#delayMs = 0
    if (delayMs > 0) {
      this.#counts.delayed += 1
      await sleep(this.options.clock, delayMs, signal)
    }
    for (const bytes of this.#before.splice(0)) await this.#put(bytes)
    if (this.#drop > 0) {
      this.#drop -= 1
      this.#counts.dropped += 1
      return
    }
    if (this.#reorder === 'asked') {
      this.#reorder = Uint8Array.from(unit)
      return
    }
    await this.#sendUnit(unit, signal)
    if (this.#reorder instanceof Uint8Array) {
      const held = this.#reorder
      this.#reorder = 'no'
      await this.#sendUnit(held, signal)
    }
  }

  async #sendUnit(unit: Uint8Array, signal: AbortSignal): Promise<void> {
    const bytes = Uint8Array.from(unit)
    const half = Math.floor(bytes.length / 2)
    if (this.#corrupt > 0) {
      this.#corrupt -= 1
      this.#counts.corrupted += 1
      changeOneByte(bytes, this.options.random)
    }
    if (this.#unplugMs !== undefined) {
      const downMs = this.#unplugMs
      this.#unplugMs = undefined
      await this.#put(bytes.subarray(0, half))
      return this.#pull(downMs)
    }
    if (this.#split.units > 0) {
      this.#split.units -= 1
      this.#counts.split += 1
      await this.#put(bytes.subarray(0, half))
      await sleep(this.options.clock, this.#split.ms, signal)
      await this.#put(bytes.subarray(half))
    } else {
      await this.#put(bytes)
    }
    this.#counts.sent += 1
    if (this.#repeat > 0) {
      this.#repeat -= 1
      this.#counts.repeated += 1
      await this.#put(bytes)
    }
  }

  async #put(bytes: Uint8Array): Promise<void> {
    this.#lookAtRate()
    const host = this.#hostRate ?? this.#baudRate
    const heard = readAtOtherRate(bytes, this.#baudRate, host)
    const sent = await this.options.line.send(heard)
    if (sent < heard.length) this.#counts.lost += 1
  }

  /** What the host sent as a receiver at the device's own rate reads it. */
  heard(chunk: Uint8Array): Uint8Array {
    this.#lookAtRate()
    const host = this.#hostRate ?? this.#baudRate
    return readAtOtherRate(chunk, host, this.#baudRate)
  }

  /** The rate that the host set, read now and then: a device at another rate is heard as nonsense. */
  #lookAtRate(): void {
    const { clock, line } = this.options
    if (this.#readingRate || clock.monotonicMs() - this.#rateReadAtMs < RATE_LOOK_MS) return
    this.#readingRate = true
    void line.lineRate().then((rate) => {
      this.#hostRate = rate
      this.#rateReadAtMs = clock.monotonicMs()
      this.#readingRate = false
    })
  }

  async #pull(downMs: number): Promise<void> {
    this.#counts.unplugs += 1
    this.#plugTimer?.cancel()
    await this.options.line.unplug()
    // Whoever opens the next port sets its rate anew.
    this.#hostRate = undefined
    this.#rateReadAtMs = -Infinity
    if (downMs > 0)
      this.#plugTimer = this.options.clock.after(downMs, () => void this.options.line.plug().catch(() => {}))
  }

  /** Does what was commanded; undefined where the fault is not one of `LINE_FAULTS`. Throws E_USAGE. */
  async fault(name: string, args: readonly string[]): Promise<string | undefined> {
    const number = (index: number, fallback: number): number => faultNumber(name, args[index], fallback)
    const { clock, line, random } = this.options
    switch (name) {
      case 'drop':
        this.#drop += number(0, 1)
        return `the next ${this.#drop} frames are not sent`
      case 'delay':
        this.#delayMs = number(0, 1_000)
        return `the next frame comes ${this.#delayMs} ms late`
      case 'corrupt':
        this.#corrupt += number(0, 1)
        return `the next ${this.#corrupt} frames are damaged`
      case 'split':
        this.#split = { units: number(0, 1), ms: number(1, 100) }
        return `the next ${this.#split.units} frames come in halves`
      case 'repeat':
        this.#repeat += number(0, 1)
        return `the next ${this.#repeat} frames come twice`
      case 'reorder':
        this.#reorder = 'asked'
        return 'the next two frames change places'
      case 'garbage': {
        const bytes = number(0, 64)
        this.#before.push(random.bytes(bytes))
        return `${bytes} random bytes before the next frame`
      }
      case 'text': {
        const text = args.length === 0 ? 'AT' : args.join(' ')
        this.#before.push(new TextEncoder().encode(`${text}\r`))
        return 'stray text before the next frame'
      }
      case 'unplug': {
        const downMs = number(0, 2_000)
        if (args[1] === 'now' || this.#hung || !line.plugged) await this.#pull(downMs)
        else this.#unplugMs = downMs
        return downMs === 0 ? 'unplugged until plug' : `unplugged for ${downMs} ms`
      }
      case 'plug':
        this.#plugTimer?.cancel()
        await line.plug()
        return 'plugged in'
      case 'hang': {
        const ms = number(0, 5_000)
        this.#hung = true
        this.#resumeTimer?.cancel()
        if (ms > 0) this.#resumeTimer = clock.after(ms, () => (this.#hung = false))
        return ms === 0 ? 'silent until resume' : `silent for ${ms} ms`
      }
      case 'resume':
        this.#resumeTimer?.cancel()
        this.#hung = false
        return 'speaks again'
      case 'baud': {
        const rate = number(0, 0)
        if (rate < 50) throw new GatewayError('E_USAGE', 'fault baud: name the rate, for example: baud 19200')
        this.#baudRate = rate
        return `the device works at ${rate} baud now`
      }
      default:
        return undefined
    }
  }

  /** Takes back timers. */
  stop(): void {
    this.#plugTimer?.cancel()
    this.#resumeTimer?.cancel()
  }
}
