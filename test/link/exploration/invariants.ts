/** What must hold in every state of a world, and at every end. */
import { linkBlocked } from '../../../src/link/agreement/delivery.js'
import { type End, ENDS, otherEnd, QUESTION, siteKind, type World } from './parts.js'
import type { Profile } from './profiles.js'

export interface Invariants {
  /** Undefined where all is well. */
  always(world: World): string | undefined
  /** From one state to a next one. */
  between(before: World, after: World): string | undefined
  /** Where nothing but a fault could happen. */
  atEnd(world: World): string | undefined
}

export function invariantsOf(profile: Profile): Invariants {
  const total = profile.rules.sites.every((kind) => kind !== 'java')
  return {
    always(world) {
      if (world.protocolError !== undefined)
        return `one side says what the other cannot understand: ${world.protocolError}`
      if (!total) return javaProblem(world, profile)
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
        if (wasDiverged && isDiverged && keysOnWire(after, end) > keysOnWire(before, end))
          return `${end}: keys were sent to a store that has parted`
      }
      return undefined
    },
    atEnd(world) {
      if (isLoud(world)) return profile.truthful === true && sameStores(world) ? 'a false alarm' : undefined
      if (stalls(world)) return 'keys wait at both sites, nothing moves, and nobody says why'
      if (!total) return undefined
      if (world.accepted > 0) return sameSince(world) ? undefined : 'what came after the acceptance differs'
      return sameStores(world) ? undefined : 'the two stores differ and nobody says so'
    },
  }
}

export function isLoud(world: World): boolean {
  return world.gateways.left.machine.diverged !== undefined || world.gateways.right.machine.diverged !== undefined
}

export function sameStores(world: World): boolean {
  return world.sites.left.store.join() === world.sites.right.store.join()
}

/** One store is a beginning of the other. */
function isPrefix(world: World): boolean {
  return beginsAlike(world.sites.left.store, world.sites.right.store)
}

function beginsAlike(a: readonly string[], b: readonly string[]): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a]
  return short.every((unit, index) => long[index] === unit)
}

function repeats(units: readonly string[]): boolean {
  return new Set(units).size < units.length
}

function hasRepeats({ sites }: World): boolean {
  return repeats(sites.left.store) || repeats(sites.right.store)
}

/** What was verified since an operator accepted that the stores differ is in both, in the same order. */
function sameSince({ sites, verifiedSince }: World): boolean {
  const since = (end: End): string => sites[end].store.filter((unit) => verifiedSince.includes(unit)).join()
  return since('left') === since('right')
}

function keysOnWire(world: World, end: End): number {
  const messages = world.sites[end].open.flatMap(({ wire }) => wire)
  return messages.filter((message) => message !== QUESTION).length
}

/** The left store is ahead of the right one by what its gateway has on its way, in doubt or told; by one batch in all where no report is lost. */
function tooFarApart(world: World, oneBatch: boolean): boolean {
  const { sites, gateways } = world
  const ahead = sites.left.store.length - sites.right.store.length
  const leader = ahead > 0 ? 'left' : 'right'
  const apart = Math.abs(ahead)
  const { machine } = gateways[leader]
  if (oneBatch) return apart > 1
  const firsts = machine.doubts.filter(({ order }) => order === 'first').length
  return apart > machine.ahead.length + firsts + (machine.flight === undefined ? 0 : 1)
}

/** Both gateways hold keys that the other holds as well, and the left one gives no reason why they do not go out. */
function stalls({ gateways }: World): boolean {
  const left = ENDS.find((end) => gateways[end].machine.role === 'left')
  if (left === undefined) return false
  const theirs = gateways[otherEnd(left)].pool
  const common = gateways[left].pool.some((unit) => theirs.includes(unit))
  const underWay = ENDS.some((end) => gateways[end].batches.length > 0)
  return (common || underWay) && linkBlocked(gateways[left].machine) === undefined
}

/** What is promised where a site numbers anew with each WaitForSession and tells no total. */
function javaProblem(world: World, profile: Profile): string | undefined {
  const taken = (end: End): readonly (readonly string[])[] => world.sites[end].sessions.map(({ units }) => units)
  // A C++ store that was lost may get again what was owed to it.
  const kept = (end: End): readonly string[] =>
    siteKind(end, profile.rules) === 'java' ? taken(end).flat() : world.sites[end].store
  if (ENDS.some((end) => repeats(kept(end)))) return 'a key was taken in twice'
  if (profile.harmless && isLoud(world)) return 'a false alarm'
  const [left, right] = ENDS.map((end) => siteKind(end, profile.rules) === 'java')
  if (left === true && right === true) {
    const pairs = taken('left').flatMap((a) => taken('right').map((b) => [a, b] as const))
    const bad = pairs.some(([a, b]) => a.some((unit) => b.includes(unit)) && !beginsAlike(a, b))
    return bad ? 'two sessions share a key and do not begin alike' : undefined
  }
  const java = left === true ? 'left' : 'right'
  // What was owed to a store that was lost may come once more.
  const all = [...new Set(taken(otherEnd(java)).flat())]
  return taken(java).every((run) => isRun(run, all)) ? undefined : 'a Java session is no unbroken run of the C++ keys'
}

/** `run` is an unbroken part of `all`, or its end goes beyond the last of `all` that it shares. */
function isRun(run: readonly string[], all: readonly string[]): boolean {
  const shared = run.filter((unit) => all.includes(unit))
  const isAt = (at: number): boolean => shared.every((unit, index) => all[at + index] === unit)
  return beginsAlike(run, shared) && (shared.length === 0 || all.some((_, at) => isAt(at)))
}
