/** Two labs with a link between them: the left one behind Debian's sshd, the right one behind the embedded one. */
import { startCCoreSiteAgent, startNode, type CCoreSiteAgent } from './c-core-site-agent.js'
import {
  startDebianSshd,
  startEmbeddedSshd,
  startGateway,
  startUnit,
  type DebianSshd,
  type GatewayProcess,
  type Unit,
} from './lab.js'

export interface TwoSites {
  /** The word from which both units make their keys. */
  readonly pair: string
  readonly units: readonly [Unit, Unit]
  /** Of the left site. */
  readonly ssh: DebianSshd
  readonly agents: readonly [CCoreSiteAgent, CCoreSiteAgent]
  readonly gateways: readonly [GatewayProcess, GatewayProcess]
}

/** Both sites registered, the link started, and at least one key at each SiteAgent. `rate`: frames a second. */
export async function startTwoSites(
  options: { rate?: number; logLevel?: string; flags?: readonly string[] } = {},
): Promise<TwoSites> {
  const { rate = 20, logLevel = 'info', flags = [] } = options
  const pair = `pair-${process.pid}-${Date.now()}`
  const [unitA, unitB, sshA, sshB, agentA, agentB] = await Promise.all([
    startUnit({ pair, rate }),
    startUnit({ pair, rate }),
    startDebianSshd(),
    startEmbeddedSshd(),
    startCCoreSiteAgent(),
    startCCoreSiteAgent(),
  ])
  const a = startGateway({ device: unitA.path, side: 'alice', ssh: sshA, siteAgent: agentA.address, logLevel, flags })
  const b = startGateway({ device: unitB.path, side: 'bob', ssh: sshB, siteAgent: agentB.address, logLevel, flags })
  await Promise.all([a.untilPart('registration', 'registered'), b.untilPart('registration', 'registered')])
  await startNode(agentA.address, agentB.address, [a.id, b.id])
  await Promise.all([agentA.untilKeys(1), agentB.untilKeys(1)])
  return { pair, units: [unitA, unitB], ssh: sshA, agents: [agentA, agentB], gateways: [a, b] }
}

/** The sum over everything that became of the keys which the device gave. */
export function accountedFor(counts: Readonly<Record<string, unknown>>): number {
  const dropped = Object.values(counts['dropped'] as Record<string, number>).reduce((sum, keys) => sum + keys, 0)
  return Number(counts['delivered']) + Number(counts['held']) + Number(counts['sacrificed']) + dropped
}
