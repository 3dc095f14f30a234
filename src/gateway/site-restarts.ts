/** Notices that the SiteAgent was restarted: its key store begins anew, which the link must know before it sends. */
import type { Unsubscribe } from '../base/cell.js'
import type { Site } from '../site/contract.js'

/**
 * Calls `onRestart` when the SiteAgent has forgotten a registration that nobody changed and its connection broke
 * meanwhile. Without the break somebody took the registration away by hand, and the store is the same.
 * `controlAddress`: what is to be registered now, host:port.
 */
export function followSiteRestarts(
  site: Pick<Site, 'state' | 'reporting'>,
  controlAddress: () => string | undefined,
  onRestart: () => void,
): Unsubscribe {
  let registeredAs: string | undefined
  let broken = false
  return site.state.subscribe((state) => {
    switch (state.state) {
      case 'registered':
        registeredAs = state.controlAddress
        broken = !state.confirmed
        return
      case 'failed':
        broken = true
        return
      case 'registering': {
        // Another address takes the place of an entry that is still there.
        const forgotten = state.anew !== true && registeredAs !== undefined && registeredAs === controlAddress()
        if (forgotten && (broken || !site.reporting())) onRestart()
        registeredAs = undefined
        return
      }
      case 'waiting':
      case 'needs-attention':
      case 'unregistered':
        return
    }
  })
}
