/** Walks every state of a small world once, and says what is wrong with the first bad one and how it came about. */
import type { AgreementEvent } from '../../../src/link/agreement/events.js'
import { transition, type Transition } from '../../../src/link/agreement/machine.js'
import type { AgreementState } from '../../../src/link/agreement/state.js'
import { actionsOf } from './actions.js'
import { type Invariants, isLoud, sameStores } from './invariants.js'
import type { Rules, World } from './parts.js'
import { initialWorld } from './world.js'

export interface Exploration {
  readonly states: number
  /** States in which nothing but a fault could happen. */
  readonly ends: number
  /** Ends in which the two stores are equal; in which they differ and that is said. */
  readonly equal: number
  readonly loud: number
  readonly violation: { readonly what: string; readonly path: readonly string[] } | undefined
}

const NUMBER = Symbol('number')

/** Gives equal parts of worlds equal small numbers: worlds share most of their parts, and each is looked at once. */
class Numbering {
  readonly #byText = new Map<string, number>()
  readonly #first: object[] = []

  of(part: object): number {
    const known = (part as { [NUMBER]?: number })[NUMBER]
    if (known !== undefined) return known
    const text = this.textOf(part)
    let number = this.#byText.get(text)
    if (number === undefined) {
      number = this.#byText.size
      this.#byText.set(text, number)
      this.#first.push(part)
    }
    Object.defineProperty(part, NUMBER, { value: number })
    return number
  }

  /** Equal for equal parts of one kind. */
  textOf(part: object): string {
    let text = Array.isArray(part) ? '[' : '{'
    for (const value of Object.values(part) as unknown[]) {
      if (typeof value === 'object' && value !== null) text += `#${this.of(value)},`
      else text += `${typeof value === 'string' ? `"${value}"` : String(value)},`
    }
    return text
  }

  /** The first of all parts that are equal to this one. */
  same<T extends object>(part: T): T {
    return this.#first[this.of(part)] as T
  }
}

type Run = (state: AgreementState, event: AgreementEvent) => Transition

/** Worlds are many, what a gateway meets in them is not: each transition is worked out once. */
function remembered(run: Run, parts: Numbering): Run {
  const known = new WeakMap<AgreementState, Map<string, Transition>>()
  return (state, event) => {
    const results = known.get(state) ?? new Map<string, Transition>()
    if (results.size === 0) known.set(state, results)
    const name = parts.textOf(event)
    let result = results.get(name)
    if (result === undefined) {
      const { state: next, effects } = run(state, event)
      result = { state: parts.same(next), effects }
      results.set(name, result)
    }
    return result
  }
}

function keyOf(world: World, parts: Numbering): string {
  const { gateways, sites, channels, connected, faults, late, accepted, protocolError } = world
  const numbers = [gateways.left, gateways.right, sites.left, sites.right, channels.left, channels.right].map((part) =>
    parts.of(part),
  )
  return `${numbers.join()},${connected ? 1 : 0},${faults},${late},${accepted},${world.verifiedSince.join('')},${protocolError ?? ''}`
}

export function explore(world: Rules, invariants: Invariants, maxStates = Infinity): Exploration {
  const walk = walkThrough(world, invariants, maxStates)
  for (;;) {
    const { done, value } = walk.next()
    if (done === true) return value
  }
}

/** The same, letting other things happen meanwhile: whoever waits for this process takes it for dead after a minute. */
export async function exploreAtLength(world: Rules, invariants: Invariants): Promise<Exploration> {
  const walk = walkThrough(world, invariants, Infinity)
  for (;;) {
    const { done, value } = walk.next()
    if (done === true) return value
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** How many states are looked at in one go. */
const STRETCH = 20_000

function* walkThrough(world: Rules, invariants: Invariants, maxStates: number): Generator<void, Exploration> {
  const parts = new Numbering()
  const rules = { ...world, transition: remembered(world.transition ?? transition, parts) }
  const seen = new Set<string>()
  let visited = 0
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
    visited += 1
    if (visited % STRETCH === 0) yield
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
