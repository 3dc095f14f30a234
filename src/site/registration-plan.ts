/** What to do about a registration, decided from what the SiteAgent shows. Pure: no calls, no time. */
import type { SiteDialect } from './contract.js'

/** One device entry as a SiteAgent shows it, by field numbers: the two dialects name fields 2 to 4 differently. */
export interface RegisteredEntry {
  readonly id: string
  readonly side: number
  readonly kind: string
  readonly bytesPerKey: number
  readonly switchName: string
  readonly switchPorts: readonly string[]
  /** Control address where the numbering is upstream's; bind address in OpenQKDNetwork's. */
  readonly field2: string
  /** Control address in OpenQKDNetwork's numbering; the SiteAgent's address in upstream's. */
  readonly field3: string
  /** The SiteAgent's address in OpenQKDNetwork's numbering; unknown to upstream, which keeps it. */
  readonly field4: string
}

export type RegistrationPlan =
  /** The SiteAgent will use our entry: hands off. `spare` further entries of our id stand behind it. */
  | { plan: 'leave'; spare: number }
  /** Nothing stands in the way: register. */
  | { plan: 'register' }
  /** Another entry of our id would be used: unregister until none is left, then register. */
  | { plan: 'replace'; shown: string }
  /** Entries stand there that this SiteAgent cannot forget; `present` tells whether ours is among them. */
  | { plan: 'cannot-repair'; present: boolean; shown: string }

function sameEntry(a: RegisteredEntry, b: RegisteredEntry): boolean {
  return (
    a.id === b.id &&
    a.side === b.side &&
    a.kind === b.kind &&
    a.bytesPerKey === b.bytesPerKey &&
    a.switchName === b.switchName &&
    a.switchPorts.join(',') === b.switchPorts.join(',') &&
    a.field2 === b.field2 &&
    a.field3 === b.field3 &&
    a.field4 === b.field4
  )
}

/** What an entry differs in from ours, for people. */
function difference(entry: RegisteredEntry, wanted: RegisteredEntry): string {
  const address = entry.field3 === '' || entry.field3 === entry.field2 ? entry.field2 : entry.field3
  if (entry.field2 !== wanted.field2 || entry.field3 !== wanted.field3) {
    return `control address ${address === '' ? '(none)' : address}`
  }
  if (entry.kind !== wanted.kind) return `kind "${entry.kind}"`
  if (entry.side !== wanted.side) return 'another side'
  if (entry.bytesPerKey !== wanted.bytesPerKey) return `${entry.bytesPerKey} bytes a key`
  return 'other settings'
}

/**
 * `shown` are all device entries of the SiteAgent in its order. A C++ SiteAgent uses the first entry of an id, a Java
 * one may use any and never removes one; an unknown one is taken for C++ until it does not answer UnregisterDevice.
 */
export function planRegistration(
  shown: readonly RegisteredEntry[],
  wanted: RegisteredEntry,
  dialect: SiteDialect,
): RegistrationPlan {
  const own = shown.filter((entry) => entry.id === wanted.id)
  const first = own[0]
  if (first === undefined) return { plan: 'register' }
  const stale = own.find((entry) => !sameEntry(entry, wanted))
  if (dialect === 'java') {
    if (stale === undefined) return { plan: 'leave', spare: own.length - 1 }
    return {
      plan: 'cannot-repair',
      present: own.some((entry) => sameEntry(entry, wanted)),
      shown: difference(stale, wanted),
    }
  }
  if (sameEntry(first, wanted)) return { plan: 'leave', spare: own.length - 1 }
  return { plan: 'replace', shown: difference(first, wanted) }
}
