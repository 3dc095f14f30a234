/** Which way the keys of a device go. */
import { wipe } from '../base/wipe.js'
import type { AgreedLink } from '../link/link.js'

export interface KeyRoute {
  /** Owns `key` from here. `id` is the device's own number. */
  take(id: bigint, key: Uint8Array): void
  stop(): void
}

/** What the route needs of the link. */
export type RoutedLink = Pick<AgreedLink, 'session' | 'offerKey' | 'deliverUnagreed'>

/**
 * To the agreement where the session's peer is a gateway; in the order of arrival to the own SiteAgent where it is
 * another device. What a device gives in one go travels in one message then, as an upstream device sends a block.
 *
 * `pair`: the device makes keys only by calls to its peer, so that what comes after a session still belongs to it.
 * Other devices give keys at any time; without a session these are held for the next agreement.
 */
export function createKeyRoute(link: RoutedLink, pair: boolean): KeyRoute {
  let byArrival = false
  let block: Uint8Array[] = []
  const stop = link.session.subscribe((session) => {
    if (session.state === 'started') byArrival = session.peerLink.peer === 'foreign'
    else if (!pair && session.state !== 'ending') byArrival = false
  })
  const flush = (): void => {
    const keys = block
    block = []
    if (keys.length > 0) link.deliverUnagreed(keys)
  }
  return {
    take(id, key) {
      if (!byArrival) {
        link.offerKey(id, key)
        return
      }
      if (block.length === 0) queueMicrotask(flush)
      block.push(key)
    },
    stop() {
      stop()
      wipe(...block)
      block = []
    },
  }
}
