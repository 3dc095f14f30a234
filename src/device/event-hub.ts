import type { Unsubscribe } from '../base/cell.js'
import { messageOf } from '../base/errors.js'
import { wipe } from '../base/wipe.js'
import type { Logger } from '../observe/log.js'
import type { DeviceEvent } from './contract.js'

/** Hands a driver's events to whoever listens. */
export interface EventHub {
  subscribe(listener: (event: DeviceEvent) => void): Unsubscribe
  emit(event: DeviceEvent): void
}

/**
 * Every listener gets key bytes of its own, since it owns and wipes them; with no listener they are wiped here. A
 * listener that throws does not keep the others from being told.
 */
export function createEventHub(log: Logger): EventHub {
  const listeners = new Set<(event: DeviceEvent) => void>()
  return {
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    emit(event) {
      for (const listener of [...listeners]) {
        try {
          listener(event.type === 'key' ? { ...event, key: Uint8Array.from(event.key) } : event)
        } catch (error) {
          log.error({ event: event.type, reason: messageOf(error) }, 'a listener of device events failed')
        }
      }
      if (event.type === 'key') wipe(event.key)
    },
  }
}
