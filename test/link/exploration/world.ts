/**
 * Everything that the agreement meets, small enough to be explored whole: two state machines, the channel between them,
 * two SiteAgents with their streams, stores and reports, two journals, two pools of keys. Deterministic: an action is
 * chosen by the explorer.
 */
import { wantedBatch } from '../../../src/link/agreement/delivery.js'
import { type DurableState, restoredState } from '../../../src/link/agreement/durable.js'
import type { AgreementEffect, AgreementEvent, AgreementMessage } from '../../../src/link/agreement/events.js'
import { nextTickMs, transition as machineTransition, type Transition } from '../../../src/link/agreement/machine.js'
import { helloOf } from '../../../src/link/agreement/reconcile.js'
import { type AgreementState, type Hello, initialState } from '../../../src/link/agreement/state.js'

export type End = 'left' | 'right'
export const ENDS = ['left', 'right'] as const

/** A batch's worth of keys; sizes whose sums all differ. */
export interface Unit {
  readonly name: string
  readonly size: number
}

export const UNITS: readonly Unit[] = [
  { name: 'a', size: 1 },
  { name: 'b', size: 2 },
  { name: 'c', size: 4 },
  { name: 'd', size: 8 },
  { name: 'e', size: 16 },
]

type Message =
  | { readonly type: 'hello'; readonly hello: Hello }
  | { readonly type: 'propose'; readonly serial: number; readonly unit: string }
  | { readonly type: 'verified'; readonly serial: number }
  | { readonly type: 'agreement'; readonly message: AgreementMessage }

export interface Gateway {
  readonly machine: AgreementState
  /** Units whose keys wait, by name, ascending. */
  readonly pool: readonly string[]
  /** Units taken out of the pool, by serial. */
  readonly batches: readonly { readonly serial: number; readonly unit: string }[]
  /** What is on the disk, and what may be lost with a crash. */
  readonly synced: DurableState | undefined
  readonly unsynced: DurableState | undefined
  /** A record that is being written before a batch may go. */
  readonly writing: number | undefined
  readonly starts: number
}

export interface OpenStream {
  readonly stream: string
  readonly wire: readonly string[]
}

export interface SiteAgent {
  /** Unit names in the order in which they were taken in. */
  readonly store: readonly string[]
  /** Open WaitForSessions, the newest last, with the messages on each that were not read yet. */
  readonly open: readonly OpenStream[]
  /** Totals on their way to the gateway. */
  readonly reports: readonly number[]
  readonly streams: number
  readonly crashed: boolean
  /** Restarted, and the gateway has not been told for certain. */
  readonly unnoticed: boolean
}

export interface World {
  readonly gateways: Readonly<Record<End, Gateway>>
  readonly sites: Readonly<Record<End, SiteAgent>>
  readonly connected: boolean
  readonly channels: Readonly<Record<End, readonly Message[]>>
  readonly faults: number
  /** Units that came late. */
  readonly late: number
  /** Both SiteAgents count from the same number. */
  readonly storeLost: boolean
  readonly protocolError: string | undefined
}

export interface Rules {
  /** Faults that may happen. */
  readonly faults: readonly FaultName[]
  readonly maxFaults: number
  readonly units: number
  /** Units that come once everything else has come to rest. */
  readonly lateUnits: number
  /** Reports come before the settle time is over. */
  readonly timelyReports: boolean
  /** For mutation tests: what the machine does instead. */
  readonly transition?: (state: AgreementState, event: AgreementEvent) => Transition
}

export type FaultName =
  | 'disconnect'
  | 'cancel'
  | 'replace'
  | 'crashGateway'
  | 'crashLeftGateway'
  | 'crashSite'
  | 'crashDevice'
  | 'interruptReports'

const LIMITS = { settleMs: 100, inferAfterMs: 50, maxMismatches: 3 }

export function initialWorld(rules: Rules): World {
  const pool = UNITS.slice(0, rules.units).map(({ name }) => name)
  const gateway = (role: End): Gateway => ({
    machine: initialState(role, LIMITS, `fresh-${role}`),
    pool,
    batches: [],
    synced: undefined,
    unsynced: undefined,
    writing: undefined,
    starts: 0,
  })
  const site: SiteAgent = {
    store: [],
    open: [],
    reports: [],
    streams: 0,
    crashed: false,
    unnoticed: false,
  }
  let world: World = {
    gateways: { left: gateway('left'), right: gateway('right') },
    sites: { left: site, right: site },
    connected: false,
    channels: { left: [], right: [] },
    faults: 0,
    late: 0,
    storeLost: false,
    protocolError: undefined,
  }
  for (const end of ENDS) {
    world = new Actor(world, rules).event(end, {
      type: 'siteFacts',
      confirmation: 'total',
      restartsNumbering: false,
      nowMs: 0,
    })
    world = new Actor(world, rules).openStream(end)
  }
  return world
}

export function sizeOf(unit: string): number {
  return UNITS.find(({ name }) => name === unit)?.size ?? 0
}

export function totalOf(store: readonly string[]): number {
  return store.reduce((sum, unit) => sum + sizeOf(unit), 0)
}

const other = (end: End): End => (end === 'left' ? 'right' : 'left')

/** Changes a copy of a world; each method is one thing that happens. */
class Actor {
  constructor(
    public world: World,
    private readonly rules: Rules,
  ) {}

  #gateway(end: End, change: Partial<Gateway>): void {
    const gateway = { ...this.world.gateways[end], ...change }
    this.world = { ...this.world, gateways: { ...this.world.gateways, [end]: gateway } }
  }

  #site(end: End, change: Partial<SiteAgent>): void {
    const site = { ...this.world.sites[end], ...change }
    this.world = { ...this.world, sites: { ...this.world.sites, [end]: site } }
  }

  /** Queues a message towards the other end. */
  #send(from: End, message: Message): void {
    if (!this.world.connected) return
    const to = other(from)
    this.world = { ...this.world, channels: { ...this.world.channels, [to]: [...this.world.channels[to], message] } }
  }

  event(end: End, event: AgreementEvent): World {
    const run = this.rules.transition ?? machineTransition
    const { state, effects } = run(this.world.gateways[end].machine, event)
    this.#gateway(end, { machine: state })
    for (const effect of effects) this.#perform(end, effect)
    this.#form(end)
    return this.world
  }

  #perform(end: End, effect: AgreementEffect): void {
    const gateway = this.world.gateways[end]
    switch (effect.type) {
      case 'sendHello':
        return this.#send(end, { type: 'hello', hello: helloOf(gateway.machine) })
      case 'send':
        return this.#send(end, { type: 'agreement', message: effect.message })
      case 'sendVerified':
        return this.#send(end, { type: 'verified', serial: effect.serial })
      case 'journal':
        if (effect.awaited === undefined) this.#gateway(end, { unsynced: effect.record })
        else this.#gateway(end, { synced: effect.record, unsynced: undefined, writing: effect.awaited })
        return
      case 'deliver': {
        const batch = gateway.batches.find(({ serial }) => serial === effect.serial)
        const site = this.world.sites[end]
        const open = site.open.find(({ stream }) => stream === effect.stream)
        if (batch === undefined || open === undefined) return
        this.#onStream(end, effect.stream, [...open.wire, batch.unit])
        this.event(end, { type: 'handedOver', serial: effect.serial, nowMs: 0 })
        return
      }
      case 'delivered':
      case 'drop':
        return this.#gateway(end, { batches: gateway.batches.filter(({ serial }) => serial !== effect.serial) })
      case 'restore': {
        const batch = gateway.batches.find(({ serial }) => serial === effect.serial)
        if (batch === undefined) return
        this.#gateway(end, {
          batches: gateway.batches.filter((one) => one !== batch),
          pool: [...gateway.pool, batch.unit].sort(),
        })
        return
      }
      case 'endStream':
        this.closeStream(end, effect.stream)
        return
      case 'protocolError':
        this.world = { ...this.world, protocolError: effect.text }
        this.disconnect()
        return
      case 'commit':
      case 'announceAnew':
      case 'log':
        return
    }
  }

  /** Left: the first unit that both hold becomes a batch, at once. */
  #form(end: End): void {
    if (end !== 'left') return
    const { machine, pool, batches } = this.world.gateways.left
    const wanted = wantedBatch(machine)
    if (wanted === undefined) return
    const unit = pool.find(
      (name) => this.world.gateways.right.pool.includes(name) && !wanted.avoidCounts.includes(sizeOf(name)),
    )
    if (unit === undefined) return
    this.#gateway('left', {
      pool: pool.filter((name) => name !== unit),
      batches: [...batches, { serial: wanted.serial, unit }],
    })
    this.#send('left', { type: 'propose', serial: wanted.serial, unit })
    this.event('left', { type: 'formed', serial: wanted.serial, count: sizeOf(unit), nowMs: 0 })
  }

  receive(end: End): World {
    const [message, ...rest] = this.world.channels[end]
    if (message === undefined) return this.world
    this.world = { ...this.world, channels: { ...this.world.channels, [end]: rest } }
    switch (message.type) {
      case 'hello':
        return this.event(end, { type: 'hello', hello: message.hello, nowMs: 0 })
      case 'verified':
        return this.event(end, { type: 'verified', serial: message.serial, genuine: true, nowMs: 0 })
      case 'agreement':
        return this.event(end, { type: 'message', message: message.message, nowMs: 0 })
      case 'propose': {
        const { pool, batches } = this.world.gateways[end]
        const held = pool.includes(message.unit)
        if (held) {
          this.#gateway(end, {
            pool: pool.filter((name) => name !== message.unit),
            batches: [...batches, { serial: message.serial, unit: message.unit }],
          })
        }
        const outcome = held ? 'equal' : 'missing'
        return this.event(end, {
          type: 'prepared',
          serial: message.serial,
          count: sizeOf(message.unit),
          outcome,
          nowMs: 0,
        })
      }
    }
  }

  openStream(end: End): World {
    const { streams, open } = this.world.sites[end]
    const stream = `${end}${streams + 1}`
    this.#site(end, { open: [...open, { stream, wire: [] }], streams: streams + 1 })
    return this.event(end, { type: 'streamOpened', stream, nowMs: 0 })
  }

  closeStream(end: End, stream: string): World {
    const { open } = this.world.sites[end]
    if (!open.some((one) => one.stream === stream)) return this.world
    this.#site(end, { open: open.filter((one) => one.stream !== stream) })
    return this.event(end, { type: 'streamEnded', stream, nowMs: 0 })
  }

  takeIn(end: End, stream: string): World {
    const { open, store, reports } = this.world.sites[end]
    const [unit, ...rest] = open.find((one) => one.stream === stream)?.wire ?? []
    if (unit === undefined) return this.world
    const next = [...store, unit]
    this.#site(end, { store: next, reports: [...reports, totalOf(next)] })
    this.#onStream(end, stream, rest)
    return this.world
  }

  #onStream(end: End, stream: string, wire: readonly string[]): void {
    const { open } = this.world.sites[end]
    this.#site(end, { open: open.map((one) => (one.stream === stream ? { stream, wire } : one)) })
  }

  report(end: End): World {
    const [total, ...rest] = this.world.sites[end].reports
    if (total === undefined) return this.world
    this.#site(end, { reports: rest })
    return this.event(end, { type: 'total', storeId: 1n, total: BigInt(total), nowMs: 0 })
  }

  journalled(end: End): World {
    const { writing } = this.world.gateways[end]
    if (writing === undefined) return this.world
    this.#gateway(end, { writing: undefined })
    return this.event(end, { type: 'journalled', serial: writing, nowMs: 0 })
  }

  tick(end: End): World {
    const nowMs = nextTickMs(this.world.gateways[end].machine)
    return nowMs === undefined ? this.world : this.event(end, { type: 'tick', nowMs })
  }

  connect(): World {
    this.world = { ...this.world, connected: true, channels: { left: [], right: [] } }
    for (const end of ENDS) this.event(end, { type: 'connected', nowMs: 0 })
    return this.world
  }

  disconnect(): World {
    if (!this.world.connected) return this.world
    this.world = { ...this.world, connected: false, channels: { left: [], right: [] } }
    for (const end of ENDS) this.event(end, { type: 'disconnected', nowMs: 0 })
    return this.world
  }

  /** The process dies and is started again; `lucky`: what was written but not synced survives. */
  crashGateway(end: End, lucky: boolean): World {
    this.disconnect()
    const { synced, unsynced, starts, machine } = this.world.gateways[end]
    const disk = lucky ? (unsynced ?? synced) : synced
    this.#site(end, { open: [], reports: [] })
    const fresh = `fresh-${end}-${starts + 1}`
    this.#gateway(end, {
      machine:
        disk === undefined
          ? initialState(machine.role, LIMITS, fresh)
          : restoredState(disk, machine.role, LIMITS, fresh),
      pool: [],
      batches: [],
      synced: disk,
      unsynced: undefined,
      writing: undefined,
      starts: starts + 1,
    })
    this.event(end, { type: 'siteFacts', confirmation: 'total', restartsNumbering: false, nowMs: 0 })
    return this.world
  }

  /** The SiteAgent dies and is started again with an empty store. */
  crashSite(end: End): World {
    const { open } = this.world.sites[end]
    const lost = this.world.sites[end].store.length > 0 || this.world.storeLost
    this.#site(end, { store: [], open: [], reports: [], crashed: true, unnoticed: true })
    this.world = { ...this.world, storeLost: lost }
    for (const { stream } of open) this.event(end, { type: 'streamEnded', stream, nowMs: 0 })
    return this.#subscribeAgain(end)
  }

  siteRestartNoticed(end: End): World {
    this.#site(end, { unnoticed: false })
    return this.event(end, { type: 'siteRestarted', nowMs: 0 })
  }

  crashDevice(end: End): World {
    this.#gateway(end, { pool: [] })
    return this.world
  }

  interruptReports(end: End): World {
    this.#site(end, { reports: [] })
    return this.#subscribeAgain(end)
  }

  #subscribeAgain(end: End): World {
    this.event(end, { type: 'reportsInterrupted', nowMs: 0 })
    this.event(end, { type: 'siteFacts', confirmation: 'none', restartsNumbering: false, nowMs: 0 })
    return this.event(end, { type: 'siteFacts', confirmation: 'total', restartsNumbering: false, nowMs: 0 })
  }

  /** Both devices give one more batch's worth of keys. */
  moreKeys(): World {
    const unit = UNITS[this.rules.units + this.world.late]
    if (unit === undefined) return this.world
    this.world = { ...this.world, late: this.world.late + 1 }
    for (const end of ENDS) this.#gateway(end, { pool: [...this.world.gateways[end].pool, unit.name].sort() })
    this.#form('left')
    return this.world
  }

  fault(): this {
    this.world = { ...this.world, faults: this.world.faults + 1 }
    return this
  }
}

export interface Action {
  readonly name: string
  readonly fault: boolean
  run(): World
}

/** Everything that can happen now. */
export function actionsOf(world: World, rules: Rules): Action[] {
  const actions: Action[] = []
  const add = (name: string, run: (actor: Actor) => World, fault = false): void => {
    actions.push({ name, fault, run: () => run(fault ? new Actor(world, rules).fault() : new Actor(world, rules)) })
  }
  if (!world.connected) add('connect', (actor) => actor.connect())
  for (const end of ENDS) {
    const site = world.sites[end]
    const gateway = world.gateways[end]
    if (world.channels[end].length > 0) add(`${end} receives`, (actor) => actor.receive(end))
    for (const { stream, wire } of site.open) {
      if (wire.length > 0) add(`${end} SiteAgent takes in`, (actor) => actor.takeIn(end, stream))
    }
    if (site.reports.length > 0) add(`${end} SiteAgent's total arrives`, (actor) => actor.report(end))
    if (gateway.writing !== undefined) add(`${end} journal written`, (actor) => actor.journalled(end))
    if (site.open.length === 0) add(`${end} SiteAgent asks for keys`, (actor) => actor.openStream(end))
    if (site.crashed && site.unnoticed)
      add(`${end} SiteAgent's restart is noticed`, (actor) => actor.siteRestartNoticed(end))
    const reportsPending = site.reports.length > 0 || site.open.some(({ wire }) => wire.length > 0)
    if (nextTickMs(gateway.machine) !== undefined && !(rules.timelyReports && reportsPending)) {
      add(`${end} settle time is over`, (actor) => actor.tick(end))
    }
  }
  if (actions.length === 0 && world.late < rules.lateUnits) add('more keys come', (actor) => actor.moreKeys())
  // Nothing goes wrong any more once the last keys have come: what was wrong must show then.
  if (world.faults >= rules.maxFaults || world.late > 0) return actions
  const may = (fault: FaultName): boolean => rules.faults.includes(fault)
  if (world.connected && may('disconnect')) add('connection lost', (actor) => actor.disconnect(), true)
  for (const end of ENDS) {
    const site = world.sites[end]
    for (const { stream } of site.open) {
      if (may('cancel')) add(`${end} SiteAgent cancels`, (actor) => actor.closeStream(end, stream), true)
    }
    if (site.open.length > 0 && may('replace')) {
      add(`${end} SiteAgent asks once more`, (actor) => actor.openStream(end), true)
    }
    if (may('crashGateway') || (end === 'left' && may('crashLeftGateway'))) {
      add(`${end} gateway dies`, (actor) => actor.crashGateway(end, false), true)
      if (world.gateways[end].unsynced !== undefined) {
        add(`${end} gateway dies after its disk caught up`, (actor) => actor.crashGateway(end, true), true)
      }
    }
    if (may('crashSite')) add(`${end} SiteAgent dies`, (actor) => actor.crashSite(end), true)
    if (may('crashDevice') && world.gateways[end].pool.length > 0) {
      add(`${end} device dies`, (actor) => actor.crashDevice(end), true)
    }
    if (may('interruptReports')) add(`${end} reports are interrupted`, (actor) => actor.interruptReports(end), true)
  }
  return actions
}
