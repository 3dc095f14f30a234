import { Option, type Command } from 'commander'
import type { CliEnvironment } from './environment.js'
import { addStandinDummy } from './standin-dummy.js'
import { addStandinSiteAgent } from './standin-site-agent.js'

/** `qkd-gw standin …`: the built-in stand-ins as processes of their own, for demonstrations and for trying things out. */
export function addStandinCommand(program: Command, env: CliEnvironment): void {
  const standin = program
    .command('standin')
    .description('run a stand-in on loopback: an SSH server, a SiteAgent or a Dummy device')
  standin
    .command('sshd')
    .description('an SSH server that grants reverse tunnels; says what happens in JSON lines, takes faults on stdin')
    .option('--port <port>', 'port to listen on, 0 for a free one', Number, 0)
    .option('--user <name>', 'the one user it lets in', 'qkd')
    .requiredOption('--authorized-keys <file>', 'public keys it lets in, as in an authorized_keys file')
    .option('--host-key <file>', 'private host key, made where it is not there')
    .addOption(
      new Option('--gateway-ports <mode>', 'as in sshd_config')
        .choices(['no', 'yes', 'clientspecified'] as const)
        .default('clientspecified' as const),
    )
    .addHelpText('after', '\nCommands on stdin: cut, freeze, thaw, refuse, grant, quit.\n')
    .action(
      async (options: {
        port: number
        user: string
        authorizedKeys: string
        hostKey?: string
        gatewayPorts: 'no' | 'yes' | 'clientspecified'
      }) => {
        const { runSshdProcess } = await import('../standin/process-sshd.js')
        await runSshdProcess(
          {
            port: options.port,
            user: options.user,
            authorizedKeyFile: options.authorizedKeys,
            gatewayPorts: options.gatewayPorts,
            ...(options.hostKey === undefined ? {} : { hostKeyFile: options.hostKey }),
          },
          env,
        )
      },
    )
  addStandinSiteAgent(standin, env)
  addStandinDummy(standin, env)
}
