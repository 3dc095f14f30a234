/** What keeps the link of one gateway up without a hand, where `link.keepUp` asks for it. */
import type { Clock } from '../base/clock.js'
import { GatewayError } from '../base/errors.js'
import { parseHostPort, type HostPort } from '../base/host-port.js'
import type { Random } from '../base/random.js'
import type { AgreedLink } from '../link/link.js'
import type { Logger } from '../observe/log.js'
import type { Channel } from '../rpc/channel.js'
import type { Site } from '../site/contract.js'
import { LinkKeeper, type KeeperEvent, type KeptEnd } from '../site/link-keeper.js'
import { StaticKeeper } from '../site/static-keeper.js'
import type { Config } from './config/schema.js'
import { partLog } from './narrate.js'

export interface KeeperParts {
  readonly section: NonNullable<Config['link']>['keepUp']
  readonly site: Site | undefined
  readonly link: Pick<AgreedLink, 'isSettling' | 'linkStatus'>
  /** Whether the control address is proven: a SiteAgent that cannot reach the device starts in vain. */
  readonly reached: () => boolean
  readonly openSiteAgent: (address: HostPort) => Promise<Channel>
  /** Reaches a device at its control address. */
  readonly openDevice: (controlAddress: string) => Promise<Channel>
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
}

export interface Keeper {
  /** Until `signal` aborts. Never rejects. */
  run(signal: AbortSignal): Promise<void>
}

/** Undefined where nothing is to be kept up. Throws E_CONFIG for a static link without a SiteAgent. */
export function composeKeeper(parts: KeeperParts): Keeper | undefined {
  const { section, site, link, clock, random } = parts
  if (section === undefined) return undefined
  const log = parts.log.child({ part: 'keepUp' })
  const common = {
    clock,
    random,
    onEvent: (event: KeeperEvent) => log[event.event === 'failed' ? 'warn' : 'info'](event.message),
    maySettle: () => !link.isSettling(),
    ownLacks: () => (parts.reached() ? undefined : 'our own control address is not proven'),
  }
  const registerAnew = section.static === true ? anewAt(site) : undefined
  // As a site's own checker sees it: a session whose WaitForSession was cut counts for none.
  const runs = (): boolean => link.linkStatus.value.state === 'sessionStarted'
  const { leftSite, leftId, rightSite, rightId } = section
  if (leftSite === undefined || leftId === undefined || rightSite === undefined || rightId === undefined) {
    // The schema has seen to it that only a static link may do without them.
    return new StaticKeeper({ ...common, site: anewAt(site), own: () => (runs() ? 'running' : 'waiting') })
  }
  const end = (text: string, deviceId: string): KeptEnd => {
    const address = parseHostPort(text, 'link.keepUp')
    return { address, deviceId, openChannel: () => parts.openSiteAgent(address) }
  }
  return new LinkKeeper({
    ...common,
    left: end(leftSite, leftId),
    right: end(rightSite, rightId),
    log: partLog(parts.log, 'keepUp'),
    own: () => (runs() ? 'running' : registerAnew === undefined ? 'stopped' : 'waiting'),
    ...(registerAnew === undefined ? {} : { registerAnew: () => registerAnew.registerAnew() }),
    openDevice: parts.openDevice,
  })
}

function anewAt(site: Site | undefined): Site {
  if (site !== undefined) return site
  throw new GatewayError('E_CONFIG', 'link.keepUp: a static link needs a SiteAgent', {
    remedy: 'give one with --site-agent host:port, or leave link.keepUp out',
  })
}
