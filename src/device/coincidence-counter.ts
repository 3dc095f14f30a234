/** What drivers of coincidence counters share: counts and the visibility they show, for alignment and never for key. */
import type { Device, DriverContext } from './contract.js'
import { createEventHub } from './event-hub.js'
import { type Conversation, SerialSession, type SessionHandle } from './serial-session.js'
import { createVisibility } from './visibility.js'

/** Takes what was counted while a port is open. */
export interface Counts {
  /** One count of one input. */
  single(counter: string, count: number): void
  /** One count of the coincidences from which the visibility is made. */
  coincidences(counter: string, count: number): void
  /** A setting of the unit that status shows. */
  setting(name: string, value: number): void
}

export interface CounterDeviceOptions {
  readonly baudRate: number
  readonly silentAfterMs: number
  readonly visibilitySamples: number
  readonly stableFolder: string | undefined
  /** Begins to speak to the unit at each opening of the port. */
  begin(handle: SessionHandle, counts: Counts): Conversation
}

export function createCounterDevice(context: DriverContext, options: CounterDeviceOptions): Device {
  const { device, io, clock, random, log } = context
  const { baudRate, silentAfterMs, visibilitySamples, stableFolder } = options
  const hub = createEventHub(log)
  const latest = new Map<string, number>()

  /** Counts of two openings do not make one visibility. */
  function newCounts(): Counts {
    const visibility = createVisibility(visibilitySamples)
    const single = (counter: string, value: number): void => {
      latest.set(counter, value)
      hub.emit({ type: 'figure', path: ['Counter', counter], value, unit: 'count' })
    }
    return {
      single,
      coincidences(counter, count) {
        single(counter, count)
        const percent = visibility.push(count)
        if (percent === undefined) return
        latest.set('visibilityPercent', percent)
        hub.emit({ type: 'figure', path: ['Alignment', 'Visibility'], value: percent, unit: 'percent' })
      },
      setting: (name, value) => void latest.set(name, value),
    }
  }

  const session = new SerialSession({
    path: device,
    settings: { baudRate },
    io,
    clock,
    random,
    log,
    begin: (handle) => options.begin(handle, newCounts()),
    silentAfterMs,
    ...(stableFolder === undefined ? {} : { stableFolder }),
  })
  return {
    state: session.state,
    facts: () => ({ ...session.facts(), ...Object.fromEntries(latest) }),
    subscribe: (listener) => hub.subscribe(listener),
    run: (signal) => session.run(signal),
  }
}
