import type { Command } from 'commander'
import { EXIT } from '../base/error-codes.js'
import type { CheckStep } from '../tunnel/check-step.js'
import type { CliEnvironment } from './environment.js'
import { declareTunnelFlags, type TunnelFlags } from './tunnel-flags.js'
import { addServerConfigCommand } from './tunnel-server-config.js'
import { addTrustCommand } from './tunnel-trust.js'

const MARKS = { ok: 'ok', doubtful: 'look', failed: 'FAILED', skipped: '-' } as const

/** The steps as a table; a remedy stands under what it mends. */
export async function renderCheck(steps: readonly CheckStep[]): Promise<string> {
  const { default: Table } = await import('cli-table3')
  const { default: pc } = await import('picocolors')
  const paint = { ok: pc.green, doubtful: pc.yellow, failed: pc.red, skipped: pc.dim }
  // Its own colours would go into a file as well.
  const style = { head: [], border: [] }
  const table = new Table({ head: ['step', '', 'found'], colWidths: [25, 8, 84], wordWrap: true, style })
  for (const step of steps) {
    const remedy = step.remedy === undefined ? '' : `\n→ ${step.remedy}`
    table.push([step.name, paint[step.result](MARKS[step.result]), `${step.found}${remedy}`])
  }
  return `${table.toString()}\n`
}

interface CheckFlags extends TunnelFlags {
  json?: boolean
}

/** `qkd-gw tunnel`: everything about the SSH server without attaching a device. */
export function addTunnelCommand(program: Command, env: CliEnvironment): void {
  const tunnel = program.command('tunnel').description('the reverse tunnel: trust a server, set it up, check it')
  addTrustCommand(tunnel, env)
  addServerConfigCommand(tunnel, env)
  const check = tunnel
    .command('check')
    .description('walk from the name of the server to a proven listener and say what would mend what fails')
    .argument('[user@host[:port]]', 'the server (default: from the configuration)')
  declareTunnelFlags(check)
    .option('--json', 'for machines: {"ok": …, "steps": [...]}')
    .addHelpText('after', '\nExit codes: 0 nothing failed, 11 a step failed.\n')
    .action(async (server: string | undefined, flags: CheckFlags) => {
      const { checkOptions } = await import('./tunnel-flags.js')
      const { checkTunnel } = await import('../tunnel/check.js')
      const steps = await checkTunnel(await checkOptions(server, flags, env), env.signal)
      const ok = steps.every((step) => step.result !== 'failed')
      env.stdout.write(flags.json === true ? `${JSON.stringify({ ok, steps }, null, 2)}\n` : await renderCheck(steps))
      if (!ok) env.setExitCode(EXIT.checkFailed)
    })
  tunnel
    .command('reconnect')
    .description('have running gateways try their tunnel again now')
    .option('--state-folder <folder>', 'the state folder of the gateway (default: as for attach)')
    .addHelpText('after', '\nExit codes: 0 at least one gateway was told, 12 none runs.\n')
    .action(async (flags: { stateFolder?: string }) => {
      const { GatewayError } = await import('../base/errors.js')
      const { askGateway, statusSockets } = await import('../gateway/status-socket.js')
      const { defaultStateFolder } = await import('../gateway/state-folder.js')
      const folder = flags.stateFolder ?? defaultStateFolder(env.env)
      let told = 0
      for (const path of statusSockets(folder)) {
        try {
          await askGateway(path, { request: 'kick' })
          told += 1
        } catch {
          // A socket whose process is gone.
        }
      }
      if (told === 0) {
        throw new GatewayError('E_NOT_RUNNING', `no gateway runs with the state folder ${folder}`, {
          remedy: 'start one with qkd-gw attach, or name its folder with --state-folder',
        })
      }
      env.stdout.write(`told ${told} gateway${told === 1 ? '' : 's'} to try again\n`)
    })
}
