/** Walks every state of a small world once, and says what is wrong with the first bad one and how it came about. */
import { actionsOf, initialWorld, type Rules, totalOf, type World } from './world.js'

export interface Exploration {
  readonly states: number
  /** States in which nothing but a fault could happen. */
  readonly ends: number
  /** Ends in which the two stores are equal; in which they differ and that is said. */
  readonly equal: number
  readonly loud: number
  readonly violation: { readonly what: string; readonly path: readonly string[] } | undefined
}

/** What must hold in every state, and at every end; undefined where it does. */
export interface Invariants {
  always(world: World): string | undefined
  /** From one state to a next one. */
  between(before: World, after: World): string | undefined
  atEnd(world: World): string | undefined
}

/** Gives equal parts of worlds equal small numbers: worlds share most of their parts, and each is looked at once. */
class Numbering {
  readonly #byObject = new WeakMap<object, number>()
  readonly #byText = new Map<string, number>()

  of(part: object): number {
    const known = this.#byObject.get(part)
    if (known !== undefined) return known
    let text = Array.isArray(part) ? '[' : '{'
    for (const value of Object.values(part) as unknown[]) {
      if (typeof value === 'object' && value !== null) text += `#${this.of(value)},`
      else text += `${typeof value === 'string' ? `"${value}"` : String(value)},`
    }
    let number = this.#byText.get(text)
    if (number === undefined) {
      number = this.#byText.size
      this.#byText.set(text, number)
    }
    this.#byObject.set(part, number)
    return number
  }
}

function keyOf(world: World, parts: Numbering): string {
  const { gateways, sites, channels, connected, faults, late, protocolError } = world
  const numbers = [gateways.left, gateways.right, sites.left, sites.right, channels.left, channels.right].map((part) =>
    parts.of(part),
  )
  return `${numbers.join()},${connected ? 1 : 0},${faults},${late},${protocolError ?? ''}`
}

export function explore(rules: Rules, invariants: Invariants, maxStates = Infinity): Exploration {
  const parts = new Numbering()
  const seen = new Set<string>()
  let ends = 0
  let equal = 0
  let loud = 0
  interface Node {
    readonly world: World
    readonly from: Node | undefined
    readonly action: string
  }
  const stack: Node[] = [{ world: initialWorld(rules), from: undefined, action: 'start' }]
  seen.add(keyOf(initialWorld(rules), parts))
  const fail = (node: Node, what: string): Exploration => {
    const path: string[] = []
    for (let at: Node | undefined = node; at !== undefined; at = at.from) path.unshift(at.action)
    return { states: seen.size, ends, equal, loud, violation: { what, path } }
  }
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    const wrong = invariants.always(node.world)
    if (wrong !== undefined) return fail(node, wrong)
    const actions = actionsOf(node.world, rules)
    if (!actions.some(({ fault }) => !fault)) {
      ends += 1
      if (isLoud(node.world)) loud += 1
      else if (sameStores(node.world)) equal += 1
      const wrongEnd = invariants.atEnd(node.world)
      if (wrongEnd !== undefined) return fail(node, wrongEnd)
    }
    for (const action of actions) {
      const world = action.run()
      const wrongStep = invariants.between(node.world, world)
      if (wrongStep !== undefined) return fail({ world, from: node, action: action.name }, wrongStep)
      const key = keyOf(world, parts)
      if (seen.has(key)) continue
      if (seen.size >= maxStates) return fail(node, `more than ${maxStates} states`)
      seen.add(key)
      stack.push({ world, from: node, action: action.name })
    }
  }
  return { states: seen.size, ends, equal, loud, violation: undefined }
}

export function isLoud(world: World): boolean {
  return world.gateways.left.machine.diverged !== undefined || world.gateways.right.machine.diverged !== undefined
}

export function sameStores(world: World): boolean {
  return world.sites.left.store.join() === world.sites.right.store.join()
}

/** One store is a beginning of the other. */
export function isPrefix(world: World): boolean {
  const { left, right } = world.sites
  const [short, long] = left.store.length < right.store.length ? [left.store, right.store] : [right.store, left.store]
  return short.every((unit, index) => long[index] === unit)
}

export function hasRepeats(world: World): boolean {
  return [world.sites.left.store, world.sites.right.store].some((store) => new Set(store).size < store.length)
}

export function describeWorld(world: World): string {
  const end = (name: 'left' | 'right'): string => {
    const { machine, pool } = world.gateways[name]
    const site = world.sites[name]
    return `${name}: store [${site.store.join(' ')}] (${totalOf(site.store)}), pool [${pool.join(' ')}], ${JSON.stringify(
      { ...machine, limits: undefined, peer: undefined, toldSite: undefined },
      (_, value: unknown) => (typeof value === 'bigint' ? `${value}n` : value),
    )}`
  }
  return `${end('left')}\n${end('right')}`
}
