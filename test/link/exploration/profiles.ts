/** Which small worlds are explored, and what must hold in each. */
import { hasRepeats, type Invariants, isLoud, isPrefix, sameStores } from './explorer.js'
import { ENDS, type FaultName, type Rules, type World } from './world.js'

export interface Profile {
  readonly name: string
  readonly rules: Rules
  /** Nothing of what can happen here parts the stores, and no key is sent twice: a loud state would be a false alarm. */
  readonly harmless: boolean
  /** No report can be lost, so the stores are never more than one batch apart. */
  readonly oneBatch?: boolean
}

const INTERRUPTIONS: readonly FaultName[] = ['disconnect', 'cancel', 'replace']
const CRASHES: readonly FaultName[] = ['crashGateway', 'crashSite', 'crashDevice', 'interruptReports']
const ALL: readonly FaultName[] = [...INTERRUPTIONS, ...CRASHES]

/** What the tests walk through; together a few hundred thousand states. */
export const TEST_PROFILES: readonly Profile[] = [
  {
    name: 'two lost connections, cancels or newer WaitForSessions over three batches',
    rules: { faults: INTERRUPTIONS, maxFaults: 2, units: 3, lateUnits: 0, timelyReports: true },
    harmless: true,
    oneBatch: true,
  },
  {
    name: 'the same over two batches, with reports that come later than any deadline',
    rules: { faults: ['disconnect', 'cancel'], maxFaults: 2, units: 2, lateUnits: 1, timelyReports: false },
    harmless: false,
  },
  {
    name: 'any one fault over three batches',
    rules: { faults: ALL, maxFaults: 1, units: 3, lateUnits: 1, timelyReports: true },
    harmless: false,
  },
  {
    name: 'two deaths of gateways, SiteAgents or devices around one batch',
    rules: { faults: CRASHES, maxFaults: 2, units: 1, lateUnits: 1, timelyReports: true },
    harmless: false,
  },
  {
    name: 'the left gateway dies once in the middle of two batches',
    rules: { faults: ['crashLeftGateway'], maxFaults: 1, units: 2, lateUnits: 1, timelyReports: true },
    harmless: true,
  },
]

/** What a night walks through. */
export const NIGHTLY_PROFILES: readonly Profile[] = [
  {
    name: 'any two faults over two batches and a last one',
    rules: { faults: ALL, maxFaults: 2, units: 2, lateUnits: 1, timelyReports: true },
    harmless: false,
  },
  {
    name: 'any two faults over three batches',
    rules: { faults: ALL, maxFaults: 2, units: 3, lateUnits: 1, timelyReports: true },
    harmless: false,
  },
  {
    name: 'three lost connections, cancels or newer WaitForSessions over three batches',
    rules: { faults: INTERRUPTIONS, maxFaults: 3, units: 3, lateUnits: 1, timelyReports: true },
    harmless: true,
    oneBatch: true,
  },
  {
    name: 'any two faults around one batch, with reports that come later than any deadline',
    rules: { faults: ALL, maxFaults: 2, units: 1, lateUnits: 1, timelyReports: false },
    harmless: false,
  },
]

export function invariantsOf(profile: Profile): Invariants {
  return {
    always(world) {
      if (world.protocolError !== undefined)
        return `one side says what the other cannot understand: ${world.protocolError}`
      if (!profile.harmless) return undefined
      if (isLoud(world)) return 'a false alarm'
      if (!isPrefix(world)) return 'the two stores hold different sequences'
      if (hasRepeats(world)) return 'a key was taken in twice'
      return tooFarApart(world, profile.oneBatch === true)
        ? 'one store is ahead by more than its gateway knows'
        : undefined
    },
    between(before, after) {
      for (const end of ENDS) {
        const wasDiverged = before.gateways[end].machine.diverged !== undefined
        const isDiverged = after.gateways[end].machine.diverged !== undefined
        if (wasDiverged && isDiverged && onWire(after, end) > onWire(before, end))
          return `${end}: keys were sent to a store that has parted`
      }
      return undefined
    },
    atEnd(world) {
      return isLoud(world) || sameStores(world) ? undefined : 'the two stores differ and nobody says so'
    },
  }
}

function onWire(world: World, end: 'left' | 'right'): number {
  return world.sites[end].open.reduce((sum, { wire }) => sum + wire.length, 0)
}

/** The left store is ahead of the right one by what its gateway has on its way, in doubt or told; by one batch in all where no report is lost. */
function tooFarApart({ sites, gateways }: World, oneBatch: boolean): boolean {
  const apart = sites.left.store.length - sites.right.store.length
  const { ahead, doubts, flight } = gateways.left.machine
  const known = ahead.length + doubts.length + (flight === undefined ? 0 : 1)
  return apart < 0 || apart > (oneBatch ? 1 : known)
}
