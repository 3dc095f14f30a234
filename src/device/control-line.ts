import type { Unsubscribe } from '../base/cell.js'
import type { Clock, Timer } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import type { DeviceLine } from '../io/contract.js'
import { readAtOtherRate } from '../io/line-rate.js'
import type { FaultDescription } from './emulator-contract.js'
import { faultNumber } from './faulty-line.js'

/** The faults of the serial line of a device that only listens there and speaks over USB. */
export const CONTROL_LINE_FAULTS: readonly FaultDescription[] = [
  { name: 'unplug-serial', usage: '[ms=2000]', meaning: 'the serial cable is pulled and put back; 0: not put back' },
  { name: 'plug-serial', usage: '', meaning: 'the serial cable is put back' },
  { name: 'baud', usage: '<rate>', meaning: 'the device itself changes its line rate' },
]

/** The serial line of a device that only listens there: what it hears depends on the rate that the host set. */
export class ControlLine {
  #timer: Timer | undefined
  #hearing: Promise<void> = Promise.resolve()
  #baudRate: number

  constructor(
    private readonly line: DeviceLine,
    private readonly clock: Clock,
    baudRate: number,
  ) {
    this.#baudRate = baudRate
  }

  facts(): Record<string, number | boolean> {
    return { serialPlugged: this.line.plugged, baud: this.#baudRate }
  }

  /** Calls with each chunk as a receiver at the device's rate reads it, in order. */
  onHeard(listener: (chunk: Uint8Array) => void): Unsubscribe {
    return this.line.onData((chunk) => {
      // In turn: looking at the host's rate takes a moment.
      this.#hearing = this.#hearing.then(async () => {
        const rate = (await this.line.lineRate()) ?? this.#baudRate
        listener(readAtOtherRate(chunk, rate, this.#baudRate))
      })
    })
  }

  /** Resolves once all that has come is heard. */
  settled(): Promise<void> {
    return this.#hearing
  }

  /** Does what was commanded; undefined where the fault is not one of `CONTROL_LINE_FAULTS`. Throws E_USAGE. */
  async fault(name: string, args: readonly string[]): Promise<string | undefined> {
    switch (name) {
      case 'unplug-serial': {
        const downMs = faultNumber(name, args[0], 2_000)
        this.#timer?.cancel()
        await this.line.unplug()
        if (downMs > 0) this.#timer = this.clock.after(downMs, () => void this.line.plug().catch(() => {}))
        return downMs === 0 ? 'the serial cable is pulled' : `the serial cable is pulled for ${downMs} ms`
      }
      case 'plug-serial':
        this.#timer?.cancel()
        await this.line.plug()
        return 'the serial cable is put back'
      case 'baud': {
        const rate = faultNumber(name, args[0], 0)
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
    this.#timer?.cancel()
  }
}
