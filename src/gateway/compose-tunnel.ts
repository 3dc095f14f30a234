import type { Logger } from '../observe/log.js'
import type { ProbeSelf } from '../tunnel/contract.js'
import type { ListenerWay, TunnelOptions, TunnelTimings } from '../tunnel/options.js'
import type { HostProcess } from './host.js'
import { partLog } from './narrate.js'
import { terminalPrompt } from './passphrase.js'
import type { KeptPort } from './kept-port.js'
import type { Plan, TunnelPlan } from './plan.js'

function timings(plan: Plan): Partial<TunnelTimings> {
  const { probeIntervalMs, fastRetriesMs, retryFirstMs, retryMaxMs } = plan.config.tunnel ?? {}
  return {
    ...(probeIntervalMs === undefined ? {} : { probeIntervalMs }),
    ...(fastRetriesMs === undefined ? {} : { fastRetriesMs }),
    ...(retryFirstMs === undefined ? {} : { retryFirstMs }),
    ...(retryMaxMs === undefined ? {} : { retryMaxMs }),
  }
}

/** What the tunnel is told. */
export function tunnelOptions(
  plan: Plan,
  tunnel: TunnelPlan,
  probe: ProbeSelf,
  host: HostProcess,
  log: Logger,
  kept: KeptPort,
): TunnelOptions {
  const section = plan.config.tunnel ?? {}
  const ways: ListenerWay[] = ['wait']
  if (section.portPool !== undefined) ways.push('pool')
  if (section.anyPort === true) ways.push('any-port')
  return {
    server: tunnel.server,
    backend: section.backend ?? 'auto',
    identityFiles: tunnel.identityFiles,
    agent: section.agent === false ? undefined : host.env['SSH_AUTH_SOCK'],
    knownHostsFiles: tunnel.knownHostsFiles,
    pinnedFingerprints: section.fingerprints ?? [],
    remoteListen: tunnel.remoteListen,
    controlAddress: tunnel.controlAddress,
    innerTarget: tunnel.innerTarget,
    requirePostQuantum: section.requirePostQuantum ?? false,
    spareConnection: section.spareConnection ?? false,
    jump: tunnel.jump,
    proxy: section.proxy,
    ways,
    portPool: section.portPool ?? [],
    lastPort: kept.port,
    mayChangePort: () => kept.port === undefined,
    timings: timings(plan),
    probe,
    prompt: terminalPrompt(host),
    clock: host.clock,
    random: host.random,
    log: partLog(log, 'tunnel'),
  }
}
