/** Everything that can happen in a world. */
import { linkBlocked } from '../../../src/link/agreement/delivery.js'
import { nextTickMs } from '../../../src/link/agreement/machine.js'
import { type End, ENDS, type FaultName, type Rules, siteKind, type World } from './parts.js'
import * as siteAgent from './site-agent.js'
import { Actor } from './world.js'

export interface Action {
  readonly name: string
  readonly fault: boolean
  run(): World
}

export function actionsOf(world: World, rules: Rules): Action[] {
  const actions: Action[] = []
  const add = (name: string, run: (actor: Actor) => void, fault = false): void => {
    actions.push({
      name,
      fault,
      run() {
        const actor = new Actor(world, rules)
        run(fault ? actor.fault() : actor)
        return actor.world
      },
    })
  }
  if (!world.connected) add('connect', (actor) => actor.connect())
  for (const end of ENDS) courseOfThings(world, rules, end, add)
  if (actions.length === 0) afterRest(world, rules, add)
  // Nothing goes wrong any more once the last keys have come: what was wrong must show then.
  if (world.faults < rules.maxFaults && world.late === 0) faults(world, rules, add)
  return actions
}

type Add = (name: string, run: (actor: Actor) => void, fault?: boolean) => void

function courseOfThings(world: World, rules: Rules, end: End, add: Add): void {
  const site = world.sites[end]
  const gateway = world.gateways[end]
  if (world.channels[end].length > 0) add(`${end} receives`, (actor) => actor.receive(end))
  if (site.stalled) add(`${end} SiteAgent reads again`, (actor) => siteAgent.stall(actor, end, false))
  for (const { stream, wire } of site.open) {
    if (wire.length > 0 && !site.stalled) {
      add(`${end} SiteAgent takes in`, (actor) => siteAgent.takeIn(actor, end, stream))
    }
  }
  if (site.reports.length > 0) add(`${end} SiteAgent's total arrives`, (actor) => siteAgent.report(actor, end))
  if (gateway.writing.length > 0) add(`${end} journal written`, (actor) => actor.journalled(end))
  // A SiteAgent that has forgotten the device cannot ask it for keys.
  const known = !site.unnoticed || rules.lateNotice === true
  if (site.open.length === 0 && known) add(`${end} SiteAgent asks for keys`, (actor) => actor.openStream(end))
  if (site.unnoticed) add(`${end} SiteAgent's restart is noticed`, (actor) => siteAgent.restartNoticed(actor, end))
  const timely = rules.timelyReports && siteKind(end, rules) !== 'java'
  const reportsPending = site.reports.length > 0 || site.open.some(({ wire }) => wire.length > 0)
  if (nextTickMs(gateway.machine) !== undefined && !(timely && reportsPending)) {
    add(`${end} settle time is over`, (actor) => actor.tick(end))
  }
}

/** What people do where nothing goes on by itself. */
function afterRest(world: World, rules: Rules, add: Add): void {
  const left = ENDS.map((end) => world.gateways[end].machine).find(({ role }) => role === 'left')
  if (left !== undefined && linkBlocked(left)?.includes('start the link again') === true) {
    add('the link is started again', (actor) => {
      for (const end of ENDS) actor.openStream(end)
    })
    return
  }
  const parted = ENDS.filter((end) => world.gateways[end].machine.diverged !== undefined)
  if (world.accepted < (rules.acceptances ?? 0)) {
    for (const end of parted) add(`the operator accepts at the ${end} site`, (actor) => actor.accept(end))
    if (parted.length > 0) return
  }
  if (world.late < rules.lateUnits) add('more keys come', (actor) => actor.moreKeys())
}

function faults(world: World, rules: Rules, add: Add): void {
  const may = (fault: FaultName): boolean => rules.faults.includes(fault)
  if (world.connected && may('disconnect')) add('connection lost', (actor) => actor.disconnect(), true)
  if (may('swapRoles')) add('the session begins at the other site', (actor) => actor.swapRoles(), true)
  if (may('crashBothSites')) add('both SiteAgents die', (actor) => siteAgent.crashBoth(actor), true)
  for (const end of ENDS) {
    const site = world.sites[end]
    const gateway = world.gateways[end]
    for (const { stream } of site.open) {
      if (may('cancel')) add(`${end} SiteAgent cancels`, (actor) => actor.closeStream(end, stream), true)
    }
    if (site.open.length > 0 && may('replace')) {
      add(`${end} SiteAgent asks once more`, (actor) => actor.openStream(end), true)
    }
    if (site.open.length > 0 && !site.stalled && may('stall')) {
      add(`${end} SiteAgent reads nothing`, (actor) => siteAgent.stall(actor, end, true), true)
    }
    if (may('crashGateway') || may(end === 'left' ? 'crashLeftGateway' : 'crashRightGateway')) {
      add(`${end} gateway dies`, (actor) => actor.crashGateway(end, false), true)
      if (gateway.unsynced !== undefined) {
        add(`${end} gateway dies after its disk caught up`, (actor) => actor.crashGateway(end, true), true)
      }
    }
    if (may('crashSite')) add(`${end} SiteAgent dies`, (actor) => siteAgent.crash(actor, end), true)
    if (may('crashDevice') && gateway.pool.length > 0) {
      add(`${end} device dies`, (actor) => actor.gateway(end, { pool: [] }), true)
    }
    if (may('dropByBound') && gateway.pool.length > 0) {
      add(`${end} gateway drops its oldest keys`, (actor) => actor.dropByBound(end), true)
    }
    if (may('interruptReports')) {
      add(`${end} reports are interrupted`, (actor) => siteAgent.interruptReports(actor, end), true)
    }
  }
}
