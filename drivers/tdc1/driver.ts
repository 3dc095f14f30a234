import { withDeadline } from '../../src/base/clock.js'
import { messageOf } from '../../src/base/errors.js'
import type { Driver, DriverContext, TaggingDevice } from '../../src/device/contract.js'
import { createEmulatedDevice, emulatorOptions } from '../../src/device/emulated-device.js'
import { createEventHub } from '../../src/device/event-hub.js'
import { SerialSession } from '../../src/device/serial-session.js'
import { Tdc1Conversation, type Tdc1Shared } from './conversation.js'
import { descriptor } from './descriptor.js'
import { parseTdc1Options, serialSettings } from './options.js'

/** How long the end waits for the unit to stop tagging. */
const LEAVE_MS = 1_500

/** It tags from the start; a run that ends is followed by a gap. */
export function createTdc1Device(context: DriverContext): TaggingDevice {
  const { device, io, clock, random, log } = context
  const options = parseTdc1Options(context.options)
  const hub = createEventHub(log)
  const shared: Tdc1Shared = {
    options,
    clock,
    emit: (event) => hub.emit(event),
    tagging: true,
    startedMs: undefined,
    lastPs: 0n,
    counters: {
      runs: 0,
      events: 0,
      dummies: 0,
      wraps: 0,
      outOfOrder: 0,
      invalid: 0,
      slips: 0,
      overflows: 0,
      checks: 0,
      flushes: 0,
      statusMissing: 0,
    },
    roundTripMs: 0,
  }
  let conversation: Tdc1Conversation | undefined
  const session = new SerialSession({
    path: device,
    settings: serialSettings(),
    io,
    clock,
    random,
    log,
    begin: (handle) => {
      conversation = new Tdc1Conversation(handle, shared)
      return conversation
    },
    onReopened: (reason) => hub.emit({ type: 'gap', reason }),
    // A counting gate may be longer than what counts as silence while tagging.
    silentAfterMs: options.mode === 'timestamp' ? options.silentAfterMs : options.silentAfterMs + 2 * options.gateMs,
    ...(options.stableFolder === undefined ? {} : { stableFolder: options.stableFolder }),
    ...(options.remedies ? {} : { remedyPauseMs: undefined }),
  })
  return {
    state: session.state,
    facts: () => ({ ...session.facts(), mode: options.mode, roundTripMs: shared.roundTripMs, ...shared.counters }),
    subscribe: (listener) => hub.subscribe(listener),
    setTagging(on) {
      shared.tagging = on
    },
    async run(signal) {
      const ending = new AbortController()
      const leave = (): void => {
        const stopped = async (): Promise<void> => conversation?.leave()
        withDeadline(clock, LEAVE_MS, 'stop of tagging', stopped)
          .catch((error: unknown) => log.warn({ reason: messageOf(error) }, 'the unit was left tagging'))
          .finally(() => ending.abort())
      }
      if (signal.aborted) ending.abort()
      else signal.addEventListener('abort', leave, { once: true })
      try {
        await session.run(ending.signal)
      } finally {
        signal.removeEventListener('abort', leave)
      }
    },
  }
}

export const driver: Driver = {
  descriptor,
  create(context) {
    const emulated = emulatorOptions(context.device)
    if (emulated === undefined) return createTdc1Device(context)
    const load = async () => (await import('./emulator.js')).emulator
    return createEmulatedDevice(context, emulated, load, createTdc1Device)
  },
}
