/** A world under change: what each part does to the others. Deterministic; the explorer chooses what happens. */
import { epochBroken, wantedBatch } from '../../../src/link/agreement/delivery.js'
import { restoredState } from '../../../src/link/agreement/durable.js'
import type { AgreementEffect, AgreementEvent } from '../../../src/link/agreement/events.js'
import { nextTickMs, transition as machineTransition } from '../../../src/link/agreement/machine.js'
import { helloOf } from '../../../src/link/agreement/reconcile.js'
import { initialState } from '../../../src/link/agreement/state.js'
import { presentStores } from '../../../src/link/agreement/stores.js'
import {
  type End,
  ENDS,
  type Gateway,
  LIMITS,
  type Message,
  otherEnd,
  QUESTION,
  type Rules,
  type SiteAgent,
  siteKind,
  sizeOf,
  UNITS,
  type World,
} from './parts.js'

/** Changes a copy of a world; each method is one thing that happens at a gateway or between the two. */
export class Actor {
  constructor(
    public world: World,
    readonly rules: Rules,
  ) {}

  gateway(end: End, change: Partial<Gateway>): void {
    const gateway = { ...this.world.gateways[end], ...change }
    this.world = { ...this.world, gateways: { ...this.world.gateways, [end]: gateway } }
  }

  site(end: End, change: Partial<SiteAgent>): void {
    const site = { ...this.world.sites[end], ...change }
    this.world = { ...this.world, sites: { ...this.world.sites, [end]: site } }
  }

  #send(from: End, message: Message): void {
    if (!this.world.connected) return
    const to = otherEnd(from)
    this.world = { ...this.world, channels: { ...this.world.channels, [to]: [...this.world.channels[to], message] } }
  }

  event(end: End, event: AgreementEvent): void {
    const run = this.rules.transition ?? machineTransition
    const { state, effects } = run(this.world.gateways[end].machine, event)
    this.gateway(end, { machine: state })
    for (const effect of effects) this.#perform(end, effect)
    for (const one of ENDS) this.form(one)
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
        this.gateway(end, { unsynced: effect.record })
        if (effect.awaited.length > 0) this.gateway(end, { writing: [...gateway.writing, effect] })
        return
      case 'deliver': {
        const batch = gateway.batches.find(({ serial }) => serial === effect.serial)
        if (batch === undefined || !this.#write(end, effect.stream, batch.unit)) return
        this.event(end, { type: 'handedOver', serial: effect.serial, nowMs: 0 })
        return
      }
      case 'ask':
        this.#write(end, effect.stream, QUESTION)
        return
      case 'delivered':
      case 'drop':
        return this.gateway(end, { batches: gateway.batches.filter(({ serial }) => serial !== effect.serial) })
      case 'commit':
        return this.#commit(end, effect.serial)
      case 'restore': {
        const batch = gateway.batches.find(({ serial }) => serial === effect.serial)
        if (batch === undefined) return
        this.gateway(end, {
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
      case 'announceAnew':
      case 'log':
        return
    }
  }

  /** False where the stream is gone. */
  #write(end: End, stream: string, message: string): boolean {
    const { open } = this.world.sites[end]
    if (!open.some((one) => one.stream === stream)) return false
    this.site(end, {
      open: open.map((one) => (one.stream === stream ? { stream, wire: [...one.wire, message] } : one)),
    })
    return true
  }

  /** What only one side holds below a verified batch is dropped. */
  #commit(end: End, serial: number): void {
    const { pool, batches, machine } = this.world.gateways[end]
    const unit = batches.find((batch) => batch.serial === serial)?.unit
    if (unit === undefined) return
    this.gateway(end, { pool: pool.filter((name) => name > unit) })
    if (this.world.accepted === 0 || machine.role !== 'right') return
    this.world = { ...this.world, verifiedSince: [...this.world.verifiedSince, unit] }
  }

  /** The first unit that both hold becomes a batch, at once. */
  form(end: End): void {
    const { machine, pool, batches } = this.world.gateways[end]
    if (machine.role !== 'left') return
    const wanted = wantedBatch(machine)
    if (wanted === undefined) return
    const theirs = this.world.gateways[otherEnd(end)].pool
    const unit = pool.find((name) => theirs.includes(name) && !wanted.avoidCounts.includes(sizeOf(name, this.rules)))
    if (unit === undefined) return
    this.gateway(end, {
      pool: pool.filter((name) => name !== unit),
      batches: [...batches, { serial: wanted.serial, unit }],
    })
    this.#send(end, { type: 'propose', serial: wanted.serial, unit, stores: presentStores(machine) })
    this.event(end, { type: 'formed', serial: wanted.serial, count: sizeOf(unit, this.rules), nowMs: 0 })
  }

  receive(end: End): void {
    const [message, ...rest] = this.world.channels[end]
    if (message === undefined) return
    this.world = { ...this.world, channels: { ...this.world.channels, [end]: rest } }
    switch (message.type) {
      case 'hello':
        return this.event(end, { type: 'hello', hello: message.hello, nowMs: 0 })
      case 'verified':
        return this.event(end, { type: 'verified', serial: message.serial, genuine: true, nowMs: 0 })
      case 'agreement':
        return this.event(end, { type: 'message', message: message.message, nowMs: 0 })
      case 'dropThrough': {
        const { pool, machine } = this.world.gateways[end]
        if (machine.peer?.proven === true) this.gateway(end, { pool: pool.filter((name) => name > message.unit) })
        return
      }
      case 'propose':
        return this.#prepare(end, message)
    }
  }

  #prepare(end: End, message: Message & { readonly type: 'propose' }): void {
    const { pool, batches, machine } = this.world.gateways[end]
    const present = presentStores(machine)
    const stores = { mine: message.stores.theirs, theirs: message.stores.mine }
    const held =
      pool.includes(message.unit) &&
      present.mine === stores.mine &&
      present.theirs === stores.theirs &&
      !epochBroken(machine)
    if (held) {
      this.gateway(end, {
        pool: pool.filter((name) => name !== message.unit),
        batches: [...batches, { serial: message.serial, unit: message.unit }],
      })
    }
    const { serial, unit } = message
    const outcome = held ? 'equal' : 'missing'
    this.event(end, { type: 'prepared', serial, count: sizeOf(unit, this.rules), outcome, stores, nowMs: 0 })
  }

  openStream(end: End): void {
    const { streams, open } = this.world.sites[end]
    const stream = `${end}${streams + 1}`
    this.site(end, { open: [...open, { stream, wire: [] }], streams: streams + 1 })
    this.event(end, { type: 'streamOpened', stream, nowMs: 0 })
  }

  closeStream(end: End, stream: string): void {
    const { open } = this.world.sites[end]
    if (!open.some((one) => one.stream === stream)) return
    this.site(end, { open: open.filter((one) => one.stream !== stream) })
    this.event(end, { type: 'streamEnded', stream, nowMs: 0 })
  }

  journalled(end: End): void {
    const [written, ...writing] = this.world.gateways[end].writing
    if (written === undefined) return
    const { unsynced } = this.world.gateways[end]
    this.gateway(end, {
      synced: written.record,
      unsynced: unsynced === written.record ? undefined : unsynced,
      writing,
    })
    for (const record of written.awaited) this.event(end, { type: 'journalled', record, nowMs: 0 })
  }

  tick(end: End): void {
    const nowMs = nextTickMs(this.world.gateways[end].machine)
    if (nowMs !== undefined) this.event(end, { type: 'tick', nowMs })
  }

  connect(): void {
    this.world = { ...this.world, connected: true, channels: { left: [], right: [] } }
    for (const end of ENDS) this.event(end, { type: 'connected', nowMs: 0 })
  }

  disconnect(): void {
    if (!this.world.connected) return
    this.world = { ...this.world, connected: false, channels: { left: [], right: [] } }
    for (const end of ENDS) this.event(end, { type: 'disconnected', nowMs: 0 })
  }

  /** The process dies and is started again; `lucky`: what was written but not synced survives. */
  crashGateway(end: End, lucky: boolean): void {
    this.disconnect()
    const { synced, unsynced, starts, machine } = this.world.gateways[end]
    const disk = lucky ? (unsynced ?? synced) : synced
    // Another process does not know that the SiteAgent ever knew it.
    this.site(end, { open: [], reports: [], unnoticed: false })
    const fresh = `fresh-${end}-${starts + 1}`
    this.gateway(end, {
      machine:
        disk === undefined
          ? initialState(machine.role, LIMITS, fresh)
          : restoredState(disk, machine.role, LIMITS, fresh),
      pool: [],
      batches: [],
      synced: disk,
      unsynced: undefined,
      writing: [],
      starts: starts + 1,
    })
    this.tellFacts(end)
  }

  tellFacts(end: End): void {
    const java = siteKind(end, this.rules) === 'java'
    const confirmation = java ? 'inferred' : 'total'
    this.event(end, { type: 'siteFacts', confirmation, restartsNumbering: java, nowMs: 0 })
  }

  /** Both streams end, and the session after begins at the other site. */
  swapRoles(): void {
    this.disconnect()
    for (const end of ENDS) {
      for (const { stream } of this.world.sites[end].open) this.closeStream(end, stream)
    }
    for (const end of ENDS) {
      const { machine, starts } = this.world.gateways[end]
      const freshLineage = `swap-${end}-${starts}-${this.world.faults}`
      this.event(end, { type: 'session', role: otherEnd(machine.role), freshLineage, nowMs: 0 })
    }
  }

  dropByBound(end: End): void {
    const [unit, ...pool] = this.world.gateways[end].pool
    if (unit === undefined) return
    this.gateway(end, { pool })
    this.#send(end, { type: 'dropThrough', unit })
  }

  /** Both devices give one more batch's worth of keys. */
  moreKeys(): void {
    const unit = UNITS[this.rules.units + this.world.late]
    if (unit === undefined) return
    this.world = { ...this.world, late: this.world.late + 1 }
    for (const end of ENDS) this.gateway(end, { pool: [...this.world.gateways[end].pool, unit].sort() })
    for (const end of ENDS) this.form(end)
  }

  accept(end: End): void {
    this.world = { ...this.world, accepted: this.world.accepted + 1, verifiedSince: [] }
    this.event(end, { type: 'acceptDivergence', nowMs: 0 })
  }

  fault(): this {
    this.world = { ...this.world, faults: this.world.faults + 1 }
    return this
  }
}

export function initialWorld(rules: Rules): World {
  const gateway = (role: End): Gateway => ({
    machine: initialState(role, LIMITS, `fresh-${role}`),
    pool: UNITS.slice(0, rules.units),
    batches: [],
    synced: undefined,
    unsynced: undefined,
    writing: [],
    starts: 0,
  })
  const site: SiteAgent = {
    ...{ store: [], sessions: [], open: [], reports: [] },
    ...{ streams: 0, restarts: 0, unnoticed: false, stalled: false },
  }
  const actor = new Actor(
    {
      gateways: { left: gateway('left'), right: gateway('right') },
      sites: { left: site, right: site },
      connected: false,
      channels: { left: [], right: [] },
      ...{ faults: 0, late: 0, accepted: 0, verifiedSince: [] },
      protocolError: undefined,
    },
    rules,
  )
  for (const end of ENDS) {
    actor.tellFacts(end)
    actor.openStream(end)
  }
  return actor.world
}
