/** The back end `openssh`: the system's ssh. Its configuration, agents, certificates and key exchanges; originators hidden. */
import { join } from 'node:path'
import { withDeadline } from '../base/clock.js'
import type { Identities } from './identities.js'
import type { LinkTaker, TunnelBackend, TunnelLink } from './link.js'
import { controlPath, rememberedAbility } from './openssh-command.js'
import { OpensshControl } from './openssh-control.js'
import { OpensshLink } from './openssh-link.js'
import { OpensshProcess } from './openssh-process.js'
import { prepareOpenssh, serverAddressOf, untilAuthenticated } from './openssh-session.js'
import type { TunnelOptions, TunnelTimings } from './options.js'
import { DEFAULT_MAX_CONNECTIONS } from './ssh2-backend.js'

export function createOpensshBackend(
  options: TunnelOptions,
  timings: TunnelTimings,
  identities: () => Promise<Identities>,
): TunnelBackend {
  const { server, clock } = options
  const ability = rememberedAbility(options.sshProgram ?? 'ssh')
  return {
    name: 'openssh',
    knowsOriginators: false,
    async connect(taker: LinkTaker, signal: AbortSignal): Promise<TunnelLink> {
      const session = await prepareOpenssh(options, timings, await identities(), ability, signal)
      const socketPath = join(session.folder, 'c')
      const own = ['-M', '-S', controlPath(socketPath), '-o', 'ControlPersist=no']
      const args = [...own, ...session.args, '-v', '-N', '--', server.host]
      const ssh = OpensshProcess.background(session.program, args, clock, session.env)
      const { keyExchange, postQuantum } = await untilAuthenticated(ssh, session, options, timings, signal)
      try {
        const what = 'the control socket of ssh'
        await withDeadline(
          clock,
          timings.forwardTimeoutMs,
          what,
          () => ssh.until((facts) => facts.controlReady),
          signal,
        )
      } catch (error) {
        ssh.kill()
        throw error
      }
      return new OpensshLink({
        ssh,
        control: new OpensshControl(session.program, socketPath, clock),
        folder: session.folder,
        keyExchange,
        postQuantum,
        address: serverAddressOf(ssh.facts, options),
        taker,
        maxConnections: options.maxForwardedConnections ?? DEFAULT_MAX_CONNECTIONS,
        timings,
        clock,
      })
    },
  }
}
