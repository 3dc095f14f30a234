import type { Duplex } from 'node:stream'
import type { Clock, Timer } from '../base/clock.js'
import type { Originator } from './device-port.js'

export interface ConnectionBounds {
  /** Connections in all; the share that strangers may hold. */
  readonly total: number
  readonly strangers: number
  /** A stranger's connection on which nothing was answered for so long is closed. */
  readonly strangerIdleMs: number
}

export const DEFAULT_CONNECTION_BOUNDS: ConnectionBounds = { total: 256, strangers: 96, strangerIdleMs: 60_000 }

/** One connection to the server, whichever way it came. */
export interface Connection {
  /** As the connection itself tells; a certificate is known once its handshake is done. */
  originator: Originator
  /** May do more than anyone. */
  known: boolean
  readonly stream: Duplex
  openStreams: number
  /** Monotonic ms of the last answer, or of its beginning. */
  lastUseMs: number
}

export interface ConnectionCounts {
  readonly open: number
  readonly strangers: number
  /** Since the start: taken in, closed to make room for others, turned away. */
  readonly accepted: number
  readonly evicted: number
  readonly refused: number
}

export interface Connections {
  /** Takes a connection in, at the cost of another one if there are too many; undefined if there is no room. */
  admit(stream: Duplex, originator: Originator, known: boolean): Connection | undefined
  counts(): ConnectionCounts
  destroyAll(): void
}

/**
 * Bounds connections so that a crowd of strangers cannot keep the SiteAgent or the peer out: whoever is new comes in,
 * and the address that holds most gives up its oldest connection.
 */
export function createConnections(bounds: ConnectionBounds, clock: Clock): Connections {
  const open = new Set<Connection>()
  const counts = { accepted: 0, evicted: 0, refused: 0 }
  let sweep: Timer | undefined

  const strangers = (): Connection[] => [...open].filter((connection) => !connection.known)

  const evict = (connection: Connection): void => {
    counts.evicted += 1
    open.delete(connection)
    connection.stream.destroy()
  }

  const makeRoom = (known: boolean): boolean => {
    const others = strangers()
    if (!known && others.length >= bounds.strangers) {
      const victim = oldestOfBusiest(others)
      if (victim !== undefined) evict(victim)
      return true
    }
    if (open.size < bounds.total) return true
    const idle = [...open].filter((connection) => connection.known && connection.openStreams === 0)
    const victim = oldestOfBusiest(others) ?? (known ? oldestOfBusiest(idle) : undefined)
    if (victim === undefined) return false
    evict(victim)
    return true
  }

  const scheduleSweep = (): void => {
    sweep ??= clock.after(bounds.strangerIdleMs / 4, () => {
      sweep = undefined
      const limitMs = clock.monotonicMs() - bounds.strangerIdleMs
      for (const connection of strangers()) if (connection.lastUseMs < limitMs) evict(connection)
      if (strangers().length > 0) scheduleSweep()
    })
  }

  return {
    admit(stream, originator, known) {
      // A connection that has failed while it was handed over must not stay in the books.
      if (stream.destroyed) return undefined
      if (!makeRoom(known)) {
        counts.refused += 1
        stream.destroy()
        return undefined
      }
      counts.accepted += 1
      const connection: Connection = { originator, known, stream, openStreams: 0, lastUseMs: clock.monotonicMs() }
      open.add(connection)
      stream.once('close', () => open.delete(connection))
      if (!known) scheduleSweep()
      return connection
    },
    counts: () => ({ open: open.size, strangers: strangers().length, ...counts }),
    destroyAll() {
      sweep?.cancel()
      sweep = undefined
      for (const connection of [...open]) connection.stream.destroy()
      open.clear()
    },
  }
}

/** Of the address with the most connections, the one that was of no use for longest. */
function oldestOfBusiest(connections: readonly Connection[]): Connection | undefined {
  const byAddress = new Map<string, Connection[]>()
  for (const connection of connections) {
    const key = `${connection.originator.via} ${connection.originator.address}`
    byAddress.set(key, [...(byAddress.get(key) ?? []), connection])
  }
  const [busiest] = [...byAddress.values()].sort((a, b) => b.length - a.length)
  return busiest?.reduce((a, b) => (b.lastUseMs < a.lastUseMs ? b : a))
}
