import type { Clock, Timer } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import type { Random } from '../base/random.js'
import type { UsbPlug } from '../io/usb-memory.js'
import type { FaultDescription } from './emulator-contract.js'
import { changeOneByte, faultNumber } from './faulty-line.js'

/** The faults of any emulated device on a USB cable. A packet is one unit that it sends or takes. */
export const USB_FAULTS: readonly FaultDescription[] = [
  { name: 'drop', usage: '[packets=1]', meaning: 'the next packets are lost' },
  { name: 'delay', usage: '[ms=1000]', meaning: 'nothing goes on for so long; what is sent then comes at once' },
  { name: 'corrupt', usage: '[packets=1]', meaning: 'one byte of each of the next packets is changed' },
  { name: 'split', usage: '[packets=1]', meaning: 'of the next packets only the first half comes' },
  {
    name: 'unplug',
    usage: '[ms=2000] [now]',
    meaning: 'the USB cable is pulled in the middle of the next packet (or now) and put back; 0: not put back',
  },
  { name: 'plug', usage: '', meaning: 'the USB cable is put back' },
  { name: 'hang', usage: '[ms=5000]', meaning: 'the device sends, takes and answers nothing; 0: until resume' },
  { name: 'resume', usage: '', meaning: 'ends hang' },
  { name: 'stall', usage: '[requests=1]', meaning: 'the next control requests are refused' },
]

export interface FaultyUsbOptions {
  clock: Clock
  random: Random
  /** Asked when needed, since the plug is made with the device's functions. */
  plug: () => UsbPlug
}

const COUNTS = { packets: 0, withheld: 0, corrupted: 0, dropped: 0, delayed: 0, split: 0, unplugs: 0, stalled: 0 }

/** The device's end of a USB cable on which faults can be commanded. */
export class FaultyUsb {
  readonly #left = { drop: 0, corrupt: 0, split: 0, stall: 0 }
  #unplugMs: number | undefined
  /** Set while nothing goes on; resolves when it goes on. */
  #standstill: { over: Promise<void>; end: () => void; timer: Timer | undefined } | undefined
  #held: { endpoint: number; bytes: Uint8Array }[] | undefined
  #plugTimer: Timer | undefined
  readonly #counts = { ...COUNTS }

  constructor(private readonly options: FaultyUsbOptions) {}

  facts(): Record<string, number | boolean> {
    const plug = this.options.plug()
    return { ...this.#counts, plugged: plug.plugged, lostBytes: plug.lost }
  }

  /** The device sends a packet. */
  send(endpoint: number, packet: Uint8Array): void {
    const bytes = this.#through(packet)
    if (bytes === undefined) return
    if (this.#standstill === undefined) return this.options.plug().send(endpoint, bytes)
    this.#countStanding()
    this.#held?.push({ endpoint, bytes })
  }

  /** The host sent a packet: what of it the device takes, once it does. */
  async take(packet: Uint8Array): Promise<Uint8Array | undefined> {
    if (this.#standstill !== undefined) this.#countStanding()
    await this.#standstill?.over
    return this.#through(packet)
  }

  /** Whether the device answers the next control request, once it does. */
  async answers(): Promise<boolean> {
    await this.#standstill?.over
    if (this.#left.stall === 0) return true
    this.#left.stall -= 1
    this.#counts.stalled += 1
    return false
  }

  #countStanding(): void {
    this.#counts[this.#held === undefined ? 'withheld' : 'delayed'] += 1
  }

  #through(packet: Uint8Array): Uint8Array | undefined {
    const left = this.#left
    const bytes = Uint8Array.from(packet)
    this.#counts.packets += 1
    if (this.#unplugMs !== undefined) {
      const downMs = this.#unplugMs
      this.#unplugMs = undefined
      this.#pull(downMs)
      return undefined
    }
    if (left.drop > 0) {
      left.drop -= 1
      this.#counts.dropped += 1
      return undefined
    }
    if (left.corrupt > 0 && bytes.length > 0) {
      left.corrupt -= 1
      this.#counts.corrupted += 1
      changeOneByte(bytes, this.options.random)
    }
    if (left.split === 0) return bytes
    left.split -= 1
    this.#counts.split += 1
    return bytes.subarray(0, Math.ceil(bytes.length / 2))
  }

  #pull(downMs: number): void {
    const { clock, plug } = this.options
    this.#counts.unplugs += 1
    this.#plugTimer?.cancel()
    plug().unplug()
    if (downMs > 0) this.#plugTimer = clock.after(downMs, () => plug().plug())
  }

  #stand(ms: number, keep: boolean): void {
    this.#goOn()
    let end = (): void => {}
    const over = new Promise<void>((resolve) => (end = resolve))
    const timer = ms > 0 ? this.options.clock.after(ms, () => this.#goOn()) : undefined
    this.#held = keep ? [] : undefined
    this.#standstill = { over, end, timer }
  }

  #goOn(): void {
    const { plug } = this.options
    this.#standstill?.timer?.cancel()
    this.#standstill?.end()
    this.#standstill = undefined
    for (const { endpoint, bytes } of this.#held?.splice(0) ?? []) plug().send(endpoint, bytes)
  }

  /** Does what was commanded; undefined where the fault is not one of `USB_FAULTS`. Throws E_USAGE. */
  fault(name: string, args: readonly string[]): string | undefined {
    const number = (fallback: number): number => faultNumber(name, args[0], fallback)
    switch (name) {
      case 'drop':
      case 'corrupt':
      case 'split':
      case 'stall':
        this.#left[name] += number(1)
        return `${name}: the next ${this.#left[name]}`
      case 'delay':
        this.#stand(Math.max(1, number(1_000)), true)
        return `nothing for ${number(1_000)} ms, then all of it`
      case 'hang':
        this.#stand(number(5_000), false)
        return number(5_000) === 0 ? 'still until resume' : `still for ${number(5_000)} ms`
      case 'resume':
        this.#goOn()
        return 'goes on'
      case 'unplug': {
        const downMs = number(2_000)
        if (args[1] === 'now' || !this.options.plug().plugged || this.#standstill !== undefined) this.#pull(downMs)
        else this.#unplugMs = downMs
        return downMs === 0 ? 'unplugged until plug' : `unplugged for ${downMs} ms`
      }
      case 'plug':
        this.#plugTimer?.cancel()
        this.options.plug().plug()
        return 'plugged in'
      default:
        return undefined
    }
  }

  /** Takes back timers, and lets go of who waits. */
  stop(): void {
    this.#plugTimer?.cancel()
    this.#goOn()
  }
}

/** For emulators: E_USAGE for a fault that there is none of. */
export function noSuchFault(device: string, name: string, faults: readonly FaultDescription[]): GatewayError {
  return new GatewayError('E_USAGE', `the ${device} emulator has no fault named ${name}`, {
    remedy: `faults are: ${faults.map((fault) => fault.name).join(', ')}`,
  })
}
