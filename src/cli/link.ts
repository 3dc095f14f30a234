import type { Command } from 'commander'
import { GatewayError } from '../base/errors.js'
import type { CliEnvironment } from './environment.js'
import type { AuditFlags } from './link-audit.js'

function seconds(text: string): number {
  const value = Number(text)
  if (!Number.isFinite(value) || value < 0 || text.trim() === '') {
    throw new GatewayError('E_USAGE', `--wait ${text}: a number of seconds is wanted`)
  }
  return value
}

const auditHelp = `
What a site may be named by, the first that fits:
  a state folder       the gateway that runs with it, or the journal that it left
  a control socket     <id>.sock in a state folder
  a journal            <id>.journal, also a copy from another machine
  a device id          of a gateway that runs on this machine (see --state-folder)
  host:port            a SiteAgent; only its totals and --spend-key can then tell

Gateways that run are looked at until both were seen at the same batch, for --wait seconds at most.
Exit codes: 0 the sites agree, 11 it cannot be told now (owed, on its way, unknown, unreachable), 13 the keys differ.
`

/** `qkd-gw link`: what the two ends of a link hold, and what to do where they differ. */
export function addLinkCommand(program: Command, env: CliEnvironment): void {
  const link = program.command('link').description('what the two ends of a link hold, and what to do where they differ')
  link
    .command('audit')
    .description('say in one line whether the two sites of a link hold the same keys')
    .argument('<siteA>', "one end's gateway, journal or SiteAgent, see below")
    .argument('<siteB>', 'the same of the other end')
    .option('--json', 'for machines: {"verdict", "sentence", "firstDifferingKey", "keys", "spentKey", "sites"}')
    .option('--spend-key', 'take one key at the first SiteAgent and the same one at the second, and compare them')
    .option('--site-agents <A,B>', 'host:port of both SiteAgents, where no running gateway knows them')
    .option('--wait <seconds>', 'how long to look again while keys are on their way', seconds, 5)
    .option('--state-folder <folder>', 'where gateways are looked for by their ids (default: as for attach)')
    .addHelpText('after', auditHelp)
    .action(async (siteA: string, siteB: string, flags: AuditFlags) => {
      const { runAudit } = await import('./link-audit.js')
      const { defaultStateFolder } = await import('../gateway/state-folder.js')
      await runAudit([siteA, siteB], flags, flags.stateFolder ?? defaultStateFolder(env.env), env)
    })
  link
    .command('accept-divergence')
    .description('let keys flow again although the two stores have parted; both sites drop what is unsettled')
    .option('--state-folder <folder>', 'the state folder of the gateway (default: as for attach)')
    .requiredOption('--id <device id>', 'the gateway of this device')
    .action(async (flags: { stateFolder?: string; id: string }) => {
      const { askGateway, statusSocketPath } = await import('../gateway/status-socket.js')
      const { defaultStateFolder } = await import('../gateway/state-folder.js')
      const folder = flags.stateFolder ?? defaultStateFolder(env.env)
      await askGateway(statusSocketPath(folder, flags.id), { request: 'acceptDivergence' })
      env.stdout.write('accepted: keys flow again once both gateways are connected\n')
    })
}
